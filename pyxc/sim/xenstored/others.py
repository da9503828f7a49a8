# SPDX-License-Identifier: MIT
"""Requests about watches, transactions, domains and the daemon itself."""

from __future__ import annotations

import errno

from pyxc.sim.xenstored.request import OK, Refused, Request, answers
from pyxc.store.wire import RELATIVE_MOST, Kind

_WATCHES_MOST = 128
_TRANSACTIONS_MOST = 10
"""Limits for what is not dom0."""
_COMMANDS = ("check", "print\t<string>", "help")


@answers(Kind.WATCH)
def watch(request: Request) -> bytes:
    path, token = _path_and_token(request)
    if path.startswith("@"):
        if len(path) > RELATIVE_MOST:
            raise Refused(errno.EINVAL)
    else:
        request.path(path)
    session = request.session
    if session.watched(path, token):
        raise Refused(errno.EEXIST)
    if session.guest and len(session.watches) > _WATCHES_MOST:
        raise Refused(errno.E2BIG)
    session.watch(path, token)
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


@answers(Kind.TRANSACTION_START)
def transaction_start(request: Request) -> bytes:
    session = request.session
    if request.transaction is not None:
        raise Refused(errno.EBUSY)
    if session.guest and len(session.transactions) > _TRANSACTIONS_MOST:
        raise Refused(errno.ENOSPC)
    return b"%d\0" % session.begin()


@answers(Kind.TRANSACTION_END)
def transaction_end(request: Request) -> bytes:
    wanted = request.only()
    if wanted not in ("T", "F"):
        raise Refused(errno.EINVAL)
    if request.transaction is None:
        raise Refused(errno.ENOENT)
    request.session.forget(request.transaction)
    if wanted == "T":
        if request.transaction.conflicts():
            raise Refused(errno.EAGAIN)
        for path, exact, before in request.transaction.commit():
            request.server.fire(path, exact, *(() if before is None else (before,)))
    return OK


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


@answers(Kind.CONTROL)
def control(request: Request) -> bytes:
    command, *parameters = request.strings(1)
    if command == "help" and not parameters:
        return "\n".join(_COMMANDS).encode() + b"\0"
    if command == "check" or (command == "print" and parameters):
        return OK
    raise Refused(errno.EINVAL)
