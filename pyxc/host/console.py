# SPDX-License-Identifier: MIT
"""The hypervisor's console ring, where its messages are kept."""

from __future__ import annotations

import errno

from pyxc import answers, errors
from pyxc.abi import sysctl
from pyxc.abi.operation import Operation
from pyxc.host.host import Host

_ROOM = 1 << 14
_MOST_ROOM = 1 << 26
_COUNTER = 2**32


class Console:
    """The ring that `xl dmesg` shows (sysctl readconsole, public/sysctl.h). Threads: safe to share."""

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def read(self) -> bytes:
        """Everything in the ring since it was last cleared."""
        return self._whole()[0] if self._starts_over else self._drain(None)[0]

    def clear(self) -> bytes:
        """Read the ring, and clear it for all readers."""
        pieces = []
        while True:
            data, _ = self._read(sysctl.READCONSOLE_CLEAR, _ROOM)
            pieces.append(data)
            if len(data) < _ROOM:
                return b"".join(pieces)

    def read_from(self, index: int | None = None) -> tuple[bytes, int]:
        """The messages since `index`, and the next index. None starts at the oldest message.

        Unsupported before Xen 3.2, which has no index.
        """
        if not self._starts_over:
            return self._drain(index)
        data, end = self._whole()
        if end is None:
            hint = "reading from an index exists since Xen 3.2"
            raise errors.Unsupported(errno.ENOSYS, sysctl.READCONSOLE.full_name, hint=hint)
        new = len(data) if index is None else min(len(data), (end - index) % _COUNTER)
        return data[len(data) - new :], end

    @property
    def _starts_over(self) -> bool:
        """Whether reading always starts at the oldest: before 3.2 there is no index, before 4.0 it is
        ignored."""
        return self._xen.interface.xen < (4, 0)

    def _drain(self, index: int | None) -> tuple[bytes, int]:
        """Everything from an index, piece by piece."""
        pieces = []
        while True:
            fields = {} if index is None else {"incremental": 1, "index": index}
            data, end = self._read(sysctl.READCONSOLE, _ROOM, **fields)
            assert end is not None
            index = end
            pieces.append(data)
            if len(data) < _ROOM:
                return b"".join(pieces), index

    def _whole(self) -> tuple[bytes, int | None]:
        """Everything in one call, with a large enough buffer."""
        room = _ROOM
        while True:
            data, end = self._read(sysctl.READCONSOLE, room)
            if len(data) < room:
                return data, end
            room = answers.number("size of the ring", room * 2, _MOST_ROOM)

    def _read(self, operation: Operation, room: int, **fields: int) -> tuple[bytes, int | None]:
        """One call: the text, and the next index if there is one."""
        reply = self._xen.call(operation, **fields, buffer=room, count=room)
        count = reply.field("count")
        if count > room:
            raise errors.DecodeError(f"the hypervisor reports {count} characters in a buffer of {room}")
        return reply.buffers["buffer"][:count], reply.fields().get("index")

    def __repr__(self) -> str:
        return f"<Console of {self._xen.link.target}>"
