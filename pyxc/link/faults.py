# SPDX-License-Identifier: MIT
"""Makes a link fail on purpose, for tests of programs that must live with failures."""

from __future__ import annotations

import ctypes
from array import array
from typing import NamedTuple

from pyxc._core import ForeignMap, Pool
from pyxc.abi.operation import DOMCTL, MULTICALL, SYSCTL, Operation
from pyxc.link import Link


class _Fault(NamedTuple):
    hypercall: int
    command: int | None
    errno: int


class FaultLink:
    """A link that lets chosen calls fail before they reach the hypervisor. Of one thread."""

    def __init__(self, inner: Link) -> None:
        self._inner = inner
        self._faults: list[_Fault] = []
        self.target = inner.target
        self.byteorder = inner.byteorder
        self.store = inner.store
        self.kernel_bits = inner.kernel_bits

    def fail(self, what: Operation | int, errno: int, times: int = 1) -> None:
        """The next `times` calls of an operation, or of a hypercall number, fail with an errno."""
        if isinstance(what, Operation):
            fault = _Fault(what.family.hypercall, what.command, errno)
        else:
            fault = _Fault(what, None, errno)
        self._faults += [fault] * times

    @property
    def pending(self) -> int:
        """Faults that did not happen yet."""
        return len(self._faults)

    @property
    def pool(self) -> Pool:
        return self._inner.pool

    @property
    def maps(self) -> list[ForeignMap]:
        return self._inner.maps

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        command = self._command(op, a1)
        for fault in self._faults:
            if fault.hypercall == op and fault.command in (None, command):
                self._faults.remove(fault)
                return -fault.errno
        return self._inner.hypercall(op, a1, a2, a3, a4, a5)

    def _command(self, op: int, first: int) -> int | None:
        """The command of a call: in the structure for domctl and sysctl, an argument otherwise."""
        if op == MULTICALL:
            return None
        if op in (DOMCTL.hypercall, SYSCTL.hypercall):
            in_arena = any(start <= first < start + size for start, size in self.pool.live())
            return int.from_bytes(ctypes.string_at(first, 4), self.byteorder) if in_arena else None
        return first

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        return self._inner.map_frames(domid, frames, writable)

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        return self._inner.map_resource(domid, kind, ident, first, count, writable)

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        return self._inner.resource_size(domid, kind, ident)

    def close(self) -> None:
        self._inner.close()
