# SPDX-License-Identifier: MIT
"""What vcpus do under a debugger: a kernel at work is a loop of 64 instructions of one byte.

The loop is the aligned block of memory around the instruction pointer. Only while the domain is debugged, and
only when it begins to run, does anything of this happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyxc.abi.arch import x86
from pyxc.abi.arch.x86 import PTE_FRAME_MASK, PTE_PRESENT, PTE_PSE, ContextFlag
from pyxc.sim.model import context
from pyxc.sim.model.domain import Domain, Vcpu
from pyxc.sim.model.host import Host

_INT3 = 0xCC
_BREAKPOINT = 3
_LOOP = 64
_LEVELS = 4


def run(xen: Host, domain: Domain) -> None:
    """Let a debugged domain run until its vcpus meet breakpoints, or end a step; each pauses it once more."""
    if not domain.debugged or domain.stopped or domain.address_size == 32:
        return
    for vcpu in domain.live_vcpus:
        if vcpu.context is not None and not (vcpu.down or vcpu.held):
            _run(xen, vcpu, vcpu.context)


def _run(xen: Host, vcpu: Vcpu, packed: bytes) -> None:
    domain, layout = vcpu.domain, context.layout_of(xen, vcpu.domain)
    fields = layout.unpack(packed)
    if not (domain.hvm or fields["flags"] & ContextFlag.IN_KERNEL):
        return
    for address in _loop(xen, domain, fields):
        if _byte(xen, domain, fields, address) == _INT3:
            vcpu.event = _BREAKPOINT
        elif not (vcpu.stepped or fields["user_regs.rflags"] & x86.EFLAGS_TF):
            continue
        domain.pauses += 1
        vcpu.context = layout.pack({**fields, "user_regs.rip": address + 1})
        return


def _loop(xen: Host, domain: Domain, fields: dict[str, Any]) -> Iterator[int]:
    """The addresses of the instructions from the present one on; none if there is no memory."""
    rip = fields["user_regs.rip"]
    start = rip - rip % _LOOP
    if _byte(xen, domain, fields, start) is not None:
        yield from (*range(rip, start + _LOOP), *range(start, rip))


def _byte(xen: Host, domain: Domain, fields: dict[str, Any], address: int) -> int | None:
    """What a vcpu with page tables of four levels has at an address."""
    frame = fields["ctrlreg"][3] >> 12
    for level in range(_LEVELS, 0, -1):
        shift = 12 + 9 * (level - 1)
        table = domain.machine_frame(frame)
        if not xen.machine.valid(table):
            return None
        entry = xen.machine.word(table, address >> shift & 511)
        if not entry & PTE_PRESENT:
            return None
        frame = (entry & PTE_FRAME_MASK) >> 12
        if entry & PTE_PSE and level > 1:
            frame += address >> 12 & (1 << shift - 12) - 1
            break
    mfn = domain.machine_frame(frame)
    return xen.machine.memory.read(mfn, address & 4095, 1)[0] if xen.machine.valid(mfn) else None
