# SPDX-License-Identifier: MIT
"""The one place where operations become hypercalls: picks the layout, packs, traces, retries, raises, unpacks."""

from __future__ import annotations

import errno
import struct
import sys
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from pyxc import errors
from pyxc._core import Arena
from pyxc.abi.layout import Interface, Layout, NotInInterface
from pyxc.abi.operation import MULTICALL, Operation
from pyxc.link import Link

ERESTART = 85
_DOMAIN_FIELDS = frozenset(("domid", "domain", "dom", "domain_id"))
_ENTRY_WORDS = 8
_ENTRY = 8 * _ENTRY_WORDS
_BATCH = 512
_COLUMN_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_EFAULT_TRIES = 2

Trace = Callable[[Operation, Mapping[str, Any], int, Mapping[str, Any], float], None]
"""Told of every call: operation, fields that went in, result, fields that came out, seconds."""


class Address(int):
    """A value for a guest handle that is to be passed on as it is: for raw calls, and to see them refused."""


class Reply(NamedTuple):
    """What came back: the hypercall's result, the structure's values in layout order, and the buffers' contents."""

    result: int
    values: tuple[Any, ...]
    layout: Layout
    buffers: Mapping[str, bytes]

    def field(self, name: str) -> Any:
        return self.values[self.layout.index[name]]


class Batch(NamedTuple):
    """What came back of a batch: for each call its result (negative errno), its values, and its buffers by name."""

    results: list[int]
    rows: list[tuple[Any, ...]]
    layout: Layout
    buffers: Mapping[str, list[bytes]]


class Plan:
    """An operation made ready for one interface."""

    def __init__(self, operation: Operation, interface: Interface) -> None:
        self.operation = operation
        self.layout = operation.layout(interface)
        family = operation.family
        self.interface_version = {"domctl": interface.domctl, "sysctl": interface.sysctl}.get(family.name)
        self.number = family.hypercall
        self.before = (operation.command,) if family.command_argument else ()
        self.after = family.extra
        self.first = len([row for row in family.envelope if row.name])
        envelope = {} if family.command_argument else {"cmd": operation.command}
        if self.interface_version is not None:
            envelope["interface_version"] = self.interface_version
        self.zero = self.layout.values({**envelope, **operation.fixed})
        self.domain = next((i for i, name in enumerate(self.layout.names) if name in _DOMAIN_FIELDS), None)
        self.size = self.layout.size
        self.stride = (self.size + 7) & ~7

    def arguments(self, address: int) -> tuple[int, ...]:
        """The hypercall's arguments, for a structure at an address."""
        return (*self.before, address if self.size else 0, *self.after)


class Caller:
    """Issues operations on one link with one interface. Threads: may be used by many."""

    def __init__(self, link: Link, interface: Interface, readonly: bool = False, trace: Trace | None = None) -> None:
        self.link = link
        self.interface = interface
        self.readonly = readonly
        self.trace = trace
        self._plans: dict[Operation, Plan] = {}

    def call(self, operation: Operation, domid: int | None = None, /, **fields: Any) -> Reply:
        """Ask the hypervisor for one operation.

        Fields carry their C names (dots of nested ones as "arch.flags" through **{...}). A field that is a guest
        handle takes bytes (the buffer's contents), an int (a zeroed buffer of so many bytes; 0 is the null handle) or an Address.
        Raises ReadOnlyError, TypeError for an unknown field, ValueError for a value that does not fit, and a
        HypercallError when the hypervisor refuses.
        """
        plan = self._plans.get(operation) or self._plan(operation)
        if self.readonly and operation.changes:
            raise errors.ReadOnlyError(f"{operation.full_name} changes something and this handle is read-only")
        values = plan.zero.copy()
        if domid is not None and plan.domain is not None:
            values[plan.domain] = domid
        buffers: list[tuple[str, Any]] = []
        if fields:
            buffers = _fill(plan, values, fields)
        started = time.perf_counter() if self.trace else 0.0
        reply = self._issue(plan, values, buffers)
        if self.trace:
            elapsed = time.perf_counter() - started
            sent = fields if domid is None else {"domain": domid, **fields}
            self.trace(operation, sent, reply.result, self._body(plan, reply.values), elapsed)
        if reply.result < 0:
            raise self.error(operation, -reply.result, domid)
        return reply

    def _body(self, plan: Plan, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(plan.layout.names[plan.first :], plan.layout.decode(values)[plan.first :]))

    def _issue(self, plan: Plan, values: list[Any], buffers: list[tuple[str, Any]]) -> Reply:
        """Lay the structure and its buffers into one arena, call until there is an answer, copy it out."""
        wide = _ENTRY if plan.operation.wide else 0
        at = wide + plan.stride
        places: list[tuple[str, int, int]] = []
        for name, content in buffers:
            size = content if isinstance(content, int) else len(content)
            places.append((name, at, size))
            at += (size + 63) & ~63
        arena = self.link.pool.take(at or 1)
        try:
            view, base = arena.view, arena.address
            for (name, content), (_, offset, size) in zip(buffers, places):
                values[plan.layout.index[name]] = base + offset
                if not isinstance(content, int):
                    view[offset : offset + size] = content
            result = self._until_answered(plan, values, arena, wide)
            out = plan.layout.codec.unpack_from(view, wide)
            data = {name: bytes(view[offset : offset + size]) for name, offset, size in places}
        finally:
            arena.release(at)
        return Reply(result, out, plan.layout, data)

    def _until_answered(self, plan: Plan, values: list[Any], arena: Arena, wide: int) -> int:
        """One call, issued again as long as the answer says that it was interrupted.

        The structure is packed anew each time: a preempted operation leaves its progress in it.
        """
        faults = 0
        while True:
            try:
                plan.layout.codec.pack_into(arena.view, wide, *values)
            except struct.error as error:
                raise ValueError(f"{plan.operation.full_name}: a value does not fit its field ({error})") from error
            arguments = plan.arguments(arena.address + wide)
            if wide:
                result = self._multicall_of_one(plan.number, arguments, arena)
            else:
                result = self.link.hypercall(plan.number, *arguments)
            if result >= 0 or -result not in (errno.EAGAIN, errno.EFAULT, ERESTART):
                return result
            faults += 1
            if not self._again(plan.operation, -result, faults):
                return result

    def _again(self, operation: Operation, number: int, tries: int) -> bool:
        """Whether an answer asks for the same call once more.

        Destroying a domain gives EAGAIN up to Xen 4.5; ERESTART is Xen's own and should never get here. Only
        getpageframeinfo3 may be repeated after EFAULT: it reads, and anonymous buffers can fault for a moment.
        """
        if number == ERESTART or (number == errno.EAGAIN and operation.name == "destroydomain"):
            time.sleep(0)
            return True
        return number == errno.EFAULT and operation.name == "getpageframeinfo3" and tries <= _EFAULT_TRIES

    def _multicall_of_one(self, number: int, arguments: tuple[int, ...], arena: Arena) -> int:
        """A call whose result needs 64 bits: the entry of a multicall has room for it."""
        order = "<" if self.interface.byteorder == "little" else ">"
        entry = struct.Struct(f"{order}Qq6Q")
        entry.pack_into(arena.view, 0, number, 0, *arguments, *repeat(0, 6 - len(arguments)))
        failed = self.link.hypercall(MULTICALL, arena.address, 1)
        return failed if failed < 0 else int(entry.unpack_from(arena.view)[1])

    def batch(self, operation: Operation, count: int, /, **columns: Any) -> Batch:
        """Ask for one operation many times, in as few hypercalls as possible (multicall).

        A column is a sequence of `count` ints, or one int for all. For a guest handle it is the size in bytes of
        the zeroed buffer that each call gets. Failures are in the results; nothing is raised for them.
        """
        plan = self._plans.get(operation) or self._plan(operation)
        if self.readonly and operation.changes:
            raise errors.ReadOnlyError(f"{operation.full_name} changes something and this handle is read-only")
        whole = Batch([], [], plan.layout, {name: [] for name in columns if name in plan.layout.handles})
        for start in range(0, count, _BATCH):
            stop = min(count, start + _BATCH)
            part = {
                name: column if isinstance(column, int) else column[start:stop] for name, column in columns.items()
            }
            self._batch_part(plan, stop - start, part, whole)
        return whole

    def _batch_part(self, plan: Plan, count: int, columns: Mapping[str, Any], whole: Batch) -> None:
        """One multicall. The arena holds the entries, then the structures, then each handle's buffers."""
        started = time.perf_counter()
        sizes = {name: (columns[name] + 7) & ~7 for name in columns if name in plan.layout.handles}
        body = _ENTRY * count
        at = body + plan.stride * count
        total = at + sum(sizes.values()) * count
        arena = self.link.pool.take(total)
        try:
            view, base = arena.view, arena.address
            view[body:at] = plan.layout.codec.pack(*plan.zero).ljust(plan.stride, b"\0") * count
            for name, column in columns.items():
                if name in sizes:
                    column = range(base + at, base + at + sizes[name] * count, sizes[name])
                    at += sizes[name] * count
                self._set_column(view[body : body + plan.stride * count], plan, name, count, column)
            self._set_entries(view[:body], plan, count, base + body)
            failed = self.link.hypercall(MULTICALL, base, count)
            if failed < 0:
                raise self.error(plan.operation, -failed, None)
            self._collect(view, plan, count, sizes, whole)
        finally:
            arena.release(total)
        if self.trace:
            elapsed = (time.perf_counter() - started) / count
            for index in range(len(whole.results) - count, len(whole.results)):
                sent = {name: c if isinstance(c, int) else c[index % _BATCH] for name, c in columns.items()}
                self.trace(
                    plan.operation, sent, whole.results[index], self._body(plan, whole.rows[index]), elapsed
                )

    def _set_column(self, block: memoryview, plan: Plan, name: str, count: int, column: Sequence[int] | int) -> None:
        size = plan.layout.sizes[name]
        code = _COLUMN_CODES[size]
        try:
            cells = array(code, [column]) * count if isinstance(column, int) else array(code, column)
        except OverflowError as error:
            raise ValueError(f"{plan.operation.full_name}: a value does not fit {name} ({error})") from error
        self._strided(block.cast(code), plan.layout.offsets[name] // size, plan.stride // size, cells)

    def _set_entries(self, block: memoryview, plan: Plan, count: int, first: int) -> None:
        words = block.cast("Q")
        self._strided(words, 0, _ENTRY_WORDS, array("Q", [plan.number]) * count)
        addresses = array("Q", range(first, first + plan.stride * count, plan.stride))
        for position, value in enumerate(plan.before):
            self._strided(words, 2 + position, _ENTRY_WORDS, array("Q", [value]) * count)
        self._strided(words, 2 + len(plan.before), _ENTRY_WORDS, addresses)
        for position, value in enumerate(plan.after):
            self._strided(words, 3 + len(plan.before) + position, _ENTRY_WORDS, array("Q", [value]) * count)

    def _strided(self, block: memoryview, start: int, step: int, cells: array[int]) -> None:
        if self.interface.byteorder != sys.byteorder:
            cells.byteswap()
        block[start::step] = memoryview(cells)

    def _collect(
        self, view: memoryview, plan: Plan, count: int, sizes: Mapping[str, int], whole: Batch
    ) -> None:
        results = array("q", view[: _ENTRY * count].cast("q")[1::_ENTRY_WORDS].tolist())
        if self.interface.byteorder != sys.byteorder:
            results.byteswap()
        whole.results.extend(results)
        at = _ENTRY * count
        stop = at + plan.stride * count
        padded = struct.Struct(f"{plan.layout.codec.format}{plan.stride - plan.size}x")
        whole.rows.extend(padded.iter_unpack(view[at:stop]))
        for name, size in sizes.items():
            block = bytes(view[stop : stop + size * count])
            whole.buffers[name].extend(block[i * size : (i + 1) * size] for i in range(count))
            stop += size * count

    def supports(self, operation: Operation) -> bool:
        """Whether this hypervisor's interface, and the kernel between, have an operation."""
        try:
            self._plan(operation)
        except errors.Unsupported:
            return False
        return True

    def _plan(self, operation: Operation) -> Plan:
        if self.link.kernel_bits == 32 and not operation.family.fixed_width:
            hint = "its structures follow the kernel's width, and this is a 32-bit kernel"
            raise errors.Unsupported(errno.ENOSYS, operation.full_name, hint=hint)
        try:
            plan = self._plans[operation] = Plan(operation, self.interface)
        except NotInInterface as error:
            raise errors.Unsupported(errno.ENOSYS, operation.full_name, hint=str(error)) from error
        return plan

    def error(self, operation: Operation, number: int, domid: int | None) -> errors.HypercallError:
        """The exception for an errno that an operation came back with."""
        version = {"domctl": self.interface.domctl, "sysctl": self.interface.sysctl}.get(operation.family.name)
        return errors.from_errno(number, operation.full_name, domid, version)


def _fill(plan: Plan, values: list[Any], fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Put fields in their places; answers those that are buffers."""
    buffers = []
    for name, value in fields.items():
        position = plan.layout.index.get(name)
        if position is None:
            raise TypeError(f"{plan.layout.name} has no field {name!r} in this interface version")
        if name in plan.operation.fixed:
            raise TypeError(f"{name} is what makes it {plan.layout.name}: it cannot be given")
        if name not in plan.layout.handles or isinstance(value, Address):
            values[position] = value
        elif value != 0:
            buffers.append((name, value))
    return buffers
