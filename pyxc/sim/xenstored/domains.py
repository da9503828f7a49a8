# SPDX-License-Identifier: MIT
"""Requests about the domains that use xenstore."""

from __future__ import annotations

import errno

from pyxc.sim.xenstored.request import OK, Refused, Request, answers
from pyxc.store.wire import Kind


@answers(Kind.INTRODUCE)
def introduce(request: Request) -> bytes:
    domid, _, port = (request.number(text) for text in request.strings(3)[:3])
    if port <= 0:
        raise Refused(errno.EINVAL)
    request.server.introduce(domid, port)
    return OK


@answers(Kind.RELEASE)
def release(request: Request) -> bytes:
    request.server.release(_domid(request))
    return OK


@answers(Kind.RESUME)
def resume(request: Request) -> bytes:
    request.server.introduced(_domid(request)).stopped = False
    return OK


def _domid(request: Request) -> int:
    """The domain that a request is about; not dom0. Refused (EINVAL)."""
    domid = request.number(request.only())
    if not domid:
        raise Refused(errno.EINVAL)
    return domid


@answers(Kind.SET_TARGET)
def set_target(request: Request) -> bytes:
    domid, target = (request.number(text) for text in request.strings(2)[:2])
    domain = request.server.introduced(domid)
    request.server.introduced(target)
    domain.target = target
    return OK


@answers(Kind.GET_DOMAIN_PATH)
def get_domain_path(request: Request) -> bytes:
    return b"/local/domain/%d\0" % request.number(request.only())


@answers(Kind.IS_DOMAIN_INTRODUCED)
def is_domain_introduced(request: Request) -> bytes:
    return b"T\0" if request.server.is_introduced(request.number(request.only())) else b"F\0"
