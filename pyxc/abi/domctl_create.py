# SPDX-License-Identifier: MIT
"""The flags (public/domctl.h, arch-x86/xen.h) and the label of a new domain, for domctl createdomain."""

from __future__ import annotations

from pyxc.abi.flags import Flags
from pyxc.abi.layout import Release


class CreateFlag(Flags):
    """createdomain.flags (XEN_DOMCTL_CDF_*)."""

    HVM = 1 << 0
    HAP = 1 << 1
    """Since 3.3."""
    S3_INTEGRITY = 1 << 2
    OOS_OFF = 1 << 3
    XS_DOMAIN = 1 << 4
    """Since 4.9; 1 << 5 in 4.7 and 4.8."""
    IOMMU = 1 << 5
    """Since 4.13."""
    NESTED_VIRT = 1 << 6
    """Since 4.15."""
    VPMU = 1 << 7
    """Since 4.16."""
    TRAP_UNMAPPED_ACCESSES = 1 << 8
    """Since 4.21."""


class EmulationFlag(Flags):
    """Which devices Xen emulates for an HVM domain (XEN_X86_EMU_*): arch.emulation_flags."""

    LAPIC = 1 << 0
    HPET = 1 << 1
    PM = 1 << 2
    RTC = 1 << 3
    IOAPIC = 1 << 4
    PIC = 1 << 5
    VGA = 1 << 6
    IOMMU = 1 << 7
    PIT = 1 << 8
    USE_PIRQ = 1 << 9
    VPCI = 1 << 10
    """Since 4.11."""


class MiscFlag(Flags):
    """arch.misc_flags (XEN_X86_*), since 4.15."""

    MSR_RELAXED = 1 << 0


def default_ssidref(release: Release) -> int:
    """The default label of a new domain: the policy's initial label for guests, "domU".

    Up to 4.5 there was none, and 0 is the policy's treatment of unlabelled domains.
    """
    if release < (4, 6):
        return 0
    return 11 if release < (4, 17) else 12
