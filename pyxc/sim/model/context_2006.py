# SPDX-License-Identifier: MIT
"""vcpu contexts of 2006, of both architectures: what Xen accepts, and what it makes of it."""

from __future__ import annotations

from typing import Any

from pyxc.abi.arch import ppc64, x86
from pyxc.abi.arch.x86 import ContextFlag
from pyxc.abi.domctl import PageType
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import Layout
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.context import EFLAGS_IF, GDT_ENTRIES_PER_FRAME, fix_selectors
from pyxc.sim.model.domain import Vcpu
from pyxc.sim.model.host import Host

_KERNEL = 0xC000_0000_0000_0000
_MSR = 0x8000_0000_0000_B032
"""64-bit, external interrupts, supervisor, with address translation on."""


def layout_of(xen: Host) -> Layout:
    powerpc = xen.profile.arch == "ppc64"
    return xen.layout(ppc64.VCPU_GUEST_CONTEXT_STRUCT if powerpc else x86.VCPU_GUEST_CONTEXT_STRUCT)


def install(xen: Host, vcpu: Vcpu, data: bytes) -> None:
    """Make a context a vcpu's, which is what makes it one that can run. Refusal (EINVAL), on x86 only."""
    layout = layout_of(xen)
    fields = layout.unpack(data)
    if xen.profile.arch == "ppc64":
        fields["sdr1"] = 0  # Xen has its own, and shows none
    else:
        _adopt_x86(xen, vcpu, fields)
    vcpu.context = layout.pack(fields)


def _adopt_x86(xen: Host, vcpu: Vcpu, fields: dict[str, Any]) -> None:
    """Privilege levels and interrupts are as Xen wants them; page tables are those of the first context."""
    fix_selectors(fields, 64)
    fields["user_regs.rflags"] |= EFLAGS_IF
    fields["flags"] &= ContextFlag.I387_VALID | ContextFlag.IN_KERNEL
    control = list(fields["ctrlreg"])
    if vcpu.context is None:
        _take_tables(xen, vcpu, control[3] >> 12, fields)
    else:
        control[3] = layout_of(xen).unpack(vcpu.context)["ctrlreg"][3]
    fields["ctrlreg"] = tuple(control)


def _take_tables(xen: Host, vcpu: Vcpu, root: int, fields: dict[str, Any]) -> None:
    frames = fields["gdt_frames"]
    used = -(-fields["gdt_ents"] // GDT_ENTRIES_PER_FRAME)
    if used > len(frames):
        raise Refusal(XenErrno.EINVAL)
    owner = vcpu.domain.domid
    if not all(xen.machine.owned_by(frame, owner) for frame in (root, *frames[:used])):
        raise Refusal(XenErrno.EINVAL)
    xen.machine.types.setdefault(root, PageType.L4TAB)


def powerpc_kernel(xen: Host, index: int) -> bytes:
    """The registers of a PowerPC kernel that idles."""
    gprs = [0] * 32
    gprs[1] = _KERNEL + 0x0060_3E90 + 0x1_0000 * index
    gprs[2] = _KERNEL + 0x0070_2A48
    gprs[13] = _KERNEL + 0x005F_0000 + 0x400 * index
    fields = {
        "user_regs.gprs": tuple(gprs),
        "user_regs.lr": _KERNEL + 0x1_2F64,
        "user_regs.pc": _KERNEL + 0x1_2F40,
        "user_regs.msr": _MSR,
        "user_regs.cr": 0x2400_0048,
    }
    return layout_of(xen).pack(fields)
