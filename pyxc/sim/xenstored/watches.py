# SPDX-License-Identifier: MIT
"""Requests about watches."""

from __future__ import annotations

import errno

from pyxc.sim.xenstored.request import OK, Refused, Request, answers
from pyxc.store.features import StoreFeature
from pyxc.store.wire import RELATIVE_MOST, Kind


@answers(Kind.WATCH)
def watch(request: Request) -> bytes:
    path, token, *depths = request.strings(2)
    depth = request.number(depths[0]) if depths else None
    if len(depths) > bool(request.features & StoreFeature.WATCHDEPTH) or (depth or 0) < 0:
        raise Refused(errno.EINVAL)
    if path.startswith("@"):
        if len(path) > RELATIVE_MOST:
            raise Refused(errno.EINVAL)
    else:
        request.path(path)
    session = request.session
    if session.watched(path, token):
        raise Refused(errno.EEXIST)
    if request.exceeds("watches", len(session.watches)):
        raise Refused(errno.E2BIG)
    session.watch(path, token, depth)
    return OK


@answers(Kind.UNWATCH)
def unwatch(request: Request) -> bytes:
    if not request.session.unwatch(*_path_and_token(request)):
        raise Refused(errno.ENOENT)
    return OK


def _path_and_token(request: Request) -> tuple[str, str]:
    strings = request.strings(2)
    if len(strings) != 2:
        raise Refused(errno.EINVAL)
    return strings[0], strings[1]


@answers(Kind.RESET_WATCHES)
def reset_watches(request: Request) -> bytes:
    request.session.reset()
    return OK
