# SPDX-License-Identifier: MIT
"""domctl ext_vcpucontext, vcpuextstate, vcpu_msrs (public/domctl.h): the state of a PV vcpu but registers."""

from __future__ import annotations

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, U8, U16, U32, U64, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation

EXT_VCPUCONTEXT_STRUCT = Table(
    "xen_domctl_ext_vcpucontext", "domctl",
    Row("vcpu",                      U32),
    Row("size",                      U32),
    Row("syscall32_callback_eip",    U64),
    Row("sysenter_callback_eip",     U64),
    Row("syscall32_callback_cs",     U16),
    Row("sysenter_callback_cs",      U16),
    Row("syscall32_disables_events", U8),
    Row("sysenter_disables_events",  U8),
    pad(2),
    Row("mcg_cap",                   U64, start=0x8, stop=0x9),
    Row("vmce.caps",                 U64, start=0x9),
    Row("vmce.mci_ctl2_bank0",       U64, start=0x9),
    Row("vmce.mci_ctl2_bank1",       U64, start=0x9),
    Row("vmce.mcg_ext_ctl",          U64, start=0xE),
    start=(0x5, (3, 2)),
)  # fmt: skip
"""`size` is that of the structure as the writer knows it."""

VCPUEXTSTATE_STRUCT = Table(
    "xen_domctl_vcpuextstate", "domctl",
    Row("vcpu",          U32),
    pad(4),
    Row("xfeature_mask", U64),
    Row("size",          U64),
    Row("buffer",        HANDLE),
    start=0x7,
)  # fmt: skip

VCPU_MSRS_STRUCT = Table(
    "xen_domctl_vcpu_msrs", "domctl",
    Row("vcpu",      U32),
    Row("msr_count", U32),
    Row("msrs",      HANDLE),
    start=0xA,
)  # fmt: skip

_CPUS: dict[int, str] = {
    XenErrno.EINVAL: "the vcpu was saved on cpus that have what those of this host do not"
}

SET_EXT_VCPUCONTEXT = Operation(DOMCTL, "set_ext_vcpucontext", 42, EXT_VCPUCONTEXT_STRUCT, changes=True)
GET_EXT_VCPUCONTEXT = Operation(DOMCTL, "get_ext_vcpucontext", 43, EXT_VCPUCONTEXT_STRUCT, changes=False)
SETVCPUEXTSTATE = Operation(DOMCTL, "setvcpuextstate", 62, VCPUEXTSTATE_STRUCT, changes=True, hints=_CPUS)
GETVCPUEXTSTATE = Operation(DOMCTL, "getvcpuextstate", 63, VCPUEXTSTATE_STRUCT, changes=False)
"""Without a buffer it reports a size that is enough, and the features of the vcpu."""
GET_VCPU_MSRS = Operation(DOMCTL, "get_vcpu_msrs", 72, VCPU_MSRS_STRUCT, changes=False)
"""Without a list it reports how many may come; those with a value of 0 are left out. An entry is
{index u32, - u32, value u64}."""
SET_VCPU_MSRS = Operation(DOMCTL, "set_vcpu_msrs", 73, VCPU_MSRS_STRUCT, changes=True, hints=_CPUS)
