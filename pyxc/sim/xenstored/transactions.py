# SPDX-License-Identifier: MIT
"""Requests that begin and end transactions."""

from __future__ import annotations

import errno

from pyxc.sim.xenstored.request import OK, Refused, Request, answers
from pyxc.store.wire import Kind


@answers(Kind.TRANSACTION_START)
def transaction_start(request: Request) -> bytes:
    session = request.session
    if request.transaction is not None:
        raise Refused(errno.EBUSY)
    if request.exceeds("transactions", len(session.transactions)):
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
