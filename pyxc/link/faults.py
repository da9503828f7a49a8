# SPDX-License-Identifier: MIT
"""A link with injected failures, for tests of programs that must handle them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pyxc.abi.operation import DM_OP, DOM0_OP, DOMCTL, MULTICALL, SYSCTL, XSM_OP, Operation
from pyxc.link import Link
from pyxc.link.wrapper import LinkWrapper

_COMMAND_INSIDE = {family.hypercall for family in (DOM0_OP, DOMCTL, SYSCTL, XSM_OP)}


Act = Callable[[], object]
"""An action just before or after a call."""


class _Fault(NamedTuple):
    """A fault of one call: actions before and after it, and its failure if `errno` is not 0."""

    errno: int
    act: Act | None = None
    after: Act | None = None

    def happen(self) -> int:
        if self.act is not None:
            self.act()
        return -self.errno


class _Awaited(NamedTuple):
    hypercall: int
    command: int | None
    fault: _Fault


class FaultLink(LinkWrapper):
    """A link that makes chosen calls fail before they reach the hypervisor, or runs actions around them.

    Threads: one at a time.
    """

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self._awaited: list[_Awaited] = []
        self._positions: dict[int, _Fault] = {}
        self._calls = 0

    def fail(self, what: Operation | int, errno: int, times: int = 1) -> None:
        """Make the next `times` calls of an operation, or of a hypercall number, fail with an errno.

        Operations in a multicall can only fail together, by the number of the multicall.
        """
        self._await(what, _Fault(errno), times)

    def before(self, what: Operation | int, act: Act) -> None:
        """Run an action just before the next call of an operation, or of a hypercall number."""
        self._await(what, _Fault(0, act))

    def after(self, what: Operation | int, act: Act) -> None:
        """Run an action just after the next call of an operation; if it raises, the result is lost.

        Ctrl-C does the same: the kernel delivers a signal when the hypercall is done.
        """
        self._await(what, _Fault(0, after=act))

    def fail_call(self, position: int, errno: int) -> None:
        """Make the hypercall at a position (from 0) among the following ones fail."""
        self._positions[self._calls + position] = _Fault(errno)

    def before_call(self, position: int, act: Act) -> None:
        """Run an action just before the hypercall at a position."""
        self._positions[self._calls + position] = _Fault(0, act)

    def after_call(self, position: int, act: Act) -> None:
        """Run an action just after the hypercall at a position."""
        self._positions[self._calls + position] = _Fault(0, after=act)

    def _await(self, what: Operation | int, fault: _Fault, times: int = 1) -> None:
        if isinstance(what, Operation):
            awaited = _Awaited(what.family.hypercall, what.command, fault)
        else:
            awaited = _Awaited(what, None, fault)
        self._awaited += [awaited] * times

    @property
    def pending(self) -> int:
        """The number of faults that have not happened yet."""
        return len(self._awaited) + len(self._positions)

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        faults = self._due(DM_OP.hypercall, int.from_bytes(buffers[0][:4], self.byteorder))
        failed = _first_failure(faults)
        found = (failed, list(buffers)) if failed else super().dm_op(domid, buffers)
        _end(faults)
        return found

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        position, self._calls = self._calls, self._calls + 1
        fault = self._positions.pop(position, None)
        faults = [fault] if fault else []
        result = _first_failure(faults)
        if not result:
            due = self._due(op, self._command(op, a1))
            faults += due
            result = _first_failure(due) or super().hypercall(op, a1, a2, a3, a4, a5)
        _end(faults)
        return result

    def _due(self, op: int, command: int | None) -> list[_Fault]:
        """The fault of a call, if any."""
        for awaited in self._awaited:
            if awaited.hypercall == op and awaited.command in (None, command):
                self._awaited.remove(awaited)
                return [awaited.fault]
        return []

    def _command(self, op: int, first: int) -> int | None:
        """The command of a call: in the structure for some hypercalls, an argument for the others."""
        if op == MULTICALL:
            return None
        if op in _COMMAND_INSIDE:
            in_arena = any(start <= first <= start + size - 4 for start, size in self.pool.live())
            return int.from_bytes(ctypes.string_at(first, 4), self.byteorder) if in_arena else None
        return first


def _first_failure(faults: list[_Fault]) -> int:
    """Run the actions before a call; returns the negative errno of its failure, or 0."""
    return next((number for number in [fault.happen() for fault in faults] if number), 0)


def _end(faults: list[_Fault]) -> None:
    """Run the actions after a call."""
    for fault in faults:
        if fault.after is not None:
            fault.after()
