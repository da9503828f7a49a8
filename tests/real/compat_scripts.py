# SPDX-License-Identifier: MIT
"""Calls of every method of xen.lowlevel.xc, good and bad: scripts for one side of a comparison."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from differential import GUEST, Side

import pyxc
from pyxc.abi.memory import Resource

NOBODY = 32000
HANDLE = list(range(1, 17))
HVM_AND_HAP = 3
CREDIT = 5
XENS_OWN_PORT = 0x3F8
"""The serial line, where its messages go."""

TRUNCATED = "an id of more than 16 bits was cut down to another domain's"


def host(side: Side) -> None:
    side.call("physinfo")
    side.call("getcpuinfo", 128)
    side.call("getcpuinfo", max_cpus=1)
    side.call("getcpuinfo")
    side.call("topologyinfo")
    side.call("numainfo", fixed="max_node_index is two too high")
    side.call("xeninfo")
    side.call("buildid")
    side.call("sched_id_get")
    side.call("pages_to_kib", 3)
    side.call("pages_to_kib", "3")


def console(side: Side) -> None:
    side.call("readconsolering")
    side.call("readconsolering", 0, 5, 1)
    side.call("readconsolering", incremental=1, index=2)
    side.call("readconsolering", "0")


def keys(side: Side) -> None:
    """First clear the ring of what the other side's keys printed."""
    side.silently("readconsolering", 1)
    side.call("send_debug_keys", keys="")
    side.call("send_debug_keys", "h")
    side.call("readconsolering", clear=1)
    side.call("readconsolering")
    side.call("send_debug_keys", 5)


def listing(side: Side) -> None:
    pv, linux = side.world.pv, side.world.linux
    side.call("domain_getinfo")
    side.call("domain_getinfo", 0, 1)
    side.call("domain_getinfo", 0, 0)
    side.call("domain_getinfo", first_dom=pv, max_doms=2)
    side.call("domain_getinfo", NOBODY, 1)
    side.call("domain_getinfo", "0")
    side.call("domain_getinfo", 65536, 1, fixed=TRUNCATED)
    side.call("vcpu_getinfo", pv)
    side.call("vcpu_getinfo", domid=linux, vcpu=0)
    side.call("vcpu_getinfo", pv, 99)
    side.call("vcpu_getinfo", NOBODY)
    side.call("vcpu_getinfo")
    side.call("vcpu_getinfo", 65536 + pv, fixed=TRUNCATED)


def lifecycle(side: Side) -> None:
    pv = side.create()
    side.call("domain_getinfo", pv, 1)
    pvh = side.create(handle=HANDLE, flags=HVM_AND_HAP, max_vcpus=2, max_grant_version=1)
    side.call("domain_getinfo", pvh, 1)
    made = side.call("domain_create", 0, side.world.ssidref, HANDLE, 0, pvh, 1, 2)
    side.adopt(made)
    side.call("domain_getinfo", made, 1)
    side.call("domain_create", domid=side.world.pv)
    side.call("domain_create", handle=[1, 2])
    side.call("domain_create", flags=1 << 30)
    side.call("domain_max_vcpus", made, 1)
    side.call("domain_max_vcpus", pv, 5)
    side.call("domain_max_vcpus", NOBODY, 1)
    side.call("domain_pause", pv)
    side.call("domain_unpause", pv)
    side.call("domain_getinfo", pv, 1)
    side.call("domain_pause", 0)
    side.call("domain_pause", 0.5)
    side.call("domain_unpause", NOBODY)
    side.call("domain_sethandle", pv, HANDLE)
    side.call("domain_getinfo", pv, 1)
    side.call("domain_sethandle", NOBODY, HANDLE)
    side.call("domain_shutdown", pv, 3)
    side.call("domain_getinfo", pv, 1)
    side.call("domain_shutdown", pvh, 2)
    side.call("domain_getinfo", pvh, 1)
    side.call("domain_resume", pvh, 1)
    side.call("domain_getinfo", pvh, 1)
    side.call("domain_shutdown", pvh, 2)
    side.call("domain_resume", pvh, 0)
    side.call("domain_resume", pv, 1)
    side.call("domain_resume", pvh, 1)
    side.call("domain_resume", NOBODY, 0)
    side.call("domain_shutdown", NOBODY, 0)
    side.call("domain_destroy_hook", pv)
    side.call("domain_destroy", pv)
    side.call("domain_destroy", NOBODY)
    side.call("domain_destroy", 0)


def affinities(side: Side) -> None:
    pv = side.create(max_vcpus=2)
    for cpus in ([1], [0, 1], [0, 0], [], [99], [-1], (0,), None):
        side.call("vcpu_setaffinity", pv, 1, cpus)
        side.call("vcpu_getinfo", pv, 1)
    side.call("vcpu_setaffinity", pv, 1, ["0"], fixed="a cpu that is no number: SystemError")
    side.call("vcpu_setaffinity", domid=pv, vcpu=0, cpumap=[0])
    side.call("vcpu_setaffinity", NOBODY, 0, [0])
    side.call("vcpu_setaffinity", pv, 7, [0])


def memory(side: Side) -> None:
    pv, pvh = side.create(), side.create(flags=HVM_AND_HAP)
    side.call("domain_setmaxmem", pv, 8192)
    side.call("domain_getinfo", pv, 1)
    side.call("domain_setmaxmem", pv, 2**31, fixed="no more than 2 TiB: OverflowError")
    side.call("domain_setmaxmem", NOBODY, 8192)
    side.call("domain_setmaxmem", pvh, 8192)
    side.call("domain_set_target_mem", pvh, 4096)
    side.call("domain_set_target_mem", pvh, 2**31, fixed="no more than 2 TiB: OverflowError")
    side.call("domain_set_target_mem", pv, 4096)
    side.call("domain_set_target_mem", NOBODY, 4096)
    side.call("domain_set_memmap_limit", pv, 8192)
    side.call("domain_set_memmap_limit", pvh, 8192)
    side.call("domain_set_memmap_limit", NOBODY, 8192)
    side.call("shadow_mem_control", pvh)
    side.call("shadow_mem_control", dom=pvh, mb=4)
    side.call("shadow_mem_control", pvh, -1)
    side.call("shadow_mem_control", NOBODY)
    side.call("shadow_control", pvh, 2)
    side.call("shadow_control", dom=pvh, op=0)
    side.call("shadow_control", pv)
    side.call("shadow_control", pv, 77)
    side.call("dom_set_memshr", pvh, 1)


def parameters(side: Side) -> None:
    pv, pvh = side.create(), side.create(flags=HVM_AND_HAP)
    side.call("hvm_set_param", pvh, 1, 0x1234)
    side.call("hvm_get_param", pvh, 1)
    side.call("hvm_set_param", domid=pvh, param=17, value=2**63, fixed="no value with the highest bit")
    side.call("hvm_set_param", pvh, 17, 5)
    side.call("hvm_get_param", domid=pvh, param=17)
    side.call("hvm_get_param", pvh, 999)
    side.call("hvm_get_param", pv, 1)
    side.call("hvm_set_param", NOBODY, 1, 1)
    side.call("domain_set_time_offset", pv, 3600)
    side.call("domain_set_time_offset", pv, -3600)
    side.call("domain_set_time_offset", NOBODY, 0)
    for mode in (0, 1, 2, 9):
        side.call("domain_set_tsc_info", pv, mode)
    side.call("domain_set_tsc_info", NOBODY, 0)
    side.call("domain_send_trigger", pvh, 0)
    side.call("domain_send_trigger", domid=pvh, trigger=0, vcpu=5)
    side.call("domain_send_trigger", pvh, 3)
    side.call("domain_send_trigger", pv, 99)


def grants(side: Side) -> None:
    pvh = side.create(flags=HVM_AND_HAP)
    side.call("gnttab_hvm_seed", pvh, 0x1234, 0x1235, 0, 0)
    side.note("the grant table", _first_grants(side.world.xen, pvh))
    servers = {"console_domid": 1, "xenstore_domid": 2}
    side.call("gnttab_hvm_seed", domid=pvh, console_gmfn=7, xenstore_gmfn=8, **servers)
    side.note("the grant table", _first_grants(side.world.xen, pvh))
    side.call("gnttab_hvm_seed", NOBODY, 1, 2, 0, 0)


def _first_grants(xen: pyxc.Xen, domid: int) -> str:
    with xen.link.map_resource(domid, int(Resource.GRANT_TABLE), 0, 0, 1) as table:
        return bytes(table)[:32].hex()


def core(side: Side) -> None:
    """The files are equal byte by byte. libxc takes minutes for a PVH guest: it maps every possible frame."""
    pv, path = side.world.pv, Path(f"/tmp/core.{side.name}")
    side.call("domain_dumpcore", pv, str(path))
    content = path.read_bytes()
    pages = [content[start : start + 4096] for start in range(0, len(content), 4096)]
    side.note("size", len(content))
    side.note("first page", [pages[0][start : start + 64].hex() for start in range(0, 4096, 64)])
    side.note("pages", [hashlib.sha256(page).hexdigest()[:16] for page in pages])
    side.call("domain_dumpcore", NOBODY, str(path))
    side.call("domain_dumpcore", pv, "/no/such/directory")
    side.call("domain_dumpcore", pv, "", fixed="an empty path: SystemError, no exception was set")
    path.unlink()


def devices(side: Side) -> None:
    pv, pvh = side.create(), side.create(flags=HVM_AND_HAP)
    side.call("domain_ioport_permission", pv, 0x300, 8, 1)
    side.call("domain_ioport_permission", domid=pv, first_port=0x300, nr_ports=8, allow_access=0)
    side.call("domain_ioport_permission", pv, XENS_OWN_PORT, 8, 1)
    side.call("domain_ioport_permission", pv, 65535, 5, 1)
    side.call("domain_ioport_permission", NOBODY, 0x300, 8, 1)
    side.call("domain_irq_permission", pv, 4, 1)
    side.call("domain_irq_permission", domid=pv, pirq=17, allow_access=1)
    side.call("domain_irq_permission", pv, 100_000, 1)
    side.call("domain_iomem_permission", pv, 0xFEB00, 2, 1)
    side.call("domain_iomem_permission", domid=pv, first_pfn=0xFEB00, nr_pfns=1, allow_access=0)
    side.call("domain_iomem_permission", pv, -1, 2, 1)
    side.call("evtchn_alloc_unbound", pv, 0)
    side.call("evtchn_alloc_unbound", domid=pv, remote_dom=0)
    side.call("evtchn_alloc_unbound", NOBODY, 0)
    side.call("evtchn_reset", pv)
    side.call("evtchn_alloc_unbound", pv, 0)
    side.call("evtchn_reset", dom=NOBODY)
    side.call("physdev_map_pirq", pv, 17, -1)
    side.call("physdev_map_pirq", domid=pv, index=18, pirq=20)
    side.call("physdev_map_pirq", pv, 100_000, 5)
    side.call("physdev_map_pirq", NOBODY, 17, -1)
    side.call("physdev_pci_access_modify", pv, 0, 1, 0, 1)
    side.call("get_device_group", pv, 0, 0, 1, 0)
    for method in ("test_assign_device", "assign_device", "deassign_device"):
        side.call(method, pvh, "0x0,0x0,0x1,0x0")
        side.call(method, domid=NOBODY, pci="0x0,0x0,0x1,0x1,0x0,0x0,0x1,0x2")
        side.call(method, pvh, "")
        side.call(method, pvh)


def pools(side: Side) -> None:
    pv = side.create()
    side.call("cpupool_getinfo")
    side.call("cpupool_freeinfo")
    side.call("cpupool_removecpu", 0, 1)
    side.call("cpupool_freeinfo")
    pool = side.call("cpupool_create", sched=CREDIT)
    side.call("cpupool_create", 0, CREDIT)
    side.call("cpupool_create", sched=99)
    side.call("cpupool_addcpu", pool, 0)
    side.call("cpupool_addcpu", cpupool=pool, cpu=-1)
    side.call("cpupool_movedomain", cpupool=pool, domid=pv)
    side.call("cpupool_movedomain", pool, 0)
    side.call("cpupool_movedomain", 77, pv)
    side.call("cpupool_getinfo")
    side.call("domain_getinfo", pv, 1)
    side.call("sched_credit_domain_get", pv)
    side.call("sched_credit_domain_set", pv, 512, 50)
    side.call("sched_credit_domain_get", pv)
    side.call("sched_credit_domain_set", domid=pv, weight=300)
    side.call("sched_credit_domain_set", pv, cap=20)
    side.call("sched_credit_domain_get", pv)
    side.call("sched_credit_domain_get", 0)
    side.call("cpupool_removecpu", pool)
    side.call("cpupool_destroy", pool)
    side.call("cpupool_movedomain", 0, pv)
    # Xen may stand still when a pool under credit loses its last cpu, and libxc takes no care of that.
    side.world.xen.pools[pool].set_scheduling(tslice_ms=1000)
    time.sleep(0.1)
    side.call("cpupool_removecpu", pool, 1)
    side.call("cpupool_destroy", pool)
    side.call("cpupool_destroy", pool)
    side.call("cpupool_addcpu", 0, 1)
    side.call("cpupool_getinfo")


def credit2(side: Side) -> None:
    pv = side.create()
    get, set_ = "sched_credit2_domain_get", "sched_credit2_domain_set"
    side.call(get, pv, fixed="always SystemError")
    side.call(set_, pv, 512, 50)
    side.call(get, pv, fixed="always SystemError")
    side.call(set_, domid=pv, weight=300, cap=0)
    side.call(set_, NOBODY, 256, 0)


def policy(side: Side) -> None:
    lost = "every failure said EPERM"
    present = side.world.xen.flask.present
    unless = "" if present else lost
    now = side.call("flask_getenforce", fixed=unless)
    side.call("flask_setenforce", mode=now or 0, fixed=unless)
    sid = side.call("flask_context_to_sid", context=GUEST, fixed=unless)
    side.call("flask_context_to_sid", "nobody", fixed=lost)
    side.call("flask_sid_to_context", sid or 1, fixed=unless)
    side.call("flask_sid_to_context", 2**31 - 1, fixed=unless)
    side.call("flask_access", GUEST, GUEST, 3, 0, fixed=unless)
    side.call("flask_load", b"no policy", fixed=lost)
    if "PYXC_POLICY" in os.environ:
        side.call("flask_load", policy=Path(os.environ["PYXC_POLICY"]).read_bytes())


SCRIPTS = (
    host, console, keys, listing, lifecycle, affinities, memory, parameters, grants, devices, pools, credit2,
    policy,
)  # fmt: skip
