# SPDX-License-Identifier: MIT
"""Restoring a PV guest: its registers and what it shares with Xen, once its pages are there."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pyxc import answers, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.arch.x86 import ContextFlag
from pyxc.domain import vcpu_state
from pyxc.domain.domain import Domain
from pyxc.domain.memory import E820Entry
from pyxc.domain.registers import VcpuContext
from pyxc.guest import pv_layout
from pyxc.guest.built import Rings
from pyxc.guest.pv_layout import WIDTHS
from pyxc.guest.restore_pv_pages import PvMemory
from pyxc.guest.stream.records import Event, PvP2mFrames, PvVcpu, RecordType, SharedInfo

if TYPE_CHECKING:
    from pyxc.guest.images import Kind

_MAGIC = b"xen-"
_WRITERS = {
    RecordType.X86_PV_VCPU_EXTENDED: vcpu_state.write_extended,
    RecordType.X86_PV_VCPU_XSAVE: vcpu_state.write_xstate,
    RecordType.X86_PV_VCPU_MSRS: vcpu_state.write_msrs,
}


class PvGuest:
    """A PV guest of `bits` bits that is restored event by event. Threads: one at a time."""

    kind: Kind = "pv"

    def __init__(self, domain: Domain, bits: int, memory_kb: int, claimed_kb: int) -> None:
        self._domain = domain
        self._width = WIDTHS[bits]
        if bits != 64:
            domain.set_guest_bits(bits)
        domain.memory.set_e820([E820Entry(0, memory_kb * 1024)])
        self._ports = domain.channels.open(), domain.channels.open()
        self.memory = PvMemory(domain, bits, claimed_kb)
        self._shared_info = b""
        self._vcpus: list[PvVcpu] = []

    def take(self, event: Event) -> None:
        if isinstance(event, PvP2mFrames):
            self.memory.extend(event)
        elif isinstance(event, SharedInfo):
            self._shared_info = bytes(event.data)
        elif isinstance(event, PvVcpu) and event.context:
            self._vcpus.append(event)

    def finish(self) -> Rings:
        """Its registers first: Xen checks page tables with them, before these are pinned."""
        self._write_shared_info()
        rings = Rings(0, 0, 0, 0)
        for part in self._vcpus:
            if part.part is RecordType.X86_PV_VCPU_BASIC:
                rings = self._set_registers(part, rings)
            else:
                _WRITERS[part.part](self._domain.vcpu(part.vcpu), part.context)
        self.memory.pin()
        self.memory.write_p2m()
        return rings

    def _write_shared_info(self) -> None:
        """What the guest has there of its own; its event channels are new ones."""
        layout = self._width.shared_info.at(self._domain.xen.interface)
        fields = layout.unpack(self._shared_info)
        page = bytearray(PAGE_SIZE)
        kept = {name: value for name, value in fields.items() if name.startswith("arch.")}
        kept["vcpu_info"] = self._vcpu_infos(fields["vcpu_info"])
        kept["arch.pfn_to_mfn_frame_list_list"] = 0
        mask = layout.offsets["evtchn_mask"]
        page[: layout.size] = layout.pack(kept)
        page[mask : mask + layout.sizes["evtchn_mask"]] = b"\xff" * layout.sizes["evtchn_mask"]
        info = self._domain.info()
        answers.frame("shared_info_frame", info.shared_info_frame)
        self._domain.memory.write(info.shared_info_frame, bytes(page))

    def _vcpu_infos(self, data: bytes) -> bytes:
        """Without pending events."""
        infos, layout = bytearray(data), self._width.vcpu_info.at(self._domain.xen.interface)
        offset, size = layout.offsets["evtchn_pending_sel"], layout.sizes["evtchn_pending_sel"]
        for start in range(offset, len(infos), layout.size):
            infos[start : start + size] = bytes(size)
        return bytes(infos)

    def _set_registers(self, part: PvVcpu, rings: Rings) -> Rings:
        context = VcpuContext.decode(part.context, self._width.bits, self._domain.xen.interface)
        context = context.replace(flags=context["flags"] | ContextFlag.ONLINE)
        context = self._checked(context)
        if part.vcpu == 0:
            name = self._width.suspend
            frame = self.memory.own(context[name])
            rings = self._write_start_info(frame)
            context = context.replace(**{name: frame})
        self._domain.vcpu(part.vcpu).set_context(context)
        return rings

    def _checked(self, context: VcpuContext) -> VcpuContext:
        roots = [self._width.frame_of_cr3(context["cr3"])]
        if self._width.bits == 64 and context["cr1"] & 1:
            roots.append(context["cr1"] >> 12)
        for pfn in roots:
            self.memory.check_root(pfn)
        return pv_layout.renumber_registers(context, self._width, self.memory.frame, saving=False)

    def _write_start_info(self, frame: int) -> Rings:
        """The guest looks there for its rings. It has replaced their frames by pfns before the suspend."""
        layout = self._width.start_info.at(self._domain.xen.interface)
        store_port, console_port = self._ports
        with self._domain.memory.map(frame, writable=True) as mapped, memoryview(mapped) as view:
            fields = layout.unpack(view)
            if not bytes(fields["magic"]).startswith(_MAGIC):
                raise errors.DecodeError("the page that vcpu 0 passes is not the start_info of a guest")
            rings = Rings(
                self.memory.own(fields["store_mfn"]), store_port,
                self.memory.own(fields["console.domU.mfn"]), console_port,
            )  # fmt: skip
            changed = {
                "nr_pages": len(self.memory.numbers),
                "shared_info": self._domain.info().shared_info_frame * PAGE_SIZE,
                "flags": 0,
                "store_mfn": rings.store_frame,
                "store_evtchn": store_port,
                "console.domU.mfn": rings.console_frame,
                "console.domU.evtchn": console_port,
            }
            for name, value in changed.items():
                offset, code, _ = layout.places[name]
                struct.pack_into(f"{layout.order}{code}", view, offset, value)
        return rings
