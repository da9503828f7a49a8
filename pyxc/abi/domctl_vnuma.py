# SPDX-License-Identifier: MIT
"""domctl setvnumainfo (public/domctl.h): the virtual NUMA nodes of a domain."""

from __future__ import annotations

from pyxc.abi.layout import HANDLE, U32, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation

VNUMA_STRUCT = Table(
    "xen_domctl_vnuma", "domctl",
    Row("nr_vnodes",     U32),
    Row("nr_vmemranges", U32),
    Row("nr_vcpus",      U32),
    pad(4),
    Row("vdistance",     HANDLE),
    Row("vcpu_to_vnode", HANDLE),
    Row("vnode_to_pnode", HANDLE),
    Row("vmemrange",     HANDLE),
    start=0xA,
)  # fmt: skip
"""All arrays but `vmemrange` consist of u32; `vdistance` has nr_vnodes rows and columns."""

SETVNUMAINFO = Operation(DOMCTL, "setvnumainfo", 74, VNUMA_STRUCT, changes=True)
