# SPDX-License-Identifier: MIT
"""What Xen's example policy lets one type do to another: permissions by class of objects.

From the results of a real Xen 4.17 for every pair of types (FLASK_ACCESS).
"""

from __future__ import annotations

Rules = dict[tuple[str, str], dict[str, str]]

_RESOURCE_1 = "remove_irq remove_ioport remove_iomem"
_ARGO_1 = "enable register_any_source"
_ARGO_2 = "register_single_source send"
_DOMAIN_1 = (
    "setvcpucontext pause unpause resume create max_vcpus destroy setaffinity getaffinity "
    "getscheduler getdomaininfo getvcpuinfo getvcpucontext setdomainmaxmem setdomainhandle "
    "hypercall settime shutdown setaddrsize getaddrsize trigger getpodtarget setpodtarget "
    "set_misc_info getpagingmempool setpagingmempool"
)
_HVM_1 = "sethvmc gethvmc setparam getparam hvmctl altp2mhvm altp2mhvm_op dm"
_MMU_1 = "map_read map_write pageinfo adjust stat updatemp physmap pinpage memorymap mmuext_op"
_GRANT_1 = "map_read map_write unmap setup copy"
_HVM_2 = "sethvmc setparam getparam hvmctl altp2mhvm altp2mhvm_op dm"
_MMU_2 = "map_read map_write adjust updatemp physmap pinpage memorymap mmuext_op"
_DOMAIN2_1 = (
    "set_cpu_policy gettsc settsc setscheduler setclaim cacheflush set_vnumainfo get_vnumainfo "
    "psr_cmt_op soft_reset psr_alloc resource_map get_cpu_policy"
)
_GRANT_2 = "map_read map_write unmap copy"
_RESOURCE_2 = (
    "use_iommu use_iommu_nointremap use_noiommu add_irq remove_irq add_ioport remove_ioport "
    "add_iomem remove_iomem stat_device add_device remove_device plug unplug setup"
)
_VERSION_1 = "xen_extraversion xen_compile_info xen_capabilities xen_changeset xen_pagesize xen_guest_handle"

RULES: Rules = {
    ("xenboot_t", "dom0_t"): {"domain": "create"},
    ("xenboot_t", "domU_t"): {"domain": "create"},
    ("xenboot_t", "dom0_t_channel"): {"event": "create"},
    ("xen_t", "ioport_t"): {"resource": _RESOURCE_1},
    ("xen_t", "iomem_t"): {"resource": _RESOURCE_1},
    ("xen_t", "irq_t"): {"resource": _RESOURCE_1},
    ("xen_t", "device_t"): {"resource": _RESOURCE_1},
    ("dom0_t", "xen_t"): {
        "xen": (
            "settime tbufcontrol readconsole clearconsole perfcontrol mtrr_add mtrr_del mtrr_read "
            "microcode physinfo quirk writeconsole readapic writeapic privprofile nonprivprofile "
            "kexec firmware sleep frequency getidle debug getcpuinfo heap pm_op mca_op lockprof "
            "cpupool_op hypfs_op getscheduler setscheduler"
        ),
        "xen2": (
            "resource_op psr_cmt_op psr_alloc get_symbol pmu_ctrl pmu_use get_cpu_levelling_caps "
            "get_cpu_featureset livepatch_op coverage_op"
        ),
        "mmu": "memorymap",
        "resource": "setup",
        "version": (
            "xen_extraversion xen_compile_info xen_capabilities xen_changeset xen_pagesize "
            "xen_guest_handle xen_commandline xen_build_id"
        ),
        "argo": _ARGO_1,
    },
    ("dom0_t", "dom0_t"): {
        "domain": (
            "setvcpucontext max_vcpus setaffinity getaffinity getscheduler getdomaininfo "
            "getvcpuinfo getvcpucontext setdomainmaxmem setdomainhandle setdebugging hypercall "
            "settime setaddrsize getaddrsize trigger getpodtarget setpodtarget set_misc_info "
            "set_virq_handler getpagingmempool setpagingmempool"
        ),
        "domain2": (
            "set_cpu_policy gettsc settsc setscheduler set_vnumainfo get_vnumainfo psr_cmt_op "
            "psr_alloc get_cpu_policy"
        ),
        "hvm": "setparam getparam altp2mhvm_op",
        "mmu": "map_read map_write adjust stat updatemp physmap pinpage mmuext_op exchange",
        "resource": "add remove",
        "grant": "map_read map_write unmap setup copy query",
        "argo": _ARGO_2,
    },
    ("dom0_t", "domio_t"): {"mmu": "map_read map_write"},
    ("dom0_t", "domxen_t"): {"mmu": "map_read"},
    ("dom0_t", "security_t"): {
        "security": (
            "compute_av compute_create compute_member check_context load_policy compute_relabel "
            "setenforce setbool setsecparam add_ocontext del_ocontext"
        ),
    },
    ("dom0_t", "domU_t"): {
        "domain": _DOMAIN_1,
        "domain2": (
            "set_as_target set_cpu_policy gettsc settsc setscheduler setclaim cacheflush "
            "set_vnumainfo get_vnumainfo psr_cmt_op soft_reset psr_alloc resource_map "
            "get_cpu_policy"
        ),
        "hvm": _HVM_1,
        "mmu": _MMU_1,
        "resource": "add remove",
        "shadow": "disable enable logdirty",
        "grant": _GRANT_1,
        "security": "check_context",
        "argo": _ARGO_2,
    },
    ("dom0_t", "dm_dom_t"): {
        "domain": _DOMAIN_1,
        "domain2": (
            "make_priv_for set_cpu_policy settsc setscheduler setclaim cacheflush set_vnumainfo "
            "get_vnumainfo psr_cmt_op soft_reset psr_alloc resource_map get_cpu_policy"
        ),
        "hvm": _HVM_2,
        "mmu": _MMU_2,
        "shadow": "enable",
        "grant": _GRANT_1,
        "security": "check_context",
        "argo": _ARGO_2,
    },
    ("dom0_t", "isolated_domU_t"): {
        "domain": _DOMAIN_1,
        "domain2": _DOMAIN2_1,
        "hvm": _HVM_1,
        "mmu": _MMU_1,
        "shadow": "disable enable logdirty",
        "grant": _GRANT_1,
        "security": "check_context",
        "argo": _ARGO_2,
    },
    ("dom0_t", "prot_domU_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("dom0_t", "nomigrate_t"): {
        "domain": (
            "pause unpause resume destroy setaffinity getaffinity getscheduler getdomaininfo "
            "getvcpuinfo setdomainmaxmem shutdown getaddrsize trigger getpodtarget setpodtarget "
            "getpagingmempool setpagingmempool"
        ),
        "domain2": "relabelto set_vnumainfo",
        "grant": _GRANT_2,
        "argo": _ARGO_2,
    },
    ("dom0_t", "nomigrate_t_building"): {
        "domain": (
            "setvcpucontext create max_vcpus setaffinity getaffinity getscheduler getdomaininfo "
            "getvcpuinfo getvcpucontext setdomainmaxmem setdomainhandle hypercall settime "
            "setaddrsize getaddrsize set_misc_info getpagingmempool setpagingmempool"
        ),
        "domain2": (
            "relabelfrom set_cpu_policy settsc setscheduler setclaim cacheflush set_vnumainfo "
            "get_vnumainfo psr_cmt_op soft_reset psr_alloc resource_map get_cpu_policy"
        ),
        "hvm": _HVM_2,
        "mmu": _MMU_2,
        "shadow": "enable",
        "grant": "setup",
        "security": "check_context",
        "argo": _ARGO_2,
    },
    ("dom0_t", "ioport_t"): {"hvm": "bind_irq", "resource": _RESOURCE_2},
    ("dom0_t", "iomem_t"): {"hvm": "bind_irq", "resource": _RESOURCE_2},
    ("dom0_t", "irq_t"): {"hvm": "bind_irq", "resource": _RESOURCE_2},
    ("dom0_t", "device_t"): {"hvm": "bind_irq", "resource": _RESOURCE_2},
    ("dom0_t", "dom0_t_channel"): {"event": "send status create"},
    ("domU_t", "xen_t"): {"xen2": "pmu_use", "version": _VERSION_1, "argo": _ARGO_1},
    ("domU_t", "dom0_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("domU_t", "domio_t"): {"mmu": "map_read map_write"},
    ("domU_t", "domU_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("domU_t", "dm_dom_t"): {"argo": _ARGO_2},
    ("domU_t", "isolated_domU_t"): {"argo": _ARGO_2},
    ("domU_t", "prot_domU_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("domU_t", "nomigrate_t"): {"argo": _ARGO_2},
    ("domU_t", "nomigrate_t_building"): {"argo": _ARGO_2},
    ("dm_dom_t", "xen_t"): {"xen2": "pmu_use", "version": _VERSION_1, "argo": _ARGO_1},
    ("dm_dom_t", "dom0_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("dm_dom_t", "domU_t"): {"domain": "set_target", "argo": _ARGO_2},
    ("dm_dom_t", "dm_dom_t"): {"argo": _ARGO_2},
    ("dm_dom_t", "isolated_domU_t"): {"argo": _ARGO_2},
    ("dm_dom_t", "prot_domU_t"): {"argo": _ARGO_2},
    ("dm_dom_t", "nomigrate_t"): {"argo": _ARGO_2},
    ("dm_dom_t", "nomigrate_t_building"): {"argo": _ARGO_2},
    ("isolated_domU_t", "xen_t"): {"xen2": "pmu_use", "version": _VERSION_1, "argo": _ARGO_1},
    ("isolated_domU_t", "dom0_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("isolated_domU_t", "domU_t"): {"argo": _ARGO_2},
    ("isolated_domU_t", "dm_dom_t"): {"argo": _ARGO_2},
    ("isolated_domU_t", "isolated_domU_t"): {"argo": _ARGO_2},
    ("isolated_domU_t", "prot_domU_t"): {"argo": _ARGO_2},
    ("isolated_domU_t", "nomigrate_t"): {"argo": _ARGO_2},
    ("isolated_domU_t", "nomigrate_t_building"): {"argo": _ARGO_2},
    ("prot_domU_t", "xen_t"): {"xen2": "pmu_use", "version": _VERSION_1, "argo": _ARGO_1},
    ("prot_domU_t", "dom0_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("prot_domU_t", "domU_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("prot_domU_t", "dm_dom_t"): {"argo": _ARGO_2},
    ("prot_domU_t", "isolated_domU_t"): {"argo": _ARGO_2},
    ("prot_domU_t", "prot_domU_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("prot_domU_t", "nomigrate_t"): {"argo": _ARGO_2},
    ("prot_domU_t", "nomigrate_t_building"): {"argo": _ARGO_2},
    ("nomigrate_t", "xen_t"): {"xen2": "pmu_use", "version": _VERSION_1, "argo": _ARGO_1},
    ("nomigrate_t", "dom0_t"): {"grant": _GRANT_2, "argo": _ARGO_2},
    ("nomigrate_t", "domU_t"): {"argo": _ARGO_2},
    ("nomigrate_t", "dm_dom_t"): {"argo": _ARGO_2},
    ("nomigrate_t", "isolated_domU_t"): {"argo": _ARGO_2},
    ("nomigrate_t", "prot_domU_t"): {"argo": _ARGO_2},
    ("nomigrate_t", "nomigrate_t"): {"argo": _ARGO_2},
    ("nomigrate_t", "nomigrate_t_building"): {"argo": _ARGO_2},
    ("nomigrate_t_building", "xen_t"): {"xen2": "pmu_use", "version": _VERSION_1, "argo": _ARGO_1},
    ("nomigrate_t_building", "dom0_t"): {"argo": _ARGO_2},
    ("nomigrate_t_building", "domU_t"): {"argo": _ARGO_2},
    ("nomigrate_t_building", "dm_dom_t"): {"argo": _ARGO_2},
    ("nomigrate_t_building", "isolated_domU_t"): {"argo": _ARGO_2},
    ("nomigrate_t_building", "prot_domU_t"): {"argo": _ARGO_2},
    ("nomigrate_t_building", "nomigrate_t"): {"domain": "transition", "argo": _ARGO_2},
    ("nomigrate_t_building", "nomigrate_t_building"): {"argo": _ARGO_2},
    ("dom0_t_channel", "dom0_t"): {"event": "bind"},
    ("dom0_t_channel", "domU_t"): {"event": "bind"},
    ("dom0_t_channel", "dm_dom_t"): {"event": "bind"},
    ("dom0_t_channel", "isolated_domU_t"): {"event": "bind"},
    ("dom0_t_channel", "prot_domU_t"): {"event": "bind"},
    ("dom0_t_channel", "nomigrate_t"): {"event": "bind"},
}

WHERE: dict[tuple[str, bool], Rules] = {
    ("guest_writeconsole", True): {
        ("domU_t", "xen_t"): {"xen": "writeconsole"},
        ("dm_dom_t", "xen_t"): {"xen": "writeconsole"},
        ("isolated_domU_t", "xen_t"): {"xen": "writeconsole"},
        ("prot_domU_t", "xen_t"): {"xen": "writeconsole"},
        ("nomigrate_t", "xen_t"): {"xen": "writeconsole"},
        ("nomigrate_t_building", "xen_t"): {"xen": "writeconsole"},
    },
    ("prot_doms_locked", False): {
        ("dom0_t", "prot_domU_t"): {
            "domain": (
                "setvcpucontext pause create max_vcpus destroy setaffinity getaffinity "
                "getscheduler getdomaininfo getvcpuinfo getvcpucontext setdomainmaxmem "
                "setdomainhandle hypercall settime setaddrsize getaddrsize set_misc_info "
                "getpagingmempool setpagingmempool"
            ),
            "domain2": _DOMAIN2_1,
            "hvm": _HVM_1,
            "mmu": _MMU_1,
            "shadow": "disable enable logdirty",
            "grant": "setup",
            "security": "check_context",
        },
    },
}
"""What comes to the rules while a boolean is so."""
