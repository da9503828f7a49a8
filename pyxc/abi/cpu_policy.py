# SPDX-License-Identifier: MIT
"""Cpu policies (public/sysctl.h, domctl.h, arch-x86/xen.h): CPUID leaves, MSRs, features.

sysctl get_cpu_policy and domctl get_cpu_policy exist since Xen 4.12, get_cpu_featureset since 4.7,
get_cpu_levelling_caps from 4.7 to 4.21.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.errno import XenErrno
from pyxc.abi.flags import Flags
from pyxc.abi.layout import HANDLE, U32, U64, Row, Table, pad
from pyxc.abi.operation import DOMCTL, SYSCTL, Operation, Stride


class Policy(IntEnum):
    """Policies of a host (XEN_SYSCTL_cpu_policy_*): maxima and defaults for kinds of domains."""

    RAW = 0
    """The processor's own values."""
    HOST = 1
    """Xen's own view of them."""
    PV_MAX = 2
    HVM_MAX = 3
    PV_DEFAULT = 4
    HVM_DEFAULT = 5


class Featureset(IntEnum):
    """Featuresets of a host (XEN_SYSCTL_cpu_featureset_*); the *_MAX ones since 4.18."""

    RAW = 0
    HOST = 1
    PV = 2
    HVM = 3
    PV_MAX = 4
    HVM_MAX = 5


class LevellingCap(Flags):
    """The parts of CPUID that the processor lets Xen hide (XEN_SYSCTL_CPU_LEVELCAP_*)."""

    FAULTING = 1 << 0
    ECX = 1 << 1
    EDX = 1 << 2
    EXTD_ECX = 1 << 3
    EXTD_EDX = 1 << 4
    XSAVE_EAX = 1 << 5
    THERMAL_ECX = 1 << 6
    L7S0_EAX = 1 << 7
    L7S0_EBX = 1 << 8


XEN_CPUID_NO_SUBLEAF: Final = 0xFFFFFFFF
"""The subleaf of a leaf without subleaves."""

LEAF_STRUCT = Table(
    "xen_cpuid_leaf", "sysctl",
    Row("leaf",    U32),
    Row("subleaf", U32),
    Row("a",       U32),
    Row("b",       U32),
    Row("c",       U32),
    Row("d",       U32),
    start=(0x12, (4, 12)),
)  # fmt: skip

MSR_STRUCT = Table(
    "xen_msr_entry", "sysctl",
    Row("idx",   U32),
    Row("flags", U32),
    Row("val",   U64),
    start=(0x12, (4, 12)),
)  # fmt: skip

# `leaves` and `msrs` were called `cpuid_policy` and `msr_policy` up to 4.17.
HOST_POLICY_STRUCT = Table(
    "xen_sysctl_cpu_policy", "sysctl",
    Row("index",     U32),
    Row("nr_leaves", U32),
    Row("nr_msrs",   U32),
    Row("_rsvd",     U32),
    Row("leaves",    HANDLE),
    Row("msrs",      HANDLE),
    start=0x12,
)  # fmt: skip

DOMAIN_POLICY_STRUCT = Table(
    "xen_domctl_cpu_policy", "domctl",
    Row("nr_leaves",   U32),
    Row("nr_msrs",     U32),
    Row("leaves",      HANDLE),
    Row("msrs",        HANDLE),
    Row("err_leaf",    U32, start=0x12),
    Row("err_subleaf", U32, start=0x12),
    Row("err_msr",     U32, start=0x12),
    pad(4, start=0x12),
    start=0x11,
)  # fmt: skip

FEATURESET_STRUCT = Table(
    "xen_sysctl_cpu_featureset", "sysctl",
    Row("index",       U32),
    Row("nr_features", U32),
    Row("features",    HANDLE),
    start=0xD,
)  # fmt: skip

LEVELLING_CAPS_STRUCT = Table(
    "xen_sysctl_cpu_levelling_caps", "sysctl", Row("caps", U32), start=0xD, stop=(0x16, (4, 22))
)

GET_CPU_LEVELLING_CAPS = Operation(SYSCTL, "get_cpu_levelling_caps", 25, LEVELLING_CAPS_STRUCT, changes=False)
GET_CPU_FEATURESET = Operation(SYSCTL, "get_cpu_featureset", 26, FEATURESET_STRUCT, changes=False)
_STRIDES = {"leaves": Stride(LEAF_STRUCT, "nr_leaves"), "msrs": Stride(MSR_STRUCT, "nr_msrs")}
GET_HOST_CPU_POLICY = Operation(
    SYSCTL, "get_host_cpu_policy", 29, HOST_POLICY_STRUCT, changes=False, strides=_STRIDES
)
GET_DOMAIN_CPU_POLICY = Operation(
    DOMCTL, "get_domain_cpu_policy", 82, DOMAIN_POLICY_STRUCT, changes=False, strides=_STRIDES
)
SET_DOMAIN_CPU_POLICY = Operation(
    DOMCTL, "set_domain_cpu_policy", 83, DOMAIN_POLICY_STRUCT, changes=True, start=(0x12, (4, 13)),
    hints={
        XenErrno.EINVAL: "the host's cpus, or this Xen, cannot show what is wanted",
        XenErrno.ERANGE: "a policy has no such leaf or MSR",
        XenErrno.EEXIST: "it was unpaused already",
    },
)  # fmt: skip
