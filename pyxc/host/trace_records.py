# SPDX-License-Identifier: MIT
"""Records of Xen's trace buffers, and their order in time."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pyxc import answers, errors
from pyxc.abi import trace
from pyxc.abi.trace import Runstate

_EVENT = 0x0FFFFFFF
_COUNT_AT, _COUNT = trace.TRACE_EXTRA_SHIFT, trace.TRACE_EXTRA_MAX


class TraceRecord(NamedTuple):
    """One event on a physical cpu (struct t_rec, public/trace.h). Threads: safe to share.

    `tsc` is its time in cycles of the cpu, None if the event has no time; `words` are the event's data.

    Example:

    >>> from pyxc.host.trace_records import decoded
    >>> records = []
    >>> with xen.trace_buffers.record(pyxc.TraceClass.SCHED_MIN) as reader:
    ...     db1.pause()
    ...     reader.take(lambda cpu, data: records.extend(decoded(xen.words32(bytes(data)), cpu)))
    >>> records[0].name, records[0].vcpu
    ('sched.runstate_change', (2, 0))
    """

    cpu: int
    event: int
    tsc: int | None
    words: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name, "sched.runstate_change"; class and number if pyxc has no name for it."""
        return trace.event_name(self.event)

    @property
    def runstates(self) -> tuple[Runstate, Runstate] | None:
        """The old and the new state of `vcpu`, if this is a change of runstates."""
        return trace.runstates(self.event)

    @property
    def vcpu(self) -> tuple[int, int] | None:
        """The domain and vcpu of a change of runstates: the first word."""
        if self.runstates is None or not self.words:
            return None
        return self.words[0] >> 16, self.words[0] & 0xFFFF


def decoded(words: array[int], cpu: int) -> Iterator[TraceRecord]:
    """The records in the u32s of one cpu's buffer, without padding.

    DecodeError if the last one is truncated.
    """
    at, end = 0, len(words)
    while at < end:
        head = words[at]
        count = head >> _COUNT_AT & _COUNT
        body = at + (3 if head & trace.TRC_HD_CYCLE_FLAG else 1)
        if body + count > end:
            raise errors.DecodeError(f"a trace record of cpu {cpu} ends after {end - at} words")
        event = head & _EVENT
        if event != trace.TRC_TRACE_WRAP_BUFFER:
            tsc = words[at + 1] | words[at + 2] << 32 if body > at + 1 else None
            yield TraceRecord(cpu, event, tsc, tuple(words[body : body + count]))
        at = body + count


class Ordered:
    """Sorts the records of all cpus by time, although those of each cpu arrive in pieces.

    add() takes the records of all buffers in one round. Records before the last one of the previous round are
    certainly complete, and are returned; the others wait for the next round, or for rest(). Threads: one at a
    time.

    Example:

    >>> order = pyxc.OrderedRecords()
    >>> list(order.add([])), list(order.rest())
    ([], [])
    """

    def __init__(self) -> None:
        self._waiting: list[TraceRecord] = []
        self._seen = 0
        self._last = dict[int, int]()

    def add(self, records: Iterable[TraceRecord]) -> list[TraceRecord]:
        """Add the records of a round; returns those whose order is certain. Records without a time get that
        of the previous one on their cpu."""
        horizon = self._seen
        dated = [self._dated(record) for record in records]
        self._seen = max([horizon, *(record.tsc or 0 for record in dated)])
        self._waiting = sorted([*self._waiting, *dated], key=operator.attrgetter("tsc"))
        count = sum((record.tsc or 0) <= horizon for record in self._waiting)
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        return ready

    def rest(self) -> list[TraceRecord]:
        """The remaining records, when there are no more rounds."""
        ready, self._waiting = self._waiting, []
        return ready

    def _dated(self, record: TraceRecord) -> TraceRecord:
        if record.tsc is None:
            return record._replace(tsc=self._last.get(record.cpu, 0))
        self._last[record.cpu] = record.tsc
        return record


def lost(record: TraceRecord) -> int:
    """The number of lost records that this one reports, else 0."""
    if record.event != trace.TRC_LOST_RECORDS or not record.words:
        return 0
    return answers.number("number of lost records", record.words[0], 2**32 - 1)
