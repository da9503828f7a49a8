# SPDX-License-Identifier: MIT
"""What the kernel of a PV guest does when it starts, and around a suspend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyxc._core import PAGE_SIZE
from pyxc.abi.arch import x86
from pyxc.abi.arch.x86 import PTE_FRAME_MASK, PTE_PRESENT
from pyxc.abi.layout import Table
from pyxc.sim.guests.pv import START_INFO_PFN
from pyxc.sim.model import context
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host

_MAGIC = b"xen-"
_RINGS = ("store_mfn", "console.domU.mfn")


class PvKernel:
    """The kernel of one PV domain, found by its registers: nothing of it is executed."""

    def __init__(self, xen: Host, domain: Domain) -> None:
        self._xen = xen
        self._domain = domain
        self._wide = domain.address_size == 64
        self._before: dict[str, int] = {}

    def publish(self) -> None:
        """Say in shared_info where its p2m is, unless it does."""
        start, table = self._start_info(), self._arch()
        place = self._xen.layout(self._shared()).offsets["arch.max_pfn"]
        memory, layout = self._xen.machine.memory, self._xen.layout(table)
        arch = layout.unpack(memory.read(self._domain.shared_info, place, layout.size))
        root = self._registers()["ctrlreg"][3]
        if start is None or "p2m_cr3" not in arch or arch["p2m_cr3"] == root:
            return
        fields = self._fields(start)
        arch["max_pfn"] = arch["max_pfn"] or fields["nr_pages"]
        generation = arch["p2m_generation"] + 2
        arch.update(p2m_cr3=root, p2m_vaddr=fields["mfn_list"], p2m_generation=generation)
        memory.write(self._domain.shared_info, place, layout.pack(arch))

    def prepare(self) -> None:
        """Before it suspends: its rings become pfns, vcpu 0 passes start_info, and the others are off."""
        start = self._start_info()
        if start is None:
            return
        fields = self._fields(start)
        self._before = {name: fields[name] for name in _RINGS}
        pfns = {name: self._xen.machine.pfn_of(mfn) for name, mfn in self._before.items()}
        self._write_fields(start, {**fields, **pfns})
        registers = self._registers()
        registers["user_regs.rdx" if self._wide else "user_regs.edx"] = start
        first, *others = self._domain.live_vcpus
        first.context = context.layout_of(self._xen, self._domain).pack(registers)
        first.blocked = False
        for vcpu in others:
            vcpu.down = True

    def wake(self) -> None:
        """When it runs again where it was; on another host it finds its new rings in start_info."""
        start = self._start_info()
        if start is None:
            return
        self._write_fields(start, {**self._fields(start), **self._before})
        for vcpu in self._domain.live_vcpus:
            vcpu.down = vcpu.context is None
        self._xen.schedule()

    def frame(self, pfn: int) -> int:
        """The machine frame of a page."""
        return next(mfn for mfn in self._owned() if self._xen.machine.pfn_of(mfn) == pfn)

    def _owned(self) -> Iterator[int]:
        for run in self._xen.machine.memory_of(self._domain.domid).runs:
            yield from run

    def _start_info(self) -> int | None:
        """Its machine frame.

        A kernel gets the address in its second register, one that was suspended has the frame in its third,
        and one that has been there since the host started has it where builders put it.
        """
        if not self._domain.live_vcpus[0].context:
            return None
        registers = self._registers()
        second, third = (registers[f"user_regs.{'r' if self._wide else 'e'}{name}"] for name in ("si", "dx"))
        for find in (lambda: third, lambda: self._walk(second), lambda: self.frame(START_INFO_PFN)):
            mfn = find()
            owned = self._xen.machine.owned_by(mfn, self._domain.domid)
            if owned and self._xen.machine.memory.read(mfn, 0, len(_MAGIC)) == _MAGIC:
                return mfn
        return None

    def _walk(self, address: int) -> int:
        """The machine frame at a virtual address, -1 for none."""
        cr3 = self._registers()["ctrlreg"][3]
        mfn = cr3 >> 12 if self._wide else x86.frame_of_cr3_32(cr3)
        for level in range(4 if self._wide else 3, 0, -1):
            if not self._xen.machine.owned_by(mfn, self._domain.domid):
                return -1
            entry = self._xen.machine.word(mfn, address >> 3 + 9 * level & 511)
            if not entry & PTE_PRESENT:
                return -1
            mfn = (entry & PTE_FRAME_MASK) >> 12
        return mfn

    def _registers(self) -> dict[str, Any]:
        data = self._domain.live_vcpus[0].context
        assert data is not None
        return context.layout_of(self._xen, self._domain).unpack(data)

    def _fields(self, mfn: int) -> dict[str, Any]:
        layout = self._xen.layout(self._start())
        return layout.unpack(self._xen.machine.memory.read(mfn, 0, PAGE_SIZE))

    def _write_fields(self, mfn: int, fields: dict[str, Any]) -> None:
        self._xen.machine.memory.write(mfn, 0, self._xen.layout(self._start()).pack(fields))
        if self._domain.dirty is not None:
            self._domain.dirty.add(self._xen.machine.pfn_of(mfn))

    def _start(self) -> Table:
        return x86.START_INFO_STRUCT if self._wide else x86.START_INFO_32_STRUCT

    def _shared(self) -> Table:
        return x86.SHARED_INFO_STRUCT if self._wide else x86.SHARED_INFO_32_STRUCT

    def _arch(self) -> Table:
        return x86.ARCH_SHARED_INFO_STRUCT if self._wide else x86.ARCH_SHARED_INFO_32_STRUCT
