# SPDX-License-Identifier: MIT
"""Xen's trace buffers: enabling and disabling tracing, and reading records in place."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from pyxc import answers, arguments, errors, undoing
from pyxc._core import PAGE_SIZE, ForeignMap
from pyxc.abi import bitmap, trace
from pyxc.abi.domid import DOMID_XEN
from pyxc.abi.trace import TraceClass
from pyxc.host.host import Host

DEFAULT_PAGES = 32
"""The default number of pages of each cpu's buffer."""
_SINCE = (4, 0)
_PAGES_MOST = 2**16 - 1
_INFO_MOST = 2**24
_WORD, _HALF = 4, 2

Take = Callable[[int, memoryview], object]
"""Called with a cpu and whole records in its buffer, twice if they wrap around its end."""


class TraceInfo(NamedTuple):
    """The trace settings (sysctl tbuf_op get_info), without whether tracing is on: `events` are the selected
    ones. `frame` and `size_bytes` are those of the pages with the list of buffers; 0 without buffers.

    Example:

    >>> xen.trace_buffers.info()
    TraceInfo(events=<TraceClass.ALL: 268431360>, frame=0, size_bytes=0)
    """

    events: TraceClass
    frame: int
    size_bytes: int


class TraceBuffers:
    """The buffers of all cpus, `xen.trace_buffers` (sysctl tbuf_op). Threads: safe to share.

    There is one set for the whole host: two programs that read it, such as this one and xentrace, take each
    other's records. Xen must be built with CONFIG_TRACEBUFFER, like that of distributions.

    Example:

    >>> with xen.trace_buffers.record() as reader:
    ...     reader.take(lambda cpu, data: print(cpu, len(data)))
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def info(self) -> TraceInfo:
        """The trace settings. Unsupported if this Xen cannot trace."""
        reply = self._xen.call(trace.TBUF_OP_GET_INFO)
        size = reply.reported("size", _INFO_MOST)
        if size:
            answers.number("size", size, _INFO_MOST, PAGE_SIZE)
        frame = answers.frame("buffer_mfn", reply.field("buffer_mfn"))
        return TraceInfo(TraceClass(reply.field("evt_mask")), frame if size else 0, size if frame else 0)

    def set_events(self, events: int) -> None:
        """Select the events: classes and subclasses of TraceClass, also those of a later Xen."""
        self._xen.call(trace.TBUF_OP_SET_EVT_MASK, evt_mask=arguments.natural("events", events, 2**32 - 1))

    def set_cpus(self, cpus: Iterable[int] | None = None) -> None:
        """Select the physical cpus, all for None. ValueError for a cpu that the host does not have."""
        count = self._xen.nr_cpus
        chosen = range(count) if cpus is None else arguments.cpus("cpus", cpus, count)
        self._xen.call(trace.TBUF_OP_SET_CPU_MASK, **bitmap.given("cpu_mask", chosen, count))

    def allocate(self, pages: int = DEFAULT_PAGES) -> None:
        """Allocate a buffer of this many pages for each cpu, once until the next boot: Xen never frees them.

        Xen may allocate less, and starts to trace at once. OSError if there are buffers: EINVAL for another
        size, EBUSY (before Xen 4.2 also EINVAL) for the same; ENOMEM.
        """
        arguments.natural("pages", pages, _PAGES_MOST, 1)
        self._xen.call(trace.TBUF_OP_SET_SIZE, size=pages)

    def enable(self) -> None:
        """Start tracing. OSError EINVAL without buffers."""
        self._xen.call(trace.TBUF_OP_ENABLE)

    def disable(self) -> None:
        """Stop tracing. Records remain in the buffers."""
        self._xen.call(trace.TBUF_OP_DISABLE)

    def off(self) -> None:
        """Stop tracing and discard what nobody read, as is necessary after the end of a killed program."""
        self.disable()
        if self._xen.interface.xen >= _SINCE and self.info().size_bytes:
            with self.open() as reader:
                reader.discard()

    def unread_bytes(self) -> int:
        """The size of all records that no program has read; 0 without buffers. Changes nothing.

        Xen does not report whether tracing is on, but while it is, records appear.
        """
        self._check_form()
        info = self.info()
        if not info.size_bytes:
            return 0
        with TraceReader(self._xen, info, writable=False) as reader:
            return reader.unread_bytes()

    def open(self) -> TraceReader:
        """Map the buffers; close the reader, or use it in a `with` statement. OSError ENODATA: no buffers."""
        self._xen.check_writable("reading trace buffers, which frees what was read,")
        self._check_form()
        info = self.info()
        if not info.size_bytes:
            raise errors.from_errno(errno.ENODATA, "tbuf_op", hint="there are no buffers: use allocate()")
        return TraceReader(self._xen, info)

    @contextmanager
    def record(
        self,
        events: int = TraceClass.SCHED,
        cpus: Iterable[int] | None = None,
        pages: int = DEFAULT_PAGES,
    ) -> Iterator[TraceReader]:
        """Trace for the duration of a block: allocates buffers if there are none, and empties them first.

        Afterwards tracing is off and the buffers are empty, whatever happens. A killed process leaves it on,
        which costs the host little when the buffers are full; `pyxc doctor` finds it, and off() ends it.
        """
        self._xen.check_writable("tracing")
        self._check_form()
        with suppress(errors.HypercallError):
            self.disable()
        allocated = self.info().size_bytes
        with undoing.always(self.disable, "tracing is left on: `pyxc trace off` ends it"):
            if not allocated:
                self.allocate(pages)
            with self.open() as reader:
                self.disable()
                reader.discard()
                self.set_cpus(cpus)
                self.set_events(events)
                self.enable()
                try:
                    yield reader
                finally:
                    self.disable()
                    reader.discard()

    def _check_form(self) -> None:
        """Unsupported before Xen 4.0, whose buffers have a different form."""
        if self._xen.interface.xen < _SINCE:
            hint = "trace buffers have this form since Xen 4.0"
            raise errors.Unsupported(errno.ENOSYS, trace.TBUF_OP_GET_INFO.full_name, hint=hint)

    def __repr__(self) -> str:
        return f"<TraceBuffers of {self._xen.link.target}>"


class TraceReader:
    """The buffers in this process's memory, without a copy; close it. Threads: one at a time.

    Example:

    >>> with xen.trace_buffers.record(pyxc.TraceClass.SCHED_MIN) as reader:
    ...     db1.pause()
    ...     reader.take(lambda cpu, data: print(cpu, len(data), "bytes"))
    1 16 bytes
    """

    def __init__(self, xen: Host, info: TraceInfo, writable: bool = True) -> None:
        self._xen = xen
        self._buffers: list[tuple[int, ForeignMap]] = []
        with ExitStack() as undo:
            for cpu, frames in self._lists(info):
                mapped = _mapped(xen, frames, writable)
                undo.callback(mapped.close)
                self._buffers.append((cpu, mapped))
            undo.pop_all()

    @property
    def cpus(self) -> list[int]:
        """The cpus with a buffer."""
        return [cpu for cpu, _ in self._buffers]

    def _lists(self, info: TraceInfo) -> Iterator[tuple[int, array[int]]]:
        """The frames of each cpu's buffer, from struct t_info."""
        frames = array("Q", range(info.frame, info.frame + info.size_bytes // PAGE_SIZE))
        with _mapped(self._xen, frames) as mapped:
            data = bytes(mapped)
        halves = array("H", data[: _HALF * (1 + self._xen.nr_cpus)])
        if self._xen.swapped:
            halves.byteswap()
        words = self._xen.words32(data)
        pages = answers.number("tbuf_size", halves[0], _PAGES_MOST, 1)
        for cpu, start in enumerate(halves[1:]):
            if start:
                answers.number("mfn_offset", start, len(words) - pages)
                yield cpu, array("Q", words[start : start + pages])

    def take(self, taker: Take) -> None:
        """Pass the records of each buffer to a function, and free them. DecodeError for a malformed buffer.

        The function gets a view of the buffer itself, and must not keep it. If it raises, no records of this
        cpu are freed.
        """
        for cpu, mapped in self._buffers:
            with memoryview(mapped) as view:
                head = bytes(view[: 2 * _WORD])
                cons, prod = self._xen.words32(head)
                size = len(view) - 2 * _WORD
                for start, stop in _pieces(cpu, cons, prod, size):
                    with view[2 * _WORD + start : 2 * _WORD + stop] as piece:
                        taker(cpu, piece)
                view[:_WORD] = head[_WORD:]

    def discard(self) -> None:
        """Free all records, malformed ones as well."""
        for _, mapped in self._buffers:
            with memoryview(mapped) as view:
                view[:_WORD] = bytes(view[_WORD : 2 * _WORD])

    def unread_bytes(self) -> int:
        """The size of all records that were not taken yet. DecodeError for a malformed buffer."""
        sizes = []
        for cpu, mapped in self._buffers:
            cons, prod = self._xen.words32(mapped[: 2 * _WORD])
            pieces = _pieces(cpu, cons, prod, len(mapped) - 2 * _WORD)
            sizes += [stop - start for start, stop in pieces]
        return sum(sizes)

    def close(self) -> None:
        """Unmap the buffers. May be called again."""
        for _, mapped in self._buffers:
            mapped.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _mapped(xen: Host, frames: array[int], writable: bool = False) -> ForeignMap:
    """Map frames of the hypervisor. OSError names the first that cannot be mapped."""
    mapped = xen.link.map_frames(DOMID_XEN, frames, writable)
    for frame, number in zip(frames, mapped.errors):
        if number:
            mapped.close()
            hint = f"frame {frame:#x} of a trace buffer cannot be mapped"
            raise errors.from_errno(abs(number), "privcmd.mmapbatch", DOMID_XEN, hint=hint)
    return mapped


def _pieces(cpu: int, cons: int, prod: int, size: int) -> list[tuple[int, int]]:
    """The unread parts of a buffer of `size` bytes; both indices count modulo twice that."""
    unread = (prod - cons) % (2 * size)
    if max(cons, prod) >= 2 * size or unread > size or (cons | prod) % _WORD:
        raise errors.DecodeError(
            f"the trace buffer of cpu {cpu} has the indices {cons} and {prod} of {size} bytes"
        )
    start = cons % size
    if start + unread <= size:
        return [(start, start + unread)] if unread else []
    return [(start, size), (0, start + unread - size)]
