# SPDX-License-Identifier: MIT
"""The library on releases that tell less, or tell it otherwise: None, Unsupported, or another way."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host, HostLink

import pyxc
from pyxc import Capability, CpuTopology, NumaNode, errors
from pyxc.abi import domctl, memory, sysctl, version
from pyxc.abi.operation import MULTICALL
from pyxc.abi.releases import RELEASES
from pyxc.sim import Hypervisor, named


@pytest.mark.parametrize("release", ["3.1", "3.4", "4.1", "4.4", "4.7"])
def test_what_is_not_told_is_none(boot: Boot, release: str) -> None:
    host = boot(release)
    since = host.truth.profile.since
    told = {
        "outstanding_pages": since(4, 3),
        "shr_pages": since(4, 0),
        "paged_pages": since(4, 2),
        "cpupool": since(4, 1),
        "gpaddr_bits": False,
        "emulation_flags": False,
    }
    info = host.xen.domains[1].info()
    assert {name: getattr(info, name) is not None for name in told} == told
    memory_info = host.xen.domains[1].memory.info()
    assert memory_info.shr_pages == info.shr_pages
    assert memory_info.outstanding_pages == info.outstanding_pages
    physical = host.xen.physinfo()
    assert (physical.max_cpu_id is not None) == since(3, 2)
    assert (physical.max_node_id is not None) == since(4, 0)
    assert (physical.outstanding_pages is not None) == since(4, 3)
    assert (physical.sockets_per_node is not None) == (not since(3, 2))
    assert physical.max_mfn is None


def test_cpus_are_counted_by_sockets_where_nothing_else_is_told(boot: Boot) -> None:
    host = boot("3.1")
    host.link.lie(sysctl.PHYSINFO, threads_per_core=2, cores_per_socket=4, sockets_per_node=3, nr_nodes=2)
    assert host.xen.physinfo().nr_cpus == host.xen.nr_cpus == 48


@pytest.mark.parametrize("release, core, socket, node", [
    ("3.1", False, False, False), ("3.4", False, False, True), ("4.1", True, True, True),
    ("4.4", True, True, True), ("4.7", True, True, True),
])  # fmt: skip
def test_where_cpus_sit(boot: Boot, release: str, core: bool, socket: bool, node: bool) -> None:
    known = [(cpu, cpu if core else None, 0 if socket else None, 0 if node else None) for cpu in (0, 1)]
    assert boot(release).xen.topology() == [CpuTopology(*place) for place in known]


def test_a_cpu_that_is_offline_sits_nowhere(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pyxc.sim.ops.sysctl._write_cpus",
        lambda call, field, count, place: call.memory.write(call[field], b"\xff" * 4 * count),
    )
    for release in ("3.4", "4.4"):
        assert boot(release).xen.topology()[1] == CpuTopology(1, None, None, None)


def test_nodes(boot: Boot) -> None:
    for release in ("4.1", "4.4", "4.7"):
        host = boot(release)
        machine = host.truth.machine
        assert host.xen.numa() == [NumaNode(0, machine.frames * 4096, machine.heap.free * 4096, (10,))]
    host = boot("3.4")
    assert host.xen.numa() == [NumaNode(0, None, host.truth.machine.heap.free * 4096, (None,))]
    with pytest.raises(errors.Unsupported, match=r"Xen 3.1 has no sysctl.(numainfo|availheap)"):
        boot("3.1").xen.numa()


def test_what_the_platform_can_do_where_physinfo_does_not_say(boot: Boot) -> None:
    host = boot("3.1")
    assert host.xen.physinfo().capability_bits is None
    assert host.xen.platform == Capability.PV | Capability.HVM
    without_hvm = boot("3.1")
    without_hvm.xen.capabilities = ("xen-3.0-x86_64", "xen-3.0-x86_32p")
    assert without_hvm.xen.platform == Capability.PV


@pytest.mark.parametrize("release", ["3.1", "3.4", "4.1"])
def test_a_full_console_ring_is_read_once(boot: Boot, release: str) -> None:
    host = boot(release)
    host.truth.console.print("x" * 20_000)
    assert host.xen.console.read() == b"x" * 16_384
    assert host.xen.console.clear() == b"x" * 16_384
    assert host.xen.console.read() == b""


def test_following_the_console(boot: Boot) -> None:
    for release in ("3.4", "4.1"):
        host = boot(release)
        console = host.xen.console
        everything, index = console.read_from()
        assert console.read_from(index) == (b"", index)
        host.truth.console.print("news\n")
        assert console.read_from(index) == (b"news\n", index + 5)
        assert console.read_from(index - 2)[0] == everything[-2:] + b"news\n"
        host.truth.console.print("y" * 20_000)
        assert console.read_from(index)[0] == b"y" * 16_384, "what is lost cannot be told"
    with pytest.raises(errors.Unsupported, match="an index exists since Xen 3.2"):
        boot("3.1").xen.console.read_from()


def test_soft_affinity_needs_4_5(boot: Boot) -> None:
    host = boot("4.4")
    vcpu = host.xen.domains[1].vcpu(0)
    before = host.link.hypercalls
    with pytest.raises(errors.Unsupported, match="soft affinity exists since Xen 4.5"):
        vcpu.set_affinity(hard=[0], soft=[1])
    assert host.link.hypercalls - before <= 1, "no more than to count the cpus"
    assert vcpu.set_affinity(hard=[0]) == (frozenset({0}), None)


@pytest.mark.parametrize("release", ["3.1", "3.4"])
def test_types_of_frames_before_4_0(boot: Boot, release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot(release)
    found = host.xen.domains[1].memory.frames(types=True)
    assert found.types is not None
    pairs = zip(found.frames, found.types)
    assert {frame: kind << 28 for frame, kind in pairs if kind} == {
        mfn: kind for mfn, kind in host.truth.machine.types.items() if mfn in host.owned(1)
    }
    with pytest.raises(errors.Unsupported, match="only machine frames have types"):
        host.xen.domains[2].memory.frames(types=True)
    monkeypatch.setattr("pyxc.domain.frame_types._FRAME_MASK", 0xFFF)
    with pytest.raises(errors.Unsupported, match="only frames up to 0xfff have types"):
        host.xen.domains[1].memory.frames(types=True)


@pytest.mark.parametrize("release", ["3.1", "3.4", "4.1", "4.4", "4.7", "4.10"])
def test_a_pv_guest_without_p2m_has_the_hypervisors_list(boot: Boot, release: str) -> None:
    host = boot(release)
    host.publish(3, max_pfn=0)
    found = host.xen.domains[3].memory.frames()
    assert (found.source, set(found.frames)) == ("getmemlist", host.owned(3))


def test_a_pv_guest_that_says_nothing_of_itself_has_no_highest_frame(boot: Boot) -> None:
    for release in ("3.1", "4.1", "4.4"):
        host = boot(release)
        assert host.xen.domains.create().memory.maximum_gpfn() == 0
        assert host.xen.domains[1].memory.maximum_gpfn() == host.published(1, "max_pfn") - 1
    host.link.fail(MULTICALL, errno.EPERM)
    with pytest.raises(errors.PermissionDenied):
        host.xen.domains[1].memory.maximum_gpfn()


def test_memory_on_demand_came_with_3_4(boot: Boot) -> None:
    new = boot("3.4")
    new.link.lie(memory.GET_POD_TARGET, pod_entries=5)
    with pytest.raises(errors.Unsupported, match="would populate 5 pages on demand"):
        new.xen.domains[2].memory.frames()
    assert boot("3.1").xen.domains[2].memory.frames().source == "map"


@pytest.mark.parametrize(
    "release, options, what",
    [
        ("4.7", {"max_grant_frames": 4}, "createdomain takes limits only since Xen 4.12"),
        ("4.10", {"max_evtchn_port": 127}, "createdomain takes limits only since Xen 4.12"),
        ("3.1", {"hvm": True, "hap": True}, "createdomain can choose hap only since Xen 3.3"),
    ],
)
def test_what_a_new_domain_cannot_be_given(
    boot: Boot, release: str, options: dict[str, int], what: str
) -> None:
    host = boot(release)
    with pytest.raises(errors.Unsupported, match=what):
        host.xen.domains.create(**options)  # type: ignore[arg-type]
    assert sorted(host.truth.domains) == [0, 1, 2, 3]


def test_an_id_that_is_taken(boot: Boot) -> None:
    for release in ("3.1", "4.10"):
        with pytest.raises(errors.HypercallError, match="createdomain.*EINVAL"):
            boot(release).xen.domains.create(domid=3)


def test_vcpus_of_a_domain_that_has_none_are_not_believed(boot: Boot) -> None:
    host = boot("4.4")
    made = host.xen.domctl("createdomain", 0, handle=bytes(16)).field("domid")
    assert made not in {vcpu.domid for vcpu in host.xen.vcpus()}
    host.link.lie(domctl.GETDOMAININFO, max_vcpu_id=0x5A5A5A5A)
    assert host.xen.domains[made].info().nr_vcpus == 0


def test_destroying_asks_again_as_long_as_xen_wants(boot: Boot) -> None:
    host = boot("4.4")
    host.link.fail(domctl.DESTROYDOMAIN, errno.EAGAIN, times=3)
    host.xen.domains[3].destroy()
    assert host.link.pending == 0
    assert 3 not in host.truth.domains


@pytest.mark.parametrize("numbers", [(3, 2), (4, 2)], ids=["3.0.3", "3.0.4"])
def test_xen_3_0_3_and_3_0_4_are_refused_by_name(numbers: tuple[int, int]) -> None:
    truth = Hypervisor(named("sim:xen-3.1"), with_guests=False)
    truth.interface = truth.interface._replace(domctl=numbers[0], sysctl=numbers[1])
    link = HostLink(truth, truth.interface, "sim:")
    link.lie(version.VERSION, result=3 << 16)
    with pytest.raises(errors.VersionMismatch, match=r"Xen 3.0.3 and 3.0.4 \(domctl 3 and 4, sysctl 2\)"):
        pyxc.connect(link)
    assert link.pool.outstanding == 0


def test_without_privilege_an_old_xen_says_so_before_it_looks_at_the_version() -> None:
    truth = Hypervisor(named("sim:xen-3.1"), with_guests=False)
    link = HostLink(truth, truth.interface, "sim:")
    link.fail(sysctl.GETDOMAININFOLIST, errno.EPERM)
    with pytest.raises(errors.NotXenError, match="this is not dom0"):
        pyxc.connect(link)


def test_a_number_with_two_layouts_is_read_as_the_release_says(boot: Boot) -> None:
    host: Host = boot("3.4")
    link = HostLink(host.truth, host.truth.interface, "sim:")
    link.lie(version.VERSION, result=3 << 16 | 2)
    with pyxc.connect(link) as xen:
        assert (xen.interface.xen, xen.interface.sysctl) == ((3, 2), 6)
        assert xen.physinfo().capability_bits is None
        assert xen.physinfo().free_pages == host.truth.machine.heap.free


@pytest.mark.parametrize("release", sorted({interface.xen for interface in RELEASES}))
def test_every_interface_is_spoken(release: tuple[int, int]) -> None:
    """Also those of releases that are not simulated as such."""
    truth = Hypervisor(named("sim:xen-4.10")._replace(xen=release))
    with pyxc.connect(HostLink(truth, truth.interface, "sim:")) as xen:
        assert xen.interface == truth.interface
        assert [info.tot_pages for info in xen.domains.infos()] == [
            domain.tot_pages for domain in truth.sorted_domains()
        ]
        assert xen.physinfo().free_pages == truth.machine.heap.free
        assert len(xen.topology()) == 2
        assert len(xen.vcpus()) == len(xen.affinities()) == 6
        assert {len(domain.memory.frames().frames) for domain in xen.domains.values()} == {
            domain.tot_pages for domain in truth.domains.values()
        }
        made = xen.domains.create(hvm=True, hap=release >= (3, 3), max_vcpus=2)
        assert made.info().nr_vcpus == 2
        made.destroy()
