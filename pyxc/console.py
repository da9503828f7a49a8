# SPDX-License-Identifier: MIT
"""The hypervisor's console ring, where its messages are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyxc import errors
from pyxc.abi import sysctl
from pyxc.abi.operation import Operation

if TYPE_CHECKING:
    from pyxc.xen import Xen

_ROOM = 1 << 14


class Console:
    """The ring as `xl dmesg` shows it (sysctl readconsole, public/sysctl.h). Threads: may be used by many."""

    def __init__(self, xen: Xen) -> None:
        self._xen = xen

    def read(self) -> bytes:
        """Everything that is in the ring and was not cleared."""
        return self._drain(sysctl.READCONSOLE, None)[0]

    def clear(self) -> bytes:
        """Read it, and forget what was read: for everybody."""
        return self._drain(sysctl.READCONSOLE_CLEAR, None)[0]

    def read_from(self, index: int | None = None) -> tuple[bytes, int]:
        """What came since `index`, and the index to go on from. None starts at the oldest that is there."""
        return self._drain(sysctl.READCONSOLE, index)

    def _drain(self, operation: Operation, index: int | None) -> tuple[bytes, int]:
        pieces = []
        while True:
            fields = {"incremental": 0} if index is None else {"incremental": 1, "index": index}
            reply = self._xen.call(operation, **fields, buffer=_ROOM, count=_ROOM)
            count = reply.field("count")
            if count > _ROOM:
                raise errors.DecodeError(f"the hypervisor claims {count} characters in room for {_ROOM}")
            index = int(reply.field("index"))
            pieces.append(reply.buffers["buffer"][:count])
            if count < _ROOM:
                return b"".join(pieces), index

    def __repr__(self) -> str:
        return f"<Console of {self._xen.link.target}>"
