# SPDX-License-Identifier: MIT
"""The hypervisor and its host, as the library tells of them."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

from pyxc import Capability, CpuTopology, NumaNode, Scheduler, errors
from pyxc.abi import sysctl, version
from pyxc.sim.model.build import COMMAND_LINE, build_id_of


def test_a_hypervisor_says_what_it_is(any_host: Host) -> None:
    xen, profile = any_host.xen, any_host.truth.profile
    assert str(xen.version) == profile.version
    assert xen.capabilities[0] == "xen-3.0-x86_64"
    assert ("xen-3.0-x86_32p" in xen.capabilities) == profile.pv32
    assert xen.commandline == (COMMAND_LINE if profile.since(4, 0) else None)
    assert xen.virt_start == 0xFFFF_8000_0000_0000
    assert (xen.build.compile_by, xen.build.compile_date) == ("pyxc", profile.built)
    assert xen.build.build_id == (build_id_of(profile.version).hex() if profile.since(4, 7) else None)


def test_a_hypervisor_without_build_id_has_none(host: Host) -> None:
    host.link.fail(version.BUILD_ID, errno.ENODATA)
    assert host.xen.build.build_id is None


def test_the_host_is_described(any_host: Host) -> None:
    info, truth, machine = any_host.xen.physinfo(), any_host.truth, any_host.truth.machine
    most = truth.possible_pcpus if truth.profile.since(4, 1) else 2
    assert (info.nr_cpus, any_host.xen.nr_cpus, info.cpu_khz) == (2, most, 2_400_000)
    assert (info.free_pages, info.free_memory_kb) == (machine.heap.free, machine.heap.free * 4)
    assert info.max_mfn == (machine.frames - 1 if truth.profile.since(4, 10) else None)
    assert info.total_memory_kb == info.total_pages * 4
    assert len(info.hw_cap) == 8


def test_what_the_platform_can_do_follows_the_release(boot: Boot) -> None:
    old, new = boot("4.10").xen, boot("4.22").xen
    assert Capability.HVM in old.platform and Capability.HVM in new.platform
    assert Capability.GNTTAB_V2 not in old.platform and old.grant_version == 1
    assert Capability.GNTTAB_V2 in new.platform and new.grant_version == 2
    assert (old.scheduler, new.scheduler) == (Scheduler.CREDIT, Scheduler.CREDIT2)
    assert old.physinfo().arch_capability_bits is None and new.physinfo().arch_capability_bits == 0


def test_a_scheduler_without_a_known_name_is_a_number(host: Host) -> None:
    host.link.lie(sysctl.SCHED_ID, sched_id=99)
    assert host.xen.scheduler == 99


def test_cpus_and_nodes(host: Host) -> None:
    assert host.xen.topology() == [CpuTopology(0, 0, 0, 0), CpuTopology(1, 1, 0, 0)]
    machine = host.truth.machine
    assert host.xen.numa() == [NumaNode(0, machine.frames * 4096, machine.heap.free * 4096, (10,))]


def test_what_the_hypervisor_does_not_know_is_none(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyxc.sim.ops.sysctl._LOCAL_DISTANCE", 2**32 - 1)
    (node,) = host.xen.numa()
    assert node.distances == (None,)
    host.xen.nr_cpus = 3
    host.link.lie(sysctl.CPUTOPOINFO, num_cpus=3)
    assert [cpu.core for cpu in host.xen.topology()] == [0, 1, 0]


def test_debug_keys_print_to_the_ring(host: Host) -> None:
    host.xen.console.clear()
    host.xen.debug_keys("hm")
    text = host.xen.console.read().decode()
    assert "'h' pressed" in text and "'m' pressed" in text


@pytest.mark.parametrize(
    ("keys", "message"), [("", "is empty"), ("x" * 1025, "1025"), ("ä", "keys is 'ä': debug keys are ASCII")]
)
def test_what_cannot_be_keys_never_gets_to_the_hypervisor(host: Host, keys: str, message: str) -> None:
    before = host.link.hypercalls
    with pytest.raises(ValueError, match=message):
        host.xen.debug_keys(keys)
    assert host.link.hypercalls == before


def test_the_console_is_read_cleared_and_followed(host: Host) -> None:
    console = host.xen.console
    everything = console.read()
    assert everything == console.read()
    assert f"Xen version {host.truth.profile.version}".encode() in everything
    pieces, index = console.read_from()
    assert pieces == everything
    assert console.read_from(index) == (b"", index)
    host.truth.console.print("news\n")
    assert console.read_from(index)[0] == b"news\n"
    assert console.clear().endswith(b"news\n")
    assert console.read() == b""
    assert repr(console) == "<Console of sim:xen-4.17>"


def test_a_full_ring_takes_more_than_one_reading(host: Host) -> None:
    host.truth.console.print("x" * 20_000)
    before = host.link.hypercalls
    assert host.xen.console.read() == b"x" * 16_384
    assert host.link.hypercalls - before == 2
    assert host.xen.console.clear() == b"x" * 16_384
    assert host.xen.console.read() == b""


def test_more_console_than_there_was_room_for_is_not_believed(host: Host) -> None:
    host.link.lie(sysctl.READCONSOLE, count=2**31)
    with pytest.raises(errors.DecodeError, match="reports 2147483648 characters"):
        host.xen.console.read()


def test_a_read_only_handle_reads_everything_and_changes_nothing(boot: Boot) -> None:
    xen = boot(readonly=True).xen
    assert xen.readonly
    assert xen.console.read().startswith(b"(XEN) ")
    assert len(xen.vcpus()) == len(xen.affinities()) == 6
    with pytest.raises(errors.ReadOnlyError):
        xen.console.clear()
    with pytest.raises(errors.ReadOnlyError):
        xen.debug_keys("h")
    with pytest.raises(errors.ReadOnlyError):
        xen.domains.create()
    with pytest.raises(errors.ReadOnlyError):
        xen.domains[1].destroy()


def test_every_call_gives_its_buffers_back_when_it_fails(host: Host) -> None:
    xen = host.xen
    for number in (errno.ENOMEM, errno.EINVAL, errno.EPERM, errno.EFAULT):
        for operation, ask in (
            (sysctl.PHYSINFO, xen.physinfo),
            (sysctl.NUMAINFO, xen.numa),
            (sysctl.CPUTOPOINFO, xen.topology),
            (sysctl.GETDOMAININFOLIST, xen.domains.infos),
            (sysctl.READCONSOLE, xen.console.read),
        ):
            host.link.fail(operation, number)
            with pytest.raises(errors.HypercallError) as caught:
                ask()
            assert (caught.value.errno, caught.value.operation) == (number, operation.full_name)
            assert host.link.pool.outstanding == 0
