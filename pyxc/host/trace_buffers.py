# SPDX-License-Identifier: MIT
"""Xen's trace buffers: turned on and off, and read where they are."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from pyxc import answers, arguments, errors
from pyxc._core import PAGE_SIZE, ForeignMap
from pyxc.abi import bitmap, trace
from pyxc.abi.domid import DOMID_XEN
from pyxc.abi.trace import TraceClass
from pyxc.host.host import Host

DEFAULT_PAGES = 32
"""Of each cpu's buffer, where no size was given before."""
_SINCE = (4, 0)
_PAGES_MOST = 2**16 - 1
_INFO_MOST = 2**24
_WORD, _HALF = 4, 2

Take = Callable[[int, memoryview], object]
"""Gets a cpu and whole records as they are in its buffer, twice when they reach around the end."""


class TraceInfo(NamedTuple):
    """How Xen traces (sysctl tbuf_op get_info). It does not say whether it does: `events` are those that it
    would write. `frame` and `size_bytes` are of the pages that say where the buffers are; 0 without buffers.

    Example:

    >>> xen.trace_buffers.info()
    TraceInfo(events=<TraceClass.ALL: 268431360>, frame=0, size_bytes=0)
    """

    events: TraceClass
    frame: int
    size_bytes: int


class TraceBuffers:
    """The buffers of all cpus, `xen.trace_buffers` (sysctl tbuf_op). Threads: may be shared.

    There is one set for the whole host: two programs that read it, this one or xentrace, take each other's
    records away. Xen has to be built with CONFIG_TRACEBUFFER, as distributions do.

    >>> with xen.trace_buffers.record() as reader:
    ...     reader.take(lambda cpu, data: print(cpu, len(data)))
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def info(self) -> TraceInfo:
        """What there is. Unsupported where this Xen cannot trace."""
        reply = self._xen.call(trace.TBUF_OP_GET_INFO)
        size = reply.reported("size", _INFO_MOST)
        frame = answers.frame("buffer_mfn", reply.field("buffer_mfn"))
        return TraceInfo(TraceClass(reply.field("evt_mask")), frame if size else 0, size if frame else 0)

    def set_events(self, events: int) -> None:
        """Which events are written: classes and subclasses of TraceClass, also of a later Xen."""
        self._xen.call(trace.TBUF_OP_SET_EVT_MASK, evt_mask=arguments.natural("events", events, 2**32 - 1))

    def set_cpus(self, cpus: Iterable[int] | None = None) -> None:
        """On which physical cpus; all of them for None. ValueError for one that the host does not have."""
        count = self._xen.nr_cpus
        chosen = range(count) if cpus is None else arguments.cpus("cpus", cpus, count)
        self._xen.call(trace.TBUF_OP_SET_CPU_MASK, **bitmap.given("cpu_mask", chosen, count))

    def allocate(self, pages: int = DEFAULT_PAGES) -> None:
        """Give each cpu a buffer of so many pages, once until the next boot: Xen never frees them.

        Xen may give less, and begins to trace at once. OSError EINVAL for another size than they have, EBUSY
        (before Xen 4.2 EINVAL, too) for the same, ENOMEM.
        """
        arguments.natural("pages", pages, _PAGES_MOST, 1)
        self._xen.call(trace.TBUF_OP_SET_SIZE, size=pages)

    def enable(self) -> None:
        """Write records from now on. OSError EINVAL without buffers."""
        self._xen.call(trace.TBUF_OP_ENABLE)

    def disable(self) -> None:
        """Write no more. What is in the buffers stays there."""
        self._xen.call(trace.TBUF_OP_DISABLE)

    def open(self) -> TraceReader:
        """Map the buffers; close the reader, or use it in a `with`. OSError ENODATA: there are none yet."""
        self._xen.check_writable("reading trace buffers, which frees what was read,")
        self._check_form()
        info = self.info()
        if not info.size_bytes:
            raise errors.from_errno(errno.ENODATA, "tbuf_op", hint="no buffers yet: allocate() makes them")
        return TraceReader(self._xen, info)

    @contextmanager
    def record(
        self,
        events: int = TraceClass.SCHED,
        cpus: Iterable[int] | None = None,
        pages: int = DEFAULT_PAGES,
    ) -> Iterator[TraceReader]:
        """Trace as long as the block runs: buffers are made if there are none, and emptied first.

        Tracing is off in the end, whatever happened; a process that is killed leaves it on, which costs the
        host little once the buffers are full. disable() ends that, too.
        """
        self._xen.check_writable("tracing")
        self._check_form()
        with suppress(errors.HypercallError):
            self.disable()
        if not self.info().size_bytes:
            self.allocate(pages)
        try:
            with self.open() as reader:
                self.disable()
                reader.take(lambda cpu, data: None)
                self.set_cpus(cpus)
                self.set_events(events)
                self.enable()
                yield reader
        finally:
            self.disable()

    def _check_form(self) -> None:
        """Unsupported before Xen 4.0, whose buffers had another form."""
        if self._xen.interface.xen < _SINCE:
            hint = "trace buffers have their form since Xen 4.0"
            raise errors.Unsupported(errno.ENOSYS, trace.TBUF_OP_GET_INFO.full_name, hint=hint)

    def __repr__(self) -> str:
        return f"<TraceBuffers of {self._xen.link.target}>"


class TraceReader:
    """The buffers in this process's memory, without a copy. Of one thread; close it.

    Example:

    >>> with xen.trace_buffers.record(pyxc.TraceClass.SCHED_MIN) as reader:
    ...     db1.pause()
    ...     reader.take(lambda cpu, data: print(cpu, len(data), "bytes"))
    1 16 bytes
    """

    def __init__(self, xen: Host, info: TraceInfo) -> None:
        self._xen = xen
        self._buffers: list[tuple[int, ForeignMap]] = []
        with ExitStack() as undo:
            for cpu, frames in self._lists(info):
                mapped = _mapped(xen, frames, writable=True)
                undo.callback(mapped.close)
                self._buffers.append((cpu, mapped))
            undo.pop_all()

    @property
    def cpus(self) -> list[int]:
        """The cpus that have a buffer."""
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
        """Hand over what is in each buffer, and free it there. DecodeError for a buffer that makes no sense.

        What the taker gets is the buffer itself: it may not keep it. If it raises, nothing of this cpu is
        freed.
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

    def close(self) -> None:
        """Unmap the buffers. May be called again."""
        for _, mapped in self._buffers:
            mapped.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _mapped(xen: Host, frames: array[int], writable: bool = False) -> ForeignMap:
    """Frames of the hypervisor's own. OSError names the first that cannot be mapped."""
    mapped = xen.link.map_frames(DOMID_XEN, frames, writable)
    for frame, number in zip(frames, mapped.errors):
        if number:
            mapped.close()
            hint = f"frame {frame:#x} of a trace buffer cannot be mapped"
            raise errors.from_errno(abs(number), "privcmd.mmapbatch", DOMID_XEN, hint=hint)
    return mapped


def _pieces(cpu: int, cons: int, prod: int, size: int) -> list[tuple[int, int]]:
    """Where in a buffer of `size` bytes the unread ones are; both count modulo twice that."""
    unread = (prod - cons) % (2 * size)
    if max(cons, prod) >= 2 * size or unread > size or (cons | prod) % _WORD:
        raise errors.DecodeError(f"the trace buffer of cpu {cpu} says {cons} and {prod} of {size} bytes")
    start = cons % size
    if start + unread <= size:
        return [(start, start + unread)] if unread else []
    return [(start, size), (0, start + unread - size)]
