# SPDX-License-Identifier: MIT
"""hvm_op (public/hvm/hvm_op.h, public/hvm/params.h): parameters and types of pages of HVM and PVH domains."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.layout import U16, U32, U64, Release, Row, Table, pad
from pyxc.abi.operation import HVM_OP, Operation


class HvmParam(IntEnum):
    """Numbers of the parameters (HVM_PARAM_*)."""

    CALLBACK_IRQ = 0
    STORE_PFN = 1
    STORE_EVTCHN = 2
    PAE_ENABLED = 4
    IOREQ_PFN = 5
    BUFIOREQ_PFN = 6
    VIRIDIAN = 9
    TIMER_MODE = 10
    HPET_ENABLED = 11
    IDENT_PT = 12
    DM_DOMAIN = 13
    ACPI_S_STATE = 14
    VM86_TSS = 15
    VPT_ALIGN = 16
    CONSOLE_PFN = 17
    CONSOLE_EVTCHN = 18
    ACPI_IOPORTS_LOCATION = 19
    MEMORY_EVENT_CR0 = 20
    MEMORY_EVENT_CR3 = 21
    MEMORY_EVENT_CR4 = 22
    MEMORY_EVENT_INT3 = 23
    NESTEDHVM = 24
    MEMORY_EVENT_SINGLE_STEP = 25
    BUFIOREQ_EVTCHN = 26
    PAGING_RING_PFN = 27
    MONITOR_RING_PFN = 28
    SHARING_RING_PFN = 29
    MEMORY_EVENT_MSR = 30
    TRIPLE_FAULT_REASON = 31
    IOREQ_SERVER_PFN = 32
    NR_IOREQ_SERVER_PAGES = 33
    VM_GENERATION_ID_ADDR = 34
    ALTP2M = 35
    X87_FIP_WIDTH = 36
    VM86_TSS_SIZED = 37
    MCA_CAP = 38


HVM_NR_PARAMS: Final = 39
"""The first number that is not a parameter, since Xen 4.10; see nr_params() for other releases."""

_NR_PARAMS: Final = (
    ((3, 1), 7),
    ((3, 2), 11),
    ((3, 3), 15),
    ((3, 4), 17),
    ((4, 1), 24),
    ((4, 2), 30),
    ((4, 3), 32),
    ((4, 5), 35),
    ((4, 6), 36),
    ((4, 7), 37),
    ((4, 9), 38),
    ((4, 10), HVM_NR_PARAMS),
)


class MemType(IntEnum):
    """What a page is to its guest (HVMMEM_*)."""

    RAM_RW = 0
    RAM_RO = 1
    MMIO_DM = 2


def nr_params(xen: Release) -> int:
    """The first number that is not a parameter in a release."""
    return [count for since, count in _NR_PARAMS if since <= xen][-1]


PARAM_STRUCT = Table(
    "xen_hvm_param", "xen",
    Row("domid", U16),
    pad(2),
    Row("index", U32),
    Row("value", U64),
)  # fmt: skip

SET_PARAM = Operation(HVM_OP, "set_param", 0, PARAM_STRUCT, changes=True, start=(3, 1))
GET_PARAM = Operation(HVM_OP, "get_param", 1, PARAM_STRUCT, changes=False, start=(3, 1))

GET_MEM_TYPE_STRUCT = Table(
    "xen_hvm_get_mem_type", "xen",
    Row("domid", U16),
    Row("mem_type", U16),
    pad(4),
    Row("pfn", U64),
    start=(4, 2),
)  # fmt: skip

GET_MEM_TYPE = Operation(HVM_OP, "get_mem_type", 15, GET_MEM_TYPE_STRUCT, changes=False, start=(4, 2))
"""Since log-dirty mode makes pages read-only, it shows that mode."""
