# SPDX-License-Identifier: MIT
"""vcpu contexts: what Xen accepts, what it makes of it, and what it shows."""

from __future__ import annotations

import struct
from typing import Any

from pyxc.abi import hvm_save
from pyxc.abi.arch import x86
from pyxc.abi.arch.x86 import ContextFlag
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import Layout
from pyxc.sim.model import page_tables
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain, Vcpu
from pyxc.sim.model.host import Host
from pyxc.sim.profiles import Profile

CR0 = 0x80050033
_CR0_TS = 1 << 3
CR4 = 0x660
EFLAGS_IF = 1 << 9
_EFLAGS_ALWAYS = 1 << 1
_EFLAGS_VM = 1 << 17
_EFLAGS_KNOWN = 0x3F7FD5
"""The flags that a processor has."""
_CLEANED = (4, 22)
"""Since when other flags are not kept, and the state of the FPU is always valid."""
_DR6 = 0xFFFF0FF0
_DR7 = 0x400
GDT_ENTRIES_PER_FRAME = 512
_MOST_LDT_ENTRIES = 8192
_TRAP = {64: struct.Struct("<2sH4sQ"), 32: struct.Struct("<2sHI")}
_KERNEL_RPL = {64: 3, 32: 1}
_CODE = ("user_regs.rip", "event_callback_eip", "syscall_callback_eip", "failsafe_callback_eip")
_ADDRESSES = (*_CODE, "user_regs.rsp", "kernel_sp", "fs_base", "gs_base_kernel", "gs_base_user")
_FROZEN = ("ctrlreg", "gdt_frames", "gdt_ents", "ldt_base", "ldt_ents")

Fields = dict[str, Any]


def layout_of(xen: Host, domain: Domain) -> Layout:
    """The layout of a domain's contexts: its own width, 64 bits for translated ones."""
    table = x86.VCPU_GUEST_CONTEXT_32_STRUCT if domain.address_size == 32 else x86.VCPU_GUEST_CONTEXT_STRUCT
    return xen.layout(table)


def shown(xen: Host, vcpu: Vcpu, context: bytes) -> bytes:
    """A stored context as getvcpucontext hands it out."""
    layout = layout_of(xen, vcpu.domain)
    fields = layout.unpack(context)
    fields["flags"] = (fields["flags"] & ~ContextFlag.ONLINE) | (0 if vcpu.down else ContextFlag.ONLINE)
    if xen.profile.since(*_CLEANED):
        fields["flags"] |= ContextFlag.I387_VALID
    return layout.pack(fields)


def install(xen: Host, vcpu: Vcpu, data: bytes) -> None:
    """Check a context as Xen does, and make it the vcpu's. Refusal."""
    domain, layout = vcpu.domain, layout_of(xen, vcpu.domain)
    fields = layout.unpack(data)
    old = layout.unpack(vcpu.context) if vcpu.context else None
    online = bool(fields["flags"] & ContextFlag.ONLINE)
    vcpu.down = not online
    if not domain.hvm:
        _check_pv(xen.profile, domain, fields)
        _normalise_pv(xen.profile, domain, fields)
        _adopt_tables(xen, domain, fields, old)
    elif old:
        _adopt_hvm(fields, old)
    else:
        return  # only an hvm context that is loaded makes a translated vcpu one that has registers to show
    vcpu.context = layout.pack(fields)


def load_record(xen: Host, vcpu: Vcpu, data: bytes) -> None:
    """The registers of a CPU record, which a translated vcpu then has; its layout is known since Xen 4.10."""
    vcpu.down = False
    if not xen.profile.since(4, 10):
        return
    layout = layout_of(xen, vcpu.domain)
    record = xen.layout(hvm_save.CPU_STRUCT).unpack(data)
    registers = (place.partition(".")[2] for place in layout.offsets if place.startswith("user_regs."))
    fields: Fields = {f"user_regs.{name}": record[name] for name in registers if name in record}
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        fields[f"user_regs.{name}"] = record[f"{name}_sel"]
    fields["flags"] = int(ContextFlag.I387_VALID)
    fields["ctrlreg"] = (record["cr0"], 0, record["cr2"], record["cr3"], record["cr4"], 0, 0, 0)
    fields["debugreg"] = (*(record[f"dr{index}"] for index in range(4)), 0, 0, record["dr6"], record["dr7"])
    vcpu.context = layout.pack(fields)


def _adopt_hvm(fields: Fields, old: Fields) -> None:
    """A translated vcpu's control registers are not set this way, and it has none of a PV guest's tables."""
    fields["ctrlreg"] = old["ctrlreg"]
    fields["flags"] &= ContextFlag.I387_VALID


def _canonical(address: int) -> bool:
    return address < 1 << 47 or address >= 2**64 - (1 << 47)


def _addresses(profile: Profile, fields: Fields) -> list[int]:
    """What has to be canonical in a 64-bit context: nothing up to 4.1, more than code since 4.8."""
    if not profile.since(4, 2):
        return []
    names = _ADDRESSES if profile.since(4, 8) else _CODE
    traps = [entry[3] for entry in _TRAP[64].iter_unpack(fields["trap_ctxt"])]
    return [*(fields[name] for name in names), *traps]


def _check_pv(profile: Profile, domain: Domain, fields: Fields) -> None:
    bad = fields["ldt_base"] % 4096 or fields["ldt_ents"] > _MOST_LDT_ENTRIES
    bad = bad or fields["gdt_ents"] > GDT_ENTRIES_PER_FRAME * len(fields["gdt_frames"])
    if domain.address_size == 64:
        bad = bad or not all(map(_canonical, _addresses(profile, fields)))
    else:
        bad = bad or (profile.since(*_CLEANED) and fields["user_regs.eflags"] & _EFLAGS_VM)
    if bad:
        raise Refusal(XenErrno.EINVAL)


def _normalise_pv(profile: Profile, domain: Domain, fields: Fields) -> None:
    """Privilege levels, interrupts and reserved bits as Xen enforces them."""
    fix_selectors(fields, domain.address_size)
    eflags = "user_regs.rflags" if domain.address_size == 64 else "user_regs.eflags"
    if profile.since(*_CLEANED):
        fields[eflags] = fields[eflags] & _EFLAGS_KNOWN & ~_EFLAGS_VM | _EFLAGS_ALWAYS
    fields[eflags] |= EFLAGS_IF
    control, debug = list(fields["ctrlreg"]), list(fields["debugreg"])
    control[0], control[4] = control[0] & _CR0_TS | CR0, CR4
    debug[4:8] = 0, 0, debug[6] | _DR6, debug[7] | _DR7
    used = -(-fields["gdt_ents"] // GDT_ENTRIES_PER_FRAME)
    frames = list(fields["gdt_frames"])
    fields["ctrlreg"], fields["debugreg"] = tuple(control), tuple(debug)
    fields["gdt_frames"] = tuple(frames[:used] + [0] * (len(frames) - used))


def fix_selectors(fields: Fields, address_size: int) -> None:
    """A kernel's selectors have at least the privilege level that Xen leaves to it."""
    rpl, trap = _KERNEL_RPL[address_size], _TRAP[address_size]
    for name in ("user_regs.cs", "user_regs.ss", "kernel_ss"):
        fields[name] = _selector(fields[name], rpl)
    traps = [(head, _selector(cs, rpl), *rest) for head, cs, *rest in trap.iter_unpack(fields["trap_ctxt"])]
    fields["trap_ctxt"] = b"".join(trap.pack(*entry) for entry in traps)


def _selector(selector: int, rpl: int) -> int:
    return selector if selector & 3 >= rpl else selector & ~3 | rpl


def _adopt_tables(xen: Host, domain: Domain, fields: Fields, old: Fields | None) -> None:
    """The page table root and descriptor frames: the domain's own, never changed once the vcpu has them.

    Up to 4.1 changes were ignored.
    """
    if old is not None:
        if xen.profile.since(4, 2) and any(fields[name] != old[name] for name in _FROZEN):
            raise Refusal(XenErrno.EOPNOTSUPP)
        fields.update({name: old[name] for name in _FROZEN})
        return
    cr3, user_cr3 = fields["ctrlreg"][3], fields["ctrlreg"][1]
    wide = domain.address_size == 64
    if wide and not user_cr3 and not fields["flags"] & ContextFlag.IN_KERNEL:
        raise Refusal(XenErrno.EINVAL)
    root = cr3 >> 12 if wide else (cr3 >> 12 | cr3 << 20) & 0xFFFFFFFF
    descriptors = [frame for frame in fields["gdt_frames"] if frame]
    if not all(xen.machine.owned_by(frame, domain.domid) for frame in (root, *descriptors)):
        raise Refusal(XenErrno.EINVAL)
    page_tables.adopt(xen, domain, root, page_tables.levels(domain))
