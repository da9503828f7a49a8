# SPDX-License-Identifier: MIT
"""Commands to the daemon itself."""

from __future__ import annotations

import errno

from pyxc.sim.xenstored.request import OK, Refused, Request, answers
from pyxc.store.wire import Kind

_COMMANDS = ("check", "print\t<string>", "quota\t<domid>", "help")


@answers(Kind.CONTROL)
def control(request: Request) -> bytes:
    command, *parameters = request.strings(1)
    if command == "help" and not parameters:
        return "\n".join(_COMMANDS).encode() + b"\0"
    if command == "check" or (command == "print" and parameters):
        return OK
    if command == "quota" and len(parameters) == 1:
        return _used(request, request.number(parameters[0]))
    raise Refused(errno.EINVAL)


def _used(request: Request, domid: int) -> bytes:
    """What a domain has of what is limited, of what is simulated. Programs in dom0 are not counted."""
    request.server.introduced(domid)
    sessions = [one for one in request.server.sessions if one.guest and one.domid == domid]
    used = {
        "nodes": request.server.tree.owned_by(domid),
        "watches": sum(len(one.watches) for one in sessions),
        "transactions": sum(len(one.transactions) for one in sessions),
    }
    lines = (f"{name:<16}: {count:8}\n" for name, count in used.items())
    return f"Domain {domid}:\n{''.join(lines)}".encode() + b"\0"
