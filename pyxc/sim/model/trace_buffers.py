# SPDX-License-Identifier: MIT
"""Xen's trace buffers: a ring of records for each pcpu, in frames of its own that a client maps."""

from __future__ import annotations

from collections.abc import Sequence

from pyxc._core import PAGE_SIZE
from pyxc.abi import trace
from pyxc.abi.domid import DOMID_XEN
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Vcpu
from pyxc.sim.model.machine import Machine

_WORD = 4
_HEAD = 8
_CPUS_BUILT_FOR = 256
_FIRST_LIST = (2 + 2 * _CPUS_BUILT_FOR + _WORD - 1) // _WORD
"""Where the first list of frames begins, in u32."""
_U16_MAX = 2**16 - 1


class TraceBuffers:
    """Off, and without memory, until a client gives them a size: then they are on, for all events."""

    def __init__(self, machine: Machine, pcpus: int, khz: int) -> None:
        self._machine = machine
        self._pcpus = pcpus
        self._khz = khz
        self.enabled = False
        self.events = int(trace.TraceClass.ALL)
        self.cpus = (1 << pcpus) - 1
        self.pages = 0
        self.info = range(0)
        """Frames of what says where the buffers are."""
        self._frames: list[range] = []
        self._lost = [0] * pcpus

    def allocate(self, pages: int) -> None:
        """Allocate a permanent buffer for each cpu. If there are buffers, EINVAL for another size, else
        EBUSY."""
        if self.pages:
            raise Refusal(XenErrno.EINVAL if pages != self.pages else XenErrno.EBUSY)
        if pages == 0:
            raise Refusal(XenErrno.EINVAL)
        most = (_U16_MAX - _FIRST_LIST) // max(1, self._pcpus - 1)
        pages = min(pages, most)
        words = _FIRST_LIST + self._pcpus * pages
        needed = -(-words * _WORD // PAGE_SIZE)
        try:
            frames = self._machine.allocate_run(DOMID_XEN, needed + self._pcpus * pages)
        except MemoryError as error:
            raise Refusal(XenErrno.ENOMEM) from error
        self.pages, self.info = pages, frames[:needed]
        self._frames = [frames[needed + cpu * pages :][:pages] for cpu in range(self._pcpus)]
        self._write_info()
        for buffer in self._frames:
            self._machine.write_pages(buffer, bytes(pages * PAGE_SIZE))
        self.enabled = True

    def writable(self, mfn: int) -> bool:
        """Whether a frame of Xen's may be mapped to be written: those of the buffers, which have a reader."""
        return any(mfn in buffer for buffer in self._frames)

    def disable(self) -> None:
        """Stop writing; the number of lost records is forgotten."""
        self.enabled = False
        self._lost = [0] * self._pcpus

    def runstate(self, vcpu: Vcpu, state: int, now_ns: int) -> None:
        """Note that a vcpu enters another state, on its pcpu."""
        event = trace.TRC_SCHED_RUNSTATE_CHANGE | int(vcpu.state) << 8 | state << 4
        self.write(vcpu.pcpu, now_ns, event, [vcpu.domain.domid << 16 | vcpu.index])

    def write(self, cpu: int, now_ns: int, event: int, words: Sequence[int] = ()) -> None:
        """Write a record, if it is wanted, or count it as lost where the buffer is full."""
        if not self.enabled or not self._wanted(event) or not self.cpus >> cpu & 1:
            return
        tsc = now_ns * self._khz // 10**6
        records = [_record(event, tsc, words)]
        if self._lost[cpu]:
            first = [self._lost[cpu], 0, tsc & 0xFFFFFFFF, tsc >> 32]
            records.insert(0, _record(trace.TRC_LOST_RECORDS, tsc, first))
        self._lost[cpu] = 0 if self._put(cpu, records) else self._lost[cpu] + 1

    def _wanted(self, event: int) -> bool:
        """A class and a subclass of the mask."""
        wanted = self.events & event
        return bool(wanted >> trace.TRC_CLS_SHIFT) and bool(wanted >> 12 & 0xF)

    def _put(self, cpu: int, records: list[list[int]]) -> bool:
        """Whether all had a place. One that does not fit before the end of the ring begins at its start."""
        size = self.pages * PAGE_SIZE - _HEAD
        cons, prod = self._head(cpu)
        placed = []
        at = prod
        for record in records:
            to_end = size - at % size
            if len(record) * _WORD > to_end:
                placed.append((at % size, _filler(to_end // _WORD)))
                at += to_end
            placed.append((at % size, record))
            at += len(record) * _WORD
        if at - prod > size - (prod - cons) % (2 * size):
            return False
        for place, record in placed:
            self._write(cpu, _HEAD + place, record)
        self._write(cpu, _WORD, [at % (2 * size)])
        return True

    def _head(self, cpu: int) -> tuple[int, int]:
        """How far the buffer is read, and written."""
        data = self._machine.memory.read(self._frames[cpu].start, 0, _HEAD)
        cons, prod = self._machine.words.unpack32(data)
        return cons, prod

    def _write(self, cpu: int, offset: int, words: Sequence[int]) -> None:
        """Words into a buffer, whose frames follow one another."""
        for index, value in enumerate(words):
            page, place = divmod(offset + index * _WORD, PAGE_SIZE)
            self._machine.memory.write(self._frames[cpu][page], place, self._machine.words.pack32([value]))

    def _write_info(self) -> None:
        """The size of the buffers, where each list begins, and the lists."""
        order = self._machine.words.byteorder
        starts = [_FIRST_LIST + cpu * self.pages for cpu in range(self._pcpus)]
        head = b"".join(value.to_bytes(2, order) for value in [self.pages, *starts])
        lists = b"".join(self._machine.words.pack32(buffer) for buffer in self._frames)
        whole = head.ljust(_FIRST_LIST * _WORD, b"\0") + lists
        self._machine.write_pages(self.info, whole.ljust(len(self.info) * PAGE_SIZE, b"\0"))


def _record(event: int, tsc: int, words: Sequence[int]) -> list[int]:
    """A record with its time."""
    head = event | len(words) << trace.TRACE_EXTRA_SHIFT | trace.TRC_HD_CYCLE_FLAG
    return [head, tsc & 0xFFFFFFFF, tsc >> 32, *words]


def _filler(words: int) -> list[int]:
    """A record of nothing that has so many words."""
    cycles = words - 1 > trace.TRACE_EXTRA_MAX
    extra = words - 1 - 2 * cycles
    head = trace.TRC_TRACE_WRAP_BUFFER | extra << trace.TRACE_EXTRA_SHIFT
    return [head | trace.TRC_HD_CYCLE_FLAG * cycles, *[0] * (words - 1)]
