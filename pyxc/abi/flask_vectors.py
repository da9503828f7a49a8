# SPDX-License-Identifier: MIT
"""Object classes and permissions of FLASK, as each release numbers them.

From xsm/flask/policy/security_classes and access_vectors in Xen's source: no public header has them, but the
hypervisor takes and gives these numbers. A class is counted from 1, a permission is a bit; both by their
order among those that a release has.
"""

from __future__ import annotations

from typing import NamedTuple

from pyxc.abi.layout import Bound, Release, Span


class _Permission(NamedTuple):
    name: str
    start: Bound = None
    stop: Bound = None


class _Class(NamedTuple):
    start: Bound
    permissions: tuple[_Permission, ...]


def _always(names: str) -> tuple[_Permission, ...]:
    """Permissions that every release has."""
    return tuple(_Permission(name) for name in names.split())


_P = _Permission

_CLASSES = {
    "xen": _Class(None, (
        _P("scheduler", stop=(4, 3)),
        *_always(
            "settime tbufcontrol readconsole clearconsole perfcontrol mtrr_add mtrr_del mtrr_read "
            "microcode physinfo quirk writeconsole readapic writeapic"
        ),
        _P("privprofile", stop=(4, 22)),
        _P("nonprivprofile", stop=(4, 22)),
        *_always(
            "kexec firmware sleep frequency getidle debug getcpuinfo heap pm_op mca_op lockprof "
            "cpupool_op"
        ),
        _P("sched_op", stop=(4, 3)),
        _P("tmem_op", (4, 3), (4, 13)),
        _P("tmem_control", (4, 3), (4, 13)),
        _P("hypfs_op", (4, 14)),
        _P("getscheduler", (4, 3)),
        _P("setscheduler", (4, 3)),
    )),
    "xen2": _Class((4, 5), (
        *_always("resource_op psr_cmt_op"),
        _P("psr_cat_op", (4, 6), (4, 11)),
        _P("psr_alloc", (4, 11)),
        _P("get_symbol", (4, 6)),
        _P("pmu_ctrl", (4, 6)),
        _P("pmu_use", (4, 6)),
        _P("get_cpu_levelling_caps", (4, 7), (4, 22)),
        _P("get_cpu_featureset", (4, 7)),
        _P("livepatch_op", (4, 7)),
        _P("gcov_op", (4, 9), (4, 11)),
        _P("coverage_op", (4, 11)),
        _P("set_parameter", (4, 10), (4, 14)),
        _P("get_dom0_console", (4, 19)),
    )),
    "domain": _Class(None, (
        *_always("setvcpucontext pause unpause resume create transition max_vcpus destroy"),
        _P("setvcpuaffinity", stop=(4, 3)),
        _P("getvcpuaffinity", stop=(4, 3)),
        _P("scheduler", stop=(4, 3)),
        _P("setaffinity", (4, 3)),
        _P("getaffinity", (4, 3)),
        _P("getscheduler", (4, 3)),
        *_always(
            "getdomaininfo getvcpuinfo getvcpucontext setdomainmaxmem setdomainhandle setdebugging "
            "hypercall settime set_target shutdown setaddrsize getaddrsize trigger"
        ),
        _P("getextvcpucontext", stop=(4, 8)),
        _P("setextvcpucontext", stop=(4, 8)),
        _P("getvcpuextstate", stop=(4, 8)),
        _P("setvcpuextstate", stop=(4, 8)),
        *_always("getpodtarget setpodtarget set_misc_info set_virq_handler"),
        _P("getpagingmempool", (4, 17)),
        _P("setpagingmempool", (4, 17)),
    )),
    "domain2": _Class((4, 3), (
        *_always("relabelfrom relabelto relabelself make_priv_for set_as_target"),
        _P("set_cpuid", stop=(4, 13)),
        _P("set_cpu_policy", (4, 13)),
        *_always("gettsc settsc setscheduler setclaim"),
        _P("set_max_evtchn", (4, 4), (4, 12)),
        _P("cacheflush", (4, 4)),
        _P("create_hardware_domain", (4, 5)),
        _P("set_vnumainfo", (4, 5)),
        _P("get_vnumainfo", (4, 5)),
        _P("psr_cmt_op", (4, 5)),
        _P("configure_domain", (4, 5), (4, 6)),
        _P("vm_event", (4, 6)),
        _P("soft_reset", (4, 7)),
        _P("mem_access", (4, 6)),
        _P("mem_paging", (4, 6)),
        _P("mem_sharing", (4, 6)),
        _P("psr_cat_op", (4, 6), (4, 11)),
        _P("psr_alloc", (4, 11)),
        _P("set_gnttab_limits", (4, 10), (4, 12)),
        _P("resource_map", (4, 11)),
        _P("get_cpu_policy", (4, 12)),
        _P("vuart_op", (4, 20)),
        _P("dt_overlay", (4, 20)),
        _P("set_llc_colors", (4, 20)),
        _P("get_domain_state", (4, 21)),
    )),
    "hvm": _Class(None, (
        *_always("sethvmc gethvmc setparam getparam"),
        _P("pcilevel", stop=(4, 9)),
        _P("irqlevel", stop=(4, 9)),
        _P("pciroute", stop=(4, 9)),
        *_always("bind_irq"),
        _P("cacheattr", stop=(4, 11)),
        _P("trackdirtyvram", stop=(4, 9)),
        *_always("hvmctl"),
        _P("mem_event", stop=(4, 6)),
        *_always("mem_sharing"),
        _P("audit_p2m", (4, 3)),
        _P("send_irq", (4, 3), (4, 9)),
        _P("share_mem", (4, 3)),
        _P("nested", (4, 3), (4, 15)),
        _P("altp2mhvm", (4, 6)),
        _P("altp2mhvm_op", (4, 6)),
        _P("dm", (4, 9)),
    )),
    "mmu": _Class(None, (
        *_always("map_read map_write pageinfo"),
        _P("pagelist", stop=(4, 11)),
        *_always("adjust stat"),
        _P("translategp", stop=(4, 3)),
        *_always("updatemp physmap pinpage"),
        _P("mfnlist", stop=(4, 3)),
        *_always("memorymap remote_remap"),
        _P("mmuext_op", (4, 3)),
        _P("exchange", (4, 3)),
        _P("target_hack", (4, 3)),
    )),
    "resource": _Class(None, (
        *_always("add remove use"),
        _P("use_iommu", (4, 10)),
        _P("use_iommu_nointremap", (4, 10)),
        _P("use_noiommu", (4, 10)),
        *_always(
            "add_irq remove_irq add_ioport remove_ioport add_iomem remove_iomem stat_device add_device "
            "remove_device plug unplug setup"
        ),
    )),
    "shadow": _Class(None, (
        *_always("disable enable logdirty"),
    )),
    "event": _Class(None, (
        *_always("bind send status"),
        _P("notify", stop=(4, 3)),
        *_always("create reset"),
    )),
    "grant": _Class(None, (
        *_always("map_read map_write unmap transfer setup copy query"),
    )),
    "security": _Class(None, (
        *_always("compute_av compute_create compute_member check_context load_policy compute_relabel"),
        _P("compute_user", stop=(4, 8)),
        *_always("setenforce setbool setsecparam add_ocontext del_ocontext"),
    )),
    "version": _Class((4, 7), (
        *_always(
            "xen_extraversion xen_compile_info xen_capabilities xen_changeset xen_pagesize "
            "xen_guest_handle xen_commandline xen_build_id"
        ),
    )),
    "argo": _Class((4, 12), (
        *_always("enable register_single_source register_any_source send"),
    )),
}  # fmt: skip


def _holds(start: Bound, stop: Bound, release: Release) -> bool:
    return Span.of(start, stop).holds((0, release))


def classes(release: Release) -> dict[str, int]:
    """Number of each object class by name."""
    names = [name for name, known in _CLASSES.items() if _holds(known.start, None, release)]
    return {name: number for number, name in enumerate(names, start=1)}


def permissions(release: Release, name: str) -> dict[str, int]:
    """Bit of each permission of a class by name."""
    known = [p.name for p in _CLASSES[name].permissions if _holds(p.start, p.stop, release)]
    return {permission: 1 << bit for bit, permission in enumerate(known)}
