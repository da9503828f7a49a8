# SPDX-License-Identifier: MIT
"""The one place that turns operations into hypercalls: it selects layouts, packs, traces, retries, raises."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, Final

from pyxc import errors
from pyxc.abi.layout import Interface, NotInInterface
from pyxc.abi.operation import Listing, Operation
from pyxc.call import batch, together
from pyxc.call.batch import Batch, Column
from pyxc.call.held import HeldCall
from pyxc.call.plan import Plan
from pyxc.call.records import R, Record
from pyxc.call.reply import Reply, Trace, as_reply
from pyxc.link import Link
from pyxc.link.exchange import Placement, exchange_by_value, exchanger

Plans = dict[Operation, Plan]

_NOTHING: Final[Mapping[str, bytes]] = {}


class Caller:
    """Issues operations on one link with one interface. Threads: safe to share.

    `plans` are those of another Caller like this one; to find them by what they depend on takes longer.
    """

    def __init__(
        self,
        link: Link,
        interface: Interface,
        readonly: bool = False,
        trace: Trace | None = None,
        plans: Plans | None = None,
    ) -> None:
        self.link = link
        self.interface = interface
        self.readonly = readonly
        self.trace = trace
        self.restricted_to: int | None = None
        self._exchange = exchanger(link)
        self.plans = _plans(interface, readonly, link.kernel_bits) if plans is None else plans
        self._questions: dict[Operation, Callable[[int | None], Any]] = {}
        self._measured: set[tuple[Operation, str]] = set()
        self._absent: set[Operation] = set()

    def __repr__(self) -> str:
        return f"<Caller of {self.link.target}>"

    def call(self, operation: Operation, domid: int | None = None, /, **fields: Any) -> Reply:
        """Issue one operation.

        Fields have their C names (nested ones, such as "arch.flags", through **{...}). A field that is a
        guest handle takes bytes (the buffer's contents), an int (a buffer of that many zero bytes; 0 is the
        null handle), or an Address. Raises ReadOnlyError, TypeError for an unknown field, ValueError for a
        value that does not fit, and HypercallError if the hypervisor refuses.
        """
        plan = self.plans.get(operation)
        if plan is None or plan.refused:
            plan = self._ready(operation)
        if plan.bare and not fields and not self.trace:
            result = self.link.hypercall(plan.number, plan.before)
            if result < 0:
                result = self._again(plan, result)
            return as_reply((result, b"", plan.layout, _NOTHING))
        if self.readonly and operation.populates and domid is not None:
            self.refuse_to_populate(operation.full_name, domid)
        if plan.in_buffers:
            if domid is None:
                raise TypeError(f"{operation.full_name} needs the domid of a domain")
            return self.dm_op(operation, domid, **fields)
        values = plan.begin(domid, fields)
        placements = plan.fill(values, fields) if fields else ()
        if self.interface.assumed and operation.strides:
            self._measure(plan, values, dict(zip(plan.buffer_names(fields), placements)))
        if self.trace:
            reply = self._traced(plan, values, placements, domid, fields)
        else:
            result, answer, buffers = self._issue(plan, values, placements)
            named = dict(zip(plan.buffer_names(fields), buffers)) if placements else {}
            reply = Reply(result, answer, plan.layout, named)
        if reply.result < 0:
            raise self.error(operation, -reply.result, domid)
        return reply

    def _again(self, plan: Plan, result: int) -> int:
        """The result of an operation that is nothing but a number, and failed at the first try."""
        tries = 0
        while result < 0:
            tries += 1
            if not plan.again(-result, tries):
                raise self.error(plan.asked, -result, None)
            result = self.link.hypercall(plan.number, plan.before)
        return result

    def dm_op(self, operation: Operation, domid: int, /, *buffers: bytes, **fields: Any) -> Reply:
        """Issue a device model operation. Buffers after its structure are returned as "1", "2" and so on."""
        plan = self._ready(operation)
        values = plan.zero.copy()
        plan.fill(values, fields)
        started = time.perf_counter()
        result, (answer, *rest) = self.link.dm_op(domid, (plan.request(values), *buffers))
        if self.trace:
            elapsed = time.perf_counter() - started
            self.trace(operation, {"domain": domid, **fields}, result, plan.body(answer), elapsed)
        if result < 0:
            raise self.error(operation, -result, domid)
        named = {str(number): content for number, content in enumerate(rest, 1)}
        return Reply(result, answer, plan.layout, named)

    def refuse_to_populate(self, what: str, domid: int) -> None:
        """ReadOnlyError on a read-only handle if a domain has memory that reading would populate."""
        from pyxc.abi import memory

        if not self.readonly or not self.supports(memory.GET_POD_TARGET):
            return
        try:
            entries = self.call(memory.GET_POD_TARGET, domid).field("pod_entries")
        except errors.HypercallError as error:
            if error.errno == errno.EINVAL:  # a PV domain
                return
            raise
        if entries:
            raise errors.ReadOnlyError(
                f"{what} would populate domain {domid}'s memory on demand, and this handle is read-only"
            )

    def restrict(self, domid: int) -> None:
        """Permanently restrict the link to the memory and the device model operations of one domain."""
        result = self.link.restrict(domid)
        if result < 0:
            hint = "it is already restricted to another domain" if result == -errno.EINVAL else ""
            raise errors.from_errno(-result, "privcmd.restrict", domid, hint=hint)
        self.restricted_to = domid

    def _traced(
        self,
        plan: Plan,
        values: list[Any],
        placements: tuple[Placement, ...],
        domid: int | None,
        fields: Mapping[str, Any],
    ) -> Reply:
        assert self.trace
        started = time.perf_counter()
        result, answer, buffers = self._issue(plan, values, placements)
        elapsed = time.perf_counter() - started
        sent = fields if domid is None else {"domain": domid, **fields}
        self.trace(plan.operation, sent, result, plan.body(answer), elapsed)
        return Reply(result, answer, plan.layout, dict(zip(plan.buffer_names(fields), buffers)))

    def _issue(
        self, plan: Plan, values: list[Any], placements: tuple[Placement, ...]
    ) -> tuple[int, bytes, Sequence[bytes]]:
        """Call until there is a result, each time with the same bytes: Xen keeps its progress in its copy."""
        request = plan.request(values)
        tries = 0
        while True:
            if plan.wide:
                result, answer, buffers = self._multicall_of_one(plan, request)
            elif plan.by_value:
                result, answer, buffers = exchange_by_value(
                    self.link, plan.number, request, placements, plan.before
                )
            elif plan.size:
                result, answer, buffers = self._exchange(
                    plan.number, request, placements, plan.before, plan.after
                )
            else:
                result, answer, buffers = self.link.hypercall(plan.number, plan.before), b"", ()
            tries += 1
            if result >= 0 or not plan.again(-result, tries):
                return result, answer, buffers

    def _multicall_of_one(self, plan: Plan, request: bytes) -> tuple[int, bytes, Sequence[bytes]]:
        """A call with a 64-bit result: the entry of a multicall has space for it."""
        failed, found = together.issue(self._exchange, self.interface, [(plan, request)])
        return (*found[0], ()) if found else (failed, b"", ())

    def _measure(self, plan: Plan, values: list[Any], placements: Mapping[str, Placement]) -> None:
        """For assumed layouts, once for each list that a call reads. VersionMismatch if a layout differs."""
        from pyxc.call import measuring

        unmeasured = {
            name: stride
            for name, stride in plan.operation.strides.items()
            if name in placements and (plan.operation, name) not in self._measured
        }
        if unmeasured and not plan.operation.changes:
            found = measuring.measure(self._issue, plan, values, placements, unmeasured)
            self._measured.update((plan.operation, name) for name in found)

    def read(self, operation: Operation, record: Record[R], domid: int | None = None) -> R:
        """Issue an operation that needs at most a domain, and return a record of its body."""
        answer: R | int = (self._questions.get(operation) or self._question(operation, record))(domid)
        if isinstance(answer, int):
            raise self.error(operation, -answer, domid)
        return answer

    def read_list(
        self, operation: Operation, record: Record[R], size: int, most: int, **fields: Any
    ) -> list[R]:
        """Read a list of at most `most` records of `size` bytes; decode them in place."""
        buffer, filled = _listing(operation)
        with self.held(operation, None, buffer, most * size) as call:
            return record.at(self.interface).all(call.items(filled, size, most, fields))

    @contextmanager
    def listing(
        self, operation: Operation, domid: int | None, size: int, most: int
    ) -> Iterator[Callable[..., memoryview]]:
        """A function that reads lists of at most `most` items of `size` bytes, each time into the same
        memory.

        `ask(**fields)` returns the items as bytes, in place, valid until the next call.
        """
        buffer, filled = _listing(operation)
        with self.held(operation, domid, buffer, most * size) as call:
            yield lambda **fields: call.items(filled, size, most, fields)

    def held(self, operation: Operation, domid: int | None, buffer: str, size: int) -> HeldCall:
        """An operation that is issued repeatedly with the same buffer of `size` bytes for one handle.

        The buffer can be read and written between calls, and after an interrupted call, so that the
        hypervisor's progress is not lost with the result.
        """

        def refuse(number: int) -> errors.HypercallError:
            return self.error(operation, number, domid)

        return HeldCall(self.link, self._ready(operation), domid, buffer, size, refuse, self.trace)

    def _question(self, operation: Operation, record: Record[R]) -> Callable[[int | None], R | int]:
        """What asks, kept from now on."""
        found = self._questions[operation] = self._new_question(operation, record)
        return found

    def _new_question(self, operation: Operation, record: Record[R]) -> Callable[[int | None], R | int]:
        """The device's own function for frequent queries, if it has one and there is no trace."""
        plan = self._ready(operation)
        reader = record.at(self.interface)
        direct = self.link.direct
        if direct is None or self.trace or operation.changes or operation.family.command_argument:
            return lambda domid: self.call(operation, domid).record(reader)
        domid_at = -1 if plan.domain is None else plan.layout.offsets[plan.layout.names[plan.domain]]
        request = plan.request(plan.zero)
        return direct.prepare(plan.number, request, domid_at, reader, plan.layout.body).ask

    def end_trace(self) -> None:
        """Print what a trace has added up."""
        if self.trace is not None:
            from pyxc.call.trace import Summary

            if isinstance(self.trace, Summary):
                self.trace.end()

    def batch(
        self, operation: Operation, count: int, record: Record[R] | None = None, /, **columns: Column
    ) -> Batch:
        """Issue one operation many times, in as few hypercalls as possible (multicall).

        A column is a sequence of `count` ints, or one int for all. For a guest handle it is the size in bytes
        of the zeroed buffer of each call. With `record`, which binds the operation itself, the results are
        records. Failures are in the results; they raise nothing.
        """
        plan = self._ready(operation)
        if self.readonly and operation.populates:
            text = f"{operation.full_name} can populate memory on demand, and this handle is read-only"
            raise errors.ReadOnlyError(text)
        self._check_kernel(operation, fixed_width=False)
        reader = None if record is None else record.at(self.interface)

        def refuse(number: int) -> errors.HypercallError:
            return self.error(operation, number, None)

        if not self.trace:
            return batch.run(self.link, plan, count, columns, reader, refuse)
        started = time.perf_counter()
        found = batch.run(self.link, plan, count, columns, None, refuse)
        elapsed = (time.perf_counter() - started) / max(count, 1)
        for index, (result, answer) in enumerate(zip(found.results, found.answers)):
            sent = {
                name: value if isinstance(value, int) else value[index] for name, value in columns.items()
            }
            self.trace(operation, sent, result, plan.body(answer), elapsed)
        return found if reader is None else found._replace(records=[reader.one(a) for a in found.answers])

    def together(
        self, asked: Mapping[Operation, Mapping[str, Any]]
    ) -> dict[Operation, Reply | errors.HypercallError]:
        """Ask for several operations, by their fields, in one multicall: what each answers, or why it fails.

        They take a structure without buffers, if any. With a trace, or a 32-bit kernel, one after the other.
        """
        if self.trace or self.link.kernel_bits == 32:
            return {operation: self._answer_or_error(operation, asked[operation]) for operation in asked}
        ready = []
        for operation, fields in asked.items():
            plan = self._ready(operation)
            values = plan.begin(None, fields)
            plan.fill(values, fields)
            ready.append((plan, plan.request(values)))
        failed, found = together.issue(self._exchange, self.interface, ready)
        if failed < 0:
            raise self.error(next(iter(asked)), -failed, None)
        return {
            plan.asked: self.error(plan.asked, -result, None)
            if result < 0
            else Reply(result, answer, plan.layout, _NOTHING)
            for (plan, _), (result, answer) in zip(ready, found)
        }

    def _answer_or_error(
        self, operation: Operation, fields: Mapping[str, Any]
    ) -> Reply | errors.HypercallError:
        try:
            return self.call(operation, **fields)
        except errors.HypercallError as error:
            return error

    def supports(self, operation: Operation) -> bool:
        """Whether this hypervisor's interface, and the kernel in between, have an operation."""
        if operation in self.plans:
            return True
        if operation not in self._absent:
            with suppress(errors.Unsupported):
                self._plan(operation)
                return True
            self._absent.add(operation)
        return False

    def has_field(self, operation: Operation, field: str) -> bool:
        """Whether an operation has a field in this interface. Unsupported if there is no such operation."""
        return field in (self.plans.get(operation) or self._plan(operation)).layout.index

    def _ready(self, operation: Operation) -> Plan:
        """An operation's plan; ReadOnlyError if it makes changes and the handle is read-only."""
        plan = self.plans.get(operation) or self._plan(operation)
        if plan.refused:
            raise errors.ReadOnlyError(f"{operation.full_name} makes changes, and this handle is read-only")
        return plan

    def _plan(self, operation: Operation) -> Plan:
        self._check_kernel(operation, operation.family.fixed_width and not operation.wide)
        try:
            plan = Plan(operation, self.interface, self.readonly and operation.changes)
        except NotInInterface as error:
            raise errors.Unsupported(errno.ENOSYS, operation.full_name, hint=str(error)) from error
        self.plans[operation] = plan
        return plan

    def _check_kernel(self, operation: Operation, fixed_width: bool) -> None:
        if self.link.kernel_bits == 32 and not fixed_width:
            hint = "its structures depend on the kernel's word size, and this kernel is 32-bit"
            raise errors.Unsupported(errno.ENOSYS, operation.full_name, hint=hint)

    def error(self, operation: Operation, number: int, domid: int | None) -> errors.HypercallError:
        """The exception for the errno of an operation."""
        spoken = operation.spoken(self.interface)
        version = 0 if spoken.stable else self.interface.number(spoken.family.name)
        hint = (self.restriction if number == errno.EPERM else "") or operation.hints.get(number, "")
        return errors.from_errno(number, spoken.full_name, domid, version, hint)

    @property
    def restriction(self) -> str:
        """The hint for refusals of a restricted handle, "" for other handles."""
        if self.restricted_to is None:
            return ""
        return (
            f"this handle is restricted to domain {self.restricted_to}: only its memory and its device model "
            "operations are allowed"
        )


def _listing(operation: Operation) -> Listing:
    assert operation.listing is not None, f"{operation.full_name} fills no list"
    return operation.listing


@lru_cache(maxsize=64)
def _plans(interface: Interface, readonly: bool, kernel_bits: int) -> Plans:
    """Prepared operations, shared by equal handles: a program may open a handle for every query."""
    return {}
