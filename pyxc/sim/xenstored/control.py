# SPDX-License-Identifier: MIT
"""Commands to the daemon itself."""

from __future__ import annotations

import errno

from pyxc.sim.xenstored.request import OK, Refused, Request, answers
from pyxc.store.wire import Kind

_COMMANDS = ("check", "print\t<string>", "help")


@answers(Kind.CONTROL)
def control(request: Request) -> bytes:
    command, *parameters = request.strings(1)
    if command == "help" and not parameters:
        return "\n".join(_COMMANDS).encode() + b"\0"
    if command == "check" or (command == "print" and parameters):
        return OK
    raise Refused(errno.EINVAL)
