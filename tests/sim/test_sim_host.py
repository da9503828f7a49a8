# SPDX-License-Identifier: MIT
"""The host: what it says of itself, its console, hvm parameters, event channels, names."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from pyxc import sim
from pyxc.abi import domctl, event_channel, hvm, sysctl, sysctl_cpupool, version
from pyxc.abi.event_channel import Status
from pyxc.abi.features import Feature
from pyxc.abi.hvm import HvmParam
from pyxc.abi.sysctl import Capability
from pyxc.sim.model.access import ClientMemory
from pyxc.sim.model.console import RING_SIZE, ConsoleRing


def text(value: bytes) -> str:
    return value.split(b"\0")[0].decode()


def test_version(any_client: Any) -> None:
    major, minor = any_client.xen.profile.xen
    assert any_client.call(version.VERSION).result == major << 16 | minor
    assert text(any_client.call(version.EXTRAVERSION)["extraversion"]).startswith((".", "-unstable"))
    assert "xen-3.0-x86_64 " in text(any_client.call(version.CAPABILITIES)["capabilities"])
    assert text(any_client.call(version.COMPILE_INFO)["compile_by"]) == "pyxc"
    assert text(any_client.call(version.CHANGESET)["changeset"]) == ""
    assert any_client.call(version.PLATFORM_PARAMETERS)["virt_start"] == 0xFFFF800000000000
    assert any_client.call(version.GUEST_HANDLE)["handle"] == bytes(16)
    assert any_client.call(version.PAGESIZE).result == 4096
    assert any_client.raw(version.PAGESIZE, 8) == -errno.EINVAL


def test_commandline(client: Any) -> None:
    assert "dom0_mem=" in text(client.call(version.COMMANDLINE)["commandline"])


def test_features(client: Any) -> None:
    assert client.call(version.GET_FEATURES)["submap"] & Feature.DOM0
    assert client.call(version.GET_FEATURES, submap_idx=1).result == -errno.EINVAL


@pytest.mark.parametrize(("release", "none"), [((4, 17), errno.EINVAL), ((4, 20), errno.ENOBUFS)])
def test_build_id(client_of: Any, release: tuple[int, int], none: int) -> None:
    client = client_of(release)
    assert client.raw(version.BUILD_ID, 0) == 20
    answer = client.call(version.BUILD_ID, len=4092)
    assert answer.result == 20 and any(answer["buf"][:20])
    assert client.call(version.BUILD_ID, len=19).result == -errno.ENOBUFS
    assert client.call(version.BUILD_ID, len=0).result == -none


def test_strings_of_any_length(client_of: Any) -> None:
    client = client_of((4, 20))
    for operation, old in (
        (version.EXTRAVERSION2, version.EXTRAVERSION),
        (version.CAPABILITIES2, version.CAPABILITIES),
        (version.CHANGESET2, version.CHANGESET),
        (version.COMMANDLINE2, version.COMMANDLINE),
    ):
        (whole,) = client.call(old).fields.values()
        answer = client.call(operation, len=4092)
        assert answer["buf"][: answer.result].decode() == text(whole)


def test_physinfo(any_client: Any) -> None:
    answer = any_client.call(sysctl.PHYSINFO)
    frames = any_client.xen.machine.frames
    assert answer["threads_per_core"] * answer["cores_per_socket"] == 2
    assert answer.fields.get("nr_nodes", 1) == answer.fields.get("sockets_per_node", 1) == 1
    assert 0 < answer["free_pages"] < answer["total_pages"] < frames
    assert answer.fields.get("max_mfn", frames - 1) == frames - 1
    if any_client.xen.profile.since(3, 3):
        assert Capability.HVM in Capability(answer["capabilities"])


def test_free_memory_is_counted(client: Any) -> None:
    before = client.call(sysctl.PHYSINFO)["free_pages"]
    client.call(domctl.DESTROYDOMAIN, 3)
    after = client.call(sysctl.PHYSINFO)["free_pages"]
    assert after - before == 8192 + 2
    assert client.call(sysctl.AVAILHEAP)["avail_bytes"] == after * 4096


def test_topology(client: Any) -> None:
    arena = client.buffer(64)
    assert client.call(sysctl.CPUTOPOINFO)["num_cpus"] == 2
    answer = client.call(sysctl.CPUTOPOINFO, num_cpus=5, cputopo=arena.address)
    assert answer["num_cpus"] == 2
    assert struct.unpack_from("<6I", arena.view) == (0, 0, 0, 1, 0, 0)
    assert client.call(sysctl.CPUTOPOINFO, num_cpus=1, cputopo=8).result == -errno.EFAULT


def test_nodes(client: Any) -> None:
    info, far = client.buffer(16), client.buffer(4)
    assert client.call(sysctl.NUMAINFO)["num_nodes"] == 1
    both = {"meminfo": info.address, "distance": far.address}
    assert client.call(sysctl.NUMAINFO, num_nodes=64, **both)["num_nodes"] == 1
    size, free = struct.unpack_from("<2Q", info.view)
    assert size > free > 0
    assert struct.unpack_from("<I", far.view) == (10,)
    assert client.call(sysctl.NUMAINFO, num_nodes=1, distance=far.address)["num_nodes"] == 1
    assert client.call(sysctl.NUMAINFO, num_nodes=1, meminfo=info.address)["num_nodes"] == 1


def test_idle_time_grows(client: Any) -> None:
    arena = client.buffer(16)
    seen = []
    for _ in range(2):
        assert client.call(sysctl.GETCPUINFO, max_cpus=2, info=arena.address)["nr_cpus"] == 2
        seen.append(struct.unpack_from("<2Q", arena.view))
    client.call(domctl.PAUSEDOMAIN, 2)
    client.call(sysctl.GETCPUINFO, max_cpus=2, info=arena.address)
    assert struct.unpack_from("<2Q", arena.view)[1] > seen[1][1]


def test_cpupools(client: Any) -> None:
    arena = client.buffer(8)
    fields = {"cpumap.bitmap": arena.address, "cpumap.nr_bits": 64}
    answer = client.call(sysctl_cpupool.CPUPOOL_OP_INFO, cpupool_id=0, **fields)
    assert (answer["n_dom"], bytes(arena.view[:8])) == (4, b"\x03" + bytes(7))
    assert client.call(sysctl_cpupool.CPUPOOL_OP_INFO, cpupool_id=1, **fields).result == -errno.ENOENT
    assert client.call(sysctl_cpupool.CPUPOOL_OP_INFO, op=8, **fields).result == -errno.ENOSYS


def console(
    client: Any, operation: Any = sysctl.READCONSOLE, size: int = 16384, **fields: Any
) -> tuple[str, int]:
    arena = client.buffer(size)
    answer = client.call(operation, buffer=arena.address, count=size, **fields)
    assert answer.result == 0
    return bytes(arena.view[: answer["count"]]).decode(), answer["index"]


def test_the_boot_log_and_what_follows(client: Any) -> None:
    log, index = console(client)
    assert log.startswith("(XEN) Xen version 4.") and log.endswith("\n")
    keys = client.buffer(b"h?")
    assert client.call(sysctl.DEBUG_KEYS, keys=keys.address, nr_keys=2).result == 0
    news, after = console(client, incremental=1, index=index)
    assert news.startswith("(XEN) 'h' pressed") and "key 'q'" in news
    assert after == index + len(news)
    assert console(client)[0] == log + news


@pytest.mark.parametrize(("key", "expected"), [("q", "domain 3"), ("r", "d2v0"), ("m", "pages")])
def test_debug_keys(client: Any, key: str, expected: str) -> None:
    _, index = console(client)
    client.call(sysctl.DEBUG_KEYS, keys=client.buffer(key.encode()).address, nr_keys=1)
    assert expected in console(client, incremental=1, index=index)[0]
    assert client.call(sysctl.DEBUG_KEYS, keys=8, nr_keys=1).result == -errno.EFAULT


def test_clearing_forgets_what_was_read(client: Any) -> None:
    log, _ = console(client)
    first, _ = console(client, sysctl.READCONSOLE_CLEAR, size=4096)
    assert console(client)[0] == log[len(first) :]


def test_the_ring_keeps_the_end_and_its_index_wraps() -> None:
    ring = ConsoleRing()
    ring.print("a" * RING_SIZE + "bcd")
    piece = ring.read(2 * RING_SIZE)
    assert piece.data == b"a" * (RING_SIZE - 3) + b"bcd"
    assert ring.read(10, incremental=True, index=piece.next_index).data == b""
    assert ring.read(1, incremental=True, index=1).data == b"a"
    assert ring.read(2, incremental=True, index=piece.next_index - 2).data == b"cd"


def test_hvm_parameters(client: Any) -> None:
    index = int(HvmParam.STORE_EVTCHN)
    assert client.call(hvm.SET_PARAM, 2, index=index, value=2**64 - 1).result == 0
    assert client.call(hvm.GET_PARAM, 2, index=index)["value"] == 2**64 - 1
    assert client.call(hvm.GET_PARAM, 1, index=index).result == -errno.EINVAL
    assert client.call(hvm.GET_PARAM, 0x7000, index=index).result == -errno.ESRCH
    assert client.call(hvm.GET_PARAM, 0x7000, index=39).result == -errno.EINVAL


@pytest.mark.parametrize(
    ("release", "param", "value", "result"),
    [
        ((4, 17), HvmParam.TIMER_MODE, 4, -errno.EINVAL),
        ((4, 17), HvmParam.ACPI_S_STATE, 1, -errno.EINVAL),
        ((4, 17), HvmParam.PAE_ENABLED, 1, -errno.EINVAL),
        ((4, 10), HvmParam.PAE_ENABLED, 1, 0),
        ((4, 14), HvmParam.NESTEDHVM, 1, 0),
        ((4, 17), HvmParam.NESTEDHVM, 1, -errno.EINVAL),
        ((4, 17), HvmParam.ALTP2M, 1, 0),
        ((4, 20), HvmParam.ALTP2M, 1, -errno.EEXIST),
    ],
)
def test_values_of_hvm_parameters(
    client_of: Any, release: tuple[int, int], param: HvmParam, value: int, result: int
) -> None:
    assert client_of(release).call(hvm.SET_PARAM, 2, index=int(param), value=value).result == result


def test_some_parameters_are_set_once(client: Any) -> None:
    index = int(HvmParam.IOREQ_PFN)
    results = [client.call(hvm.SET_PARAM, 2, index=index, value=value).result for value in (0, 7, 7, 8)]
    assert results == [0, 0, 0, -errno.EEXIST]


def status(client: Any, domid: int, port: int) -> Any:
    return client.call(event_channel.STATUS, domid, port=port)


def test_a_channel_from_end_to_end(client: Any) -> None:
    offered = client.call(event_channel.ALLOC_UNBOUND, 3, remote_dom=0)["port"]
    assert offered == 3
    waiting = status(client, 3, offered)
    assert (waiting["status"], waiting["u"][:2]) == (Status.UNBOUND, b"\0\0")
    bound = client.call(event_channel.BIND_INTERDOMAIN, 3, remote_dom=3, remote_port=offered)
    local = bound["local_port"]
    assert status(client, 0, local)["u"] == struct.pack("<H2xI", 3, offered)
    assert status(client, 3, offered)["status"] == Status.INTERDOMAIN
    again = client.call(event_channel.BIND_INTERDOMAIN, remote_dom=3, remote_port=offered)
    assert again.result == -errno.EINVAL
    assert client.call(event_channel.CLOSE, port=local).result == 0
    assert status(client, 3, offered)["status"] == Status.UNBOUND
    assert client.call(event_channel.CLOSE, port=local).result == -errno.EINVAL


def test_other_ports(client: Any) -> None:
    virq = next(port for port in range(1, 20) if status(client, 0, port)["status"] == Status.VIRQ)
    assert status(client, 0, virq)["u"][:4] == bytes(4)
    assert status(client, 1, 60)["status"] == Status.CLOSED
    assert status(client, 1, 1 << 20).result == -errno.EINVAL
    assert status(client, 0x7000, 1).result == -errno.ESRCH
    assert client.call(event_channel.ALLOC_UNBOUND, 0x7FF0, remote_dom=0x7FF0).result == 0


def test_ports_run_out(client: Any) -> None:
    fields = {"max_vcpus": 1, "max_evtchn_port": 2, "max_grant_frames": 1, "grant_opts": 1}
    domid = client.call(domctl.CREATEDOMAIN, 0x7FF5, **fields)["domid"]
    results = [client.call(event_channel.ALLOC_UNBOUND, domid, remote_dom=0).result for _ in range(3)]
    assert results == [0, 0, -errno.ENOSPC]


def test_closing_the_end_of_a_domain_that_is_gone(client: Any) -> None:
    """xenstored closes its own at once."""
    found = {port: status(client, 0, port) for port in range(1, 20)}
    store, console = (
        port
        for port, answer in found.items()
        if (answer["status"], answer["u"][:2]) == (Status.INTERDOMAIN, b"\3\0")
    )
    client.call(domctl.DESTROYDOMAIN, 3)
    assert client.call(event_channel.CLOSE, port=store).result == -errno.EINVAL
    assert client.call(event_channel.CLOSE, port=console).result == 0


def test_every_start_is_the_same() -> None:
    def story() -> list[Any]:
        host = sim.connect().hypervisor
        host.hypercall(ClientMemory([]), 17, (0, 0, 0, 0, 0))
        return [[(vcpu.state, vcpu.times_ns, vcpu.context) for vcpu in host.vcpus()], host.clock_ns]

    assert story() == story()


def test_state_is_readable_at_a_glance(client: Any) -> None:
    assert repr(client.xen.domains[2]) == "<sim Domain 2, HVM, 32776 pages>"
    assert repr(client.xen.domains[2].vcpus[0]) == "<Vcpu 0 of domain 2, running>"
