# SPDX-License-Identifier: MIT
"""sysctl get_pmstat and pm_op (public/sysctl.h): performance and idle states of physical cpus.

Bounds are sysctl interface numbers; 6 is that of Xen 3.2 to 3.4: get_pmstat exists since 3.3, pm_op since
3.4.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, S32, U8, U32, U64, Row, Table, pad
from pyxc.abi.operation import SYSCTL, Operation, Stride

_XEN_3_3 = (0x6, (3, 3))
_XEN_3_4 = (0x6, (3, 4))


class PmStat(IntEnum):
    """get_pmstat.type (PMSTAT_*)."""

    GET_MAX_PX = 0x11
    GET_PXSTAT = 0x12
    RESET_PXSTAT = 0x13
    GET_MAX_CX = 0x21
    GET_CXSTAT = 0x22
    RESET_CXSTAT = 0x23


class Parameter(IntEnum):
    """set_para.ctrl_type: the limits, one of the governor "userspace", two of "ondemand"."""

    SCALING_MAX_FREQ = 1
    SCALING_MIN_FREQ = 2
    SCALING_SETSPEED = 3
    SAMPLING_RATE = 4
    UP_THRESHOLD = 5


GET_CPUFREQ_PARA: Final = 0x11
"""pm_op.cmd of the cpufreq governor's parameters."""
SET_CPUFREQ_GOV: Final = 0x12
SET_CPUFREQ_PARA: Final = 0x13
XEN_SYSCTL_PM_OP_GET_MAX_CSTATE: Final = 0x22
XEN_SYSCTL_PM_OP_SET_MAX_CSTATE: Final = 0x23
XEN_SYSCTL_PM_OP_ENABLE_TURBO: Final = 0x26
XEN_SYSCTL_PM_OP_DISABLE_TURBO: Final = 0x27
XEN_SYSCTL_CX_UNLIMITED: Final = 0xFFFFFFFF
"""The deepest allowed C-state if there is no limit."""
CPUFREQ_NAME_LEN: Final = 16
"""Bytes for the name of a governor or driver."""

PX_VAL_STRUCT = Table(
    "pm_px_val", "sysctl",
    Row("freq",      U64),
    Row("residency", U64),
    Row("count",     U64),
    start=_XEN_3_3,
)  # fmt: skip

_STAT_HEAD = (Row("type", U32), Row("cpuid", U32))

PX_STRUCT = Table(
    "xen_sysctl_get_pmstat", "sysctl",
    *_STAT_HEAD,
    Row("u.getpx.total",    U8),
    Row("u.getpx.usable",   U8),
    Row("u.getpx.last",     U8),
    Row("u.getpx.cur",      U8),
    pad(4),
    Row("u.getpx.trans_pt", HANDLE),
    Row("u.getpx.pt",       HANDLE),
    pad(8, stop=0x8),
    pad(48, start=0x8, stop=0x9),
    pad(64, start=0x9, stop=0xB),
    pad(32, start=0xB),
    start=_XEN_3_3,
)  # fmt: skip

CX_STRUCT = Table(
    "xen_sysctl_get_pmstat", "sysctl",
    *_STAT_HEAD,
    Row("u.getcx.nr",          U32),
    Row("u.getcx.last",        U32),
    Row("u.getcx.idle_time",   U64),
    Row("u.getcx.triggers",    HANDLE),
    Row("u.getcx.residencies", HANDLE),
    Row("u.getcx.pc2",         U64, start=0x9, stop=0xB),
    Row("u.getcx.pc3",         U64, start=0x8, stop=0xB),
    Row("u.getcx.pc6",         U64, start=0x8, stop=0xB),
    Row("u.getcx.pc7",         U64, start=0x8, stop=0xB),
    Row("u.getcx.cc3",         U64, start=0x8, stop=0xB),
    Row("u.getcx.cc6",         U64, start=0x8, stop=0xB),
    Row("u.getcx.cc7",         U64, start=0x9, stop=0xB),
    Row("u.getcx.nr_pc",       U32, start=0xB),
    Row("u.getcx.nr_cc",       U32, start=0xB),
    Row("u.getcx.pc",          HANDLE, start=0xB),
    Row("u.getcx.cc",          HANDLE, start=0xB),
    start=_XEN_3_3,
)  # fmt: skip

# `op` is the header's `cmd`, because the envelope also has a `cmd`.
_OP_HEAD = (Row("op", U32), Row("cpuid", U32))

# The parameters of the governor "ondemand" are zero under another governor.
PARA_STRUCT = Table(
    "xen_sysctl_pm_op", "sysctl",
    *_OP_HEAD,
    Row("u.get_para.cpu_num",                       U32),
    Row("u.get_para.freq_num",                      U32),
    Row("u.get_para.gov_num",                       U32),
    pad(4),
    Row("u.get_para.affected_cpus",                 HANDLE),
    Row("u.get_para.scaling_available_frequencies", HANDLE),
    Row("u.get_para.scaling_available_governors",   HANDLE),
    Row("u.get_para.scaling_driver",                U8, CPUFREQ_NAME_LEN),
    Row("u.get_para.cpuinfo_cur_freq",              U32),
    Row("u.get_para.cpuinfo_max_freq",              U32),
    Row("u.get_para.cpuinfo_min_freq",              U32),
    Row("u.get_para.scaling_cur_freq",              U32),
    Row("u.get_para.scaling_governor",              U8, CPUFREQ_NAME_LEN),
    Row("u.get_para.scaling_max_freq",              U32),
    Row("u.get_para.scaling_min_freq",              U32),
    Row("u.get_para.u.ondemand.sampling_rate_max",  U32),
    Row("u.get_para.u.ondemand.sampling_rate_min",  U32),
    Row("u.get_para.u.ondemand.sampling_rate",      U32),
    Row("u.get_para.u.ondemand.up_threshold",       U32),
    Row("u.get_para.turbo_enabled",                 U32, start=0x7, stop=0x8),
    Row("u.get_para.turbo_enabled",                 S32, start=0x8),
    pad(4, start=0x7),
    start=_XEN_3_4,
)  # fmt: skip

MAX_CSTATE_STRUCT = Table(
    "xen_sysctl_pm_op", "sysctl",
    *_OP_HEAD,
    Row("u.get_max_cstate", U32),
    pad(108, stop=0x7),
    pad(116, start=0x7),
    start=_XEN_3_4,
)  # fmt: skip

SET_MAX_CSTATE_STRUCT = Table(
    "xen_sysctl_pm_op", "sysctl",
    *_OP_HEAD,
    Row("u.set_max_cstate", U32),
    pad(108, stop=0x7),
    pad(116, start=0x7),
    start=_XEN_3_4,
)  # fmt: skip

SET_GOV_STRUCT = Table(
    "xen_sysctl_pm_op", "sysctl",
    *_OP_HEAD,
    Row("u.set_gov.scaling_governor", U8, CPUFREQ_NAME_LEN),
    pad(96, stop=0x7),
    pad(104, start=0x7),
    start=_XEN_3_4,
)  # fmt: skip

SET_PARA_STRUCT = Table(
    "xen_sysctl_pm_op", "sysctl",
    *_OP_HEAD,
    Row("u.set_para.ctrl_type",  U32),
    Row("u.set_para.ctrl_value", U32),
    pad(104, stop=0x7),
    pad(112, start=0x7),
    start=_XEN_3_4,
)  # fmt: skip

_NO_DRIVER = "the cpu is offline, or no driver in Xen controls its frequency"
_NO_STATES: dict[int, str] = {
    XenErrno.ENODEV: "Xen has no such states",
    XenErrno.EINVAL: "the cpu is offline, or dom0 has not uploaded its states",
}

GET_PMSTAT_MAX_PX = Operation(
    SYSCTL, "get_pmstat_max_px", 10, PX_STRUCT, changes=False, fixed={"type": PmStat.GET_MAX_PX},
    hints=_NO_STATES,
)  # fmt: skip
GET_PMSTAT_PXSTAT = Operation(
    SYSCTL, "get_pmstat_pxstat", 10, PX_STRUCT, changes=False, fixed={"type": PmStat.GET_PXSTAT},
    strides={"u.getpx.pt": Stride(PX_VAL_STRUCT, "u.getpx.total")},
    hints=_NO_STATES,
)  # fmt: skip
GET_PMSTAT_MAX_CX = Operation(
    SYSCTL, "get_pmstat_max_cx", 10, CX_STRUCT, changes=False, fixed={"type": PmStat.GET_MAX_CX},
    hints=_NO_STATES,
)  # fmt: skip
GET_PMSTAT_CXSTAT = Operation(
    SYSCTL, "get_pmstat_cxstat", 10, CX_STRUCT, changes=False, fixed={"type": PmStat.GET_CXSTAT},
    hints=_NO_STATES,
)  # fmt: skip
PM_OP_GET_PARA = Operation(
    SYSCTL, "pm_op_get_para", 12, PARA_STRUCT, changes=False, fixed={"op": GET_CPUFREQ_PARA},
    hints={XenErrno.EINVAL: _NO_DRIVER, XenErrno.ENODEV: _NO_DRIVER},  # ENODEV since 4.21
)  # fmt: skip
PM_OP_GET_MAX_CSTATE = Operation(
    SYSCTL, "pm_op_get_max_cstate", 12, MAX_CSTATE_STRUCT, changes=False,
    fixed={"op": XEN_SYSCTL_PM_OP_GET_MAX_CSTATE},
)  # fmt: skip
PM_OP_SET_MAX_CSTATE = Operation(
    SYSCTL, "pm_op_set_max_cstate", 12, SET_MAX_CSTATE_STRUCT, changes=True,
    fixed={"op": XEN_SYSCTL_PM_OP_SET_MAX_CSTATE},
)  # fmt: skip
PM_OP_SET_GOV = Operation(
    SYSCTL, "pm_op_set_gov", 12, SET_GOV_STRUCT, changes=True, fixed={"op": SET_CPUFREQ_GOV},
    hints={
        XenErrno.EINVAL: f"Xen has no governor of this name, or {_NO_DRIVER}",
        XenErrno.ENODEV: _NO_DRIVER,
    },
)  # fmt: skip
PM_OP_SET_PARA = Operation(
    SYSCTL, "pm_op_set_para", 12, SET_PARA_STRUCT, changes=True, fixed={"op": SET_CPUFREQ_PARA},
    hints={
        XenErrno.EINVAL: f"it is out of range, the governor does not have this parameter, or {_NO_DRIVER}",
        XenErrno.ENODEV: _NO_DRIVER,
    },
)  # fmt: skip
# These two need the cpu alone. Xen 3.4 does not have them (ENOSYS).
PM_OP_ENABLE_TURBO = Operation(
    SYSCTL, "pm_op_enable_turbo", 12, SET_PARA_STRUCT, changes=True,
    fixed={"op": XEN_SYSCTL_PM_OP_ENABLE_TURBO},
    hints={XenErrno.EINVAL: _NO_DRIVER, XenErrno.ENODEV: _NO_DRIVER},
)  # fmt: skip
PM_OP_DISABLE_TURBO = Operation(
    SYSCTL, "pm_op_disable_turbo", 12, SET_PARA_STRUCT, changes=True,
    fixed={"op": XEN_SYSCTL_PM_OP_DISABLE_TURBO},
    hints={XenErrno.EINVAL: _NO_DRIVER, XenErrno.ENODEV: _NO_DRIVER},
)  # fmt: skip
