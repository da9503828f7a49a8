# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc on simulated hosts: its surface, each method, and the bugs that it does not share."""

from __future__ import annotations

import errno
import gc
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hosts import Bind, truth_of

import pyxc
from pyxc.compat import target
from pyxc.compat import xc as module
from pyxc.compat.xc import Error, gone, xc

PV, PVH, PAUSED = 1, 2, 3
NOBODY = 4999
HANDLE = list(range(16))

SURFACE = """
domain_create(domid=0, ssidref=0, handle=None, flags=0, target=0, max_vcpus=1, max_grant_version=2)
domain_max_vcpus(dom, max, /)
domain_dumpcore(dom, corefile, /)
domain_pause(dom, /)
domain_unpause(dom, /)
domain_destroy(dom, /)
domain_destroy_hook(*_)
domain_resume(dom, fast, /)
domain_shutdown(dom, reason, /)
vcpu_setaffinity(domid, vcpu=0, cpumap=None)
domain_sethandle(dom, handle, /)
domain_getinfo(first_dom=0, max_doms=1024)
vcpu_getinfo(domid, vcpu=0)
gnttab_hvm_seed(domid, console_gmfn, xenstore_gmfn, console_domid, xenstore_domid)
hvm_get_param(domid, param)
hvm_set_param(domid, param, value)
get_device_group(domid, seg, bus, dev, func, /)
test_assign_device(domid, pci)
assign_device(domid, pci)
deassign_device(domid, pci)
sched_id_get()
sched_credit_domain_set(domid, weight=0, cap=65535)
sched_credit_domain_get(domid, /)
sched_credit2_domain_set(domid, weight=0, cap=None)
sched_credit2_domain_get(domid, /)
evtchn_alloc_unbound(domid, remote_dom)
evtchn_reset(dom)
physdev_map_pirq(domid, index, pirq)
physdev_pci_access_modify(domid, bus, dev, func, enable)
readconsolering(clear=0, index=0, incremental=0)
physinfo()
getcpuinfo(max_cpus)
topologyinfo()
numainfo()
xeninfo()
buildid()
shadow_control(dom, op=0)
shadow_mem_control(dom, mb=-1)
domain_setmaxmem(dom, maxmem_kb, /)
domain_set_target_mem(dom, mem_kb, /)
domain_set_memmap_limit(dom, map_limitkb, /)
domain_ioport_permission(domid, first_port, nr_ports, allow_access)
domain_irq_permission(domid, pirq, allow_access)
domain_iomem_permission(domid, first_pfn, nr_pfns, allow_access)
pages_to_kib(pages, /)
domain_set_time_offset(dom, offset, /)
domain_set_tsc_info(dom, tsc_mode, /)
domain_send_trigger(domid, trigger, vcpu=0)
send_debug_keys(keys)
dom_set_memshr(dom, enable, /)
cpupool_create(pool=4294967295, sched=5)
cpupool_destroy(pool, /)
cpupool_getinfo()
cpupool_addcpu(cpupool, cpu=-1)
cpupool_removecpu(cpupool, cpu=-1)
cpupool_movedomain(cpupool, domid)
cpupool_freeinfo()
flask_context_to_sid(context)
flask_sid_to_context(sid)
flask_load(policy)
flask_getenforce()
flask_setenforce(mode)
flask_access(src_context, tar_context, tar_class, req_permissions, *IGNORED)
""".replace("*IGNORED", "decided=0, auditallow=0, auditdeny=0, seqno=0")
"""The methods of Xen 4.15 to 4.22. Three defaults say what they mean: a free id is 0 as it was up to 4.21, no
handle is the original's, and no cap leaves the cap."""

KEYS = {
    "domain_getinfo": "domid online_vcpus max_vcpu_id hvm dying crashed shutdown paused blocked running "
    "mem_kb cpu_time maxmem_kb ssidref shutdown_reason cpupool handle",
    "vcpu_getinfo": "online blocked running cpu_time cpu cpumap",
    "physinfo": "nr_nodes threads_per_core cores_per_socket nr_cpus total_memory free_memory scrub_memory "
    "cpu_khz hw_caps virt_caps",
    "getcpuinfo": "idletime",
    "topologyinfo": "max_cpu_index cpu_to_core cpu_to_socket cpu_to_node",
    "numainfo": "max_node_index node_memsize node_memfree node_to_dma32_mem node_to_node_dist",
    "xeninfo": "xen_major xen_minor xen_extra xen_caps xen_pagesize platform_params xen_changeset "
    "xen_commandline cc_compiler cc_compile_by cc_compile_domain cc_compile_date",
    "sched_credit_domain_get": "weight cap",
    "sched_credit2_domain_get": "weight cap",
    "cpupool_getinfo": "cpupool sched n_dom cpulist",
}


def numbers(error: pytest.ExceptionInfo[Error]) -> tuple[Any, ...]:
    return error.value.args[0], error.value.errno


def test_the_surface_is_the_originals() -> None:
    def shown(name: str) -> str:
        signature = inspect.signature(getattr(xc, name))
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()][1:]
        return f"{name}{signature.replace(parameters=bare, return_annotation=signature.empty)}"

    ours = {name for name in dir(xc) if not name.startswith("_")}
    removed = {*gone._GONE, "domain_set_policy_cpuid", "linux_build", "getBitSize"}
    wanted = SURFACE.split("\n")[1:-1]
    assert len(wanted) == 63
    assert [shown(line.split("(")[0]) for line in wanted] == wanted
    assert ours - removed == {line.split("(")[0] for line in wanted}
    assert (module.XEN_SCHEDULER_CREDIT, module.XEN_SCHEDULER_CREDIT2) == (5, 6)


@pytest.mark.parametrize("name", [line.split("(")[0] for line in SURFACE.split("\n")[1:-1]])
def test_help_names_every_argument_and_the_result(name: str) -> None:
    method = getattr(xc, name)
    text = inspect.getdoc(method) or ""
    for parameter in list(inspect.signature(method).parameters)[1:]:
        assert parameter == "_" or parameter in text
    assert "Returns: " in text or "Raise Error" in text


def test_error_is_a_runtime_error_with_errno(libxc: xc) -> None:
    assert issubclass(Error, RuntimeError)
    with pytest.raises(Error) as caught:
        libxc.domain_pause(NOBODY)
    assert caught.value.args == (3, "No such process")
    assert str(caught.value) == "(3, 'No such process')"
    assert caught.value.errno == errno.ESRCH
    assert isinstance(caught.value.__cause__, pyxc.DomainNotFound)


def test_no_hypervisor_is_libxcs_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXC_TARGET", "sim:no-such")
    with pytest.raises(Error) as caught:
        xc()
    code, kind, text = caught.value.args
    assert (code, kind) == (1, "Internal error")
    assert text.startswith("xc_interface_open failed: 'sim:no-such' is not a simulated hypervisor")
    assert caught.value.errno == errno.EINVAL


def test_the_constructor_takes_nothing(libxc: xc) -> None:
    with pytest.raises(TypeError):
        xc(1)  # type: ignore[call-arg]


def test_all_handles_see_one_host(libxc: xc) -> None:
    libxc.domain_unpause(PAUSED)
    assert xc().domain_getinfo(PAUSED, 1)[0]["paused"] == 0


def test_a_handle_that_nobody_has_any_more_is_closed(libxc: xc) -> None:
    link = libxc._open.link
    other = xc()
    others = other._open.link
    del other
    gc.collect()
    with pytest.raises(ValueError):
        others.hypercall(17)
    assert link.hypercall(17) > 0


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_the_originals(bind: Bind, name: str) -> None:
    libxc = bind("4.10" if name == "sched_credit_domain_get" else "4.17")
    arguments = {"vcpu_getinfo": (PV,), "getcpuinfo": (4,)}
    answer = getattr(libxc, name)(*arguments.get(name, (PV,) if "domain_get" in name else ()))
    record = answer[0] if isinstance(answer, list) else answer
    assert type(record) is dict
    assert list(record) == KEYS[name].split()


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda libxc: libxc.domain_pause(), TypeError),
        (lambda libxc: libxc.domain_pause(dom=PV), TypeError),
        (lambda libxc: libxc.domain_pause(PV, 1), TypeError),
        (lambda libxc: libxc.domain_pause("1"), TypeError),
        (lambda libxc: libxc.domain_pause(1.0), TypeError),
        (lambda libxc: libxc.domain_pause(None), TypeError),
        (lambda libxc: libxc.domain_pause(2**31), OverflowError),
        (lambda libxc: libxc.vcpu_getinfo(PV, 2**40), OverflowError),
        (lambda libxc: libxc.domain_setmaxmem(PV, 2**64), OverflowError),
        (lambda libxc: libxc.hvm_set_param(PVH, 1, 2**64), OverflowError),
        (lambda libxc: libxc.vcpu_getinfo(dom=PV), TypeError),
        (lambda libxc: libxc.physinfo(1), TypeError),
        (lambda libxc: libxc.getcpuinfo(), TypeError),
        (lambda libxc: libxc.test_assign_device(PV, b"0x0,0x1,0x2,0x3"), TypeError),
    ],
)
def test_arguments_that_c_would_not_take(
    libxc: xc, call: Callable[[Any], Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        call(libxc)


def test_anything_that_is_a_number_is_one(libxc: xc) -> None:
    class Index:
        def __index__(self) -> int:
            return PV

    assert libxc.domain_pause(Index()) == 0
    assert libxc.domain_getinfo(True, 1)[0]["domid"] == PV


@pytest.mark.parametrize("name", gone._GONE)
def test_what_is_gone_says_why(libxc: xc, name: str) -> None:
    with pytest.raises(Error) as caught:
        getattr(libxc, name)(1, anything="at all")
    assert caught.value.args == (errno.ENOSYS, f"{name}: {gone._GONE[name]}")
    assert getattr(xc, name).__name__ == name


def test_domain_set_policy_cpuid_has_nothing_left_to_do(libxc: xc) -> None:
    assert libxc.domain_set_policy_cpuid(PV) == 0
    with pytest.raises(Error) as caught:
        libxc.domain_set_policy_cpuid(NOBODY)
    assert caught.value.errno == errno.ESRCH
    assert module.XEN_SCHEDULER_SEDF == 4


def test_a_newer_xen_is_managed_by_assumed_structures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXC_TARGET", "sim:xen-4.22")
    target.host.cache_clear()
    host = target.host("sim:xen-4.22")
    host.interface = host.interface._replace(domctl=0x19, sysctl=0x17)
    with pytest.raises(Error, match="accepted none of the known sysctl versions.*PYXC_ASSUME"):
        xc()
    monkeypatch.setenv("PYXC_ASSUME", "4.22")
    assert [info["domid"] for info in xc().domain_getinfo()] == [0, 1, 2, 3]
    target.host.cache_clear()


def test_a_second_handle_asks_nothing_that_is_known(bind: Bind) -> None:
    host = truth_of(bind())
    before = sum(host.counters.hypercalls)
    assert xc().domain_getinfo(1, 1)[0]["domid"] == 1
    assert sum(host.counters.hypercalls) == before + 1


def test_another_hypervisor_is_found_out_again(bind: Bind) -> None:
    assert [bind(release)._open.interface.xen for release in ("4.17", "4.22", "4.17")] == [
        (4, 17), (4, 22), (4, 17),
    ]  # fmt: skip
