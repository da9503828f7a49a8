# SPDX-License-Identifier: MIT
"""What guests may have and use of xenstored, and the requests about that, which Xen has since 4.22."""

from __future__ import annotations

import errno
import re

from pyxc.sim.xenstored.daemon import FEATURES
from pyxc.sim.xenstored.request import OK, Refused, Request, answers
from pyxc.store.wire import Kind, join

_DOMID = re.compile(r"[0-9]+")


@answers(Kind.GET_FEATURE)
def get_feature(request: Request) -> bytes:
    words = request.strings(0)
    if not words:
        return _text(request.features)
    if request.session.guest:
        raise Refused(errno.EACCES)
    if len(words) > 1:
        raise Refused(errno.EINVAL)
    return _text(request.server.limits.of(_existing(request, words[0])).features)


@answers(Kind.SET_FEATURE)
def set_feature(request: Request) -> bytes:
    words = _words(request, 2, 2)
    domid, features = _existing(request, words[0]), request.number(words[1])
    if request.server.is_introduced(domid):
        raise Refused(errno.EBUSY)
    if features & ~int(FEATURES):
        raise Refused(errno.EINVAL)
    request.server.limits.of(domid).features = features
    return OK


@answers(Kind.GET_QUOTA)
def get_quota(request: Request) -> bytes:
    words = _words(request, 0, 2)
    limits = request.server.limits
    if not words:
        return join([" ".join(limits.common).encode()])
    quotas = limits.common if len(words) == 1 else limits.of(_existing(request, words[0])).quotas
    if words[-1] not in quotas:
        raise Refused(errno.EINVAL)
    return _text(quotas[words[-1]])


@answers(Kind.SET_QUOTA)
def set_quota(request: Request) -> bytes:
    *which, name, value = _words(request, 2, 3)
    limits = request.server.limits
    quotas = limits.of(_existing(request, which[0])).quotas if which else limits.common
    if name not in quotas:
        raise Refused(errno.EINVAL)
    quotas[name] = request.number(value)
    return OK


def _words(request: Request, least: int, most: int) -> list[str]:
    words = request.strings(least)
    if len(words) > most:
        raise Refused(errno.EINVAL)
    return words


def _existing(request: Request, text: str) -> int:
    """The id of an existing domain, introduced or not. Refused: EINVAL, ENOENT."""
    if not _DOMID.fullmatch(text) or int(text) > 0xFFFF:
        raise Refused(errno.EINVAL)
    if not request.server.host.exists(int(text)):
        raise Refused(errno.ENOENT)
    return int(text)


def _text(number: int) -> bytes:
    return b"%d\0" % number
