# SPDX-License-Identifier: MIT
"""The features for a guest of a hypervisor (public/features.h)."""

from __future__ import annotations

from pyxc.abi.flags import Flags


class Feature(Flags):
    """The bits of xen_version get_features, submap 0 (1 << XENFEAT_*)."""

    WRITABLE_PAGE_TABLES = 1 << 0
    WRITABLE_DESCRIPTOR_TABLES = 1 << 1
    AUTO_TRANSLATED_PHYSMAP = 1 << 2
    SUPERVISOR_MODE_KERNEL = 1 << 3
    PAE_PGDIR_ABOVE_4GB = 1 << 4
    MMU_PT_UPDATE_PRESERVE_AD = 1 << 5
    HIGHMEM_ASSIST = 1 << 6
    GNTTAB_MAP_AVAIL_BITS = 1 << 7
    HVM_CALLBACK_VECTOR = 1 << 8
    HVM_SAFE_PVCLOCK = 1 << 9
    HVM_PIRQS = 1 << 10
    DOM0 = 1 << 11
    MEMORY_OP_VNODE_SUPPORTED = 1 << 13
    ARM_SMCCC_SUPPORTED = 1 << 14
    LINUX_RSDP_UNRESTRICTED = 1 << 15
    NOT_DIRECT_MAPPED = 1 << 16
    DIRECT_MAPPED = 1 << 17
    RUNSTATE_PHYS_AREA = 1 << 18
    VCPU_TIME_PHYS_AREA = 1 << 19
    DM_MSIX_ALL_WRITES = 1 << 20
