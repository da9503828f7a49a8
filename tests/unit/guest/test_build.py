# SPDX-License-Identifier: MIT
"""Guests built on simulated hosts: what Xen then knows of them, and what can be wanted of them."""

from __future__ import annotations

import gc
import os
import struct
import threading
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import (
    DecodeError,
    DomainFlag,
    HvmParam,
    PageType,
    ReadOnlyError,
    Unsupported,
    Vnuma,
    VnumaRange,
    sim,
)
from pyxc.abi import memory
from pyxc.abi.cpu_policy import Policy
from pyxc.abi.domctl import PAGE_PINNED
from pyxc.abi.errno import XenErrno
from pyxc.abi.hvm_save import HvmRecordType
from pyxc.errors import DomainNotFound, HypercallError
from pyxc.guest.built import BuiltDomain

UUID_OF_WEB = UUID("11111111-2222-4333-8444-555555555555")
EVERY_RELEASE = pytest.mark.parametrize("release", ["4.10", "4.14", "4.17", "4.17-xsm", "4.20", "4.22"])


def build(host: Host, kernel: str = "pvh", memory_kb: int = 16 << 10, **options: object) -> BuiltDomain:
    return host.xen.domains.build(sim.kernel(kernel), memory_kb=memory_kb, **options)


@EVERY_RELEASE
def test_a_pvh_guest(boot: Boot, release: str) -> None:
    host = boot(release)
    web = build(host, vcpus=3, uuid=UUID_OF_WEB, ramdisk=b"ramdisk", command_line="quiet")
    info = web.info()
    assert web.kind == "pvh"
    assert web == host.xen.domains[UUID_OF_WEB]
    assert info.flags == DomainFlag.HVM_GUEST | DomainFlag.HAP | DomainFlag.PAUSED
    assert (info.nr_vcpus, info.nr_online_vcpus, info.tot_pages, info.outstanding_pages) == (3, 1, 4105, 0)
    assert host.xen.link.maps == []
    assert web.memory.read(0x100, size=3) == b"\xf4\xeb\xfd"
    web.unpause()
    assert web.vcpu(0).info().online
    web.destroy()


@EVERY_RELEASE
def test_a_pv_guest(boot: Boot, release: str) -> None:
    host = boot(release)
    web = build(host, "pv", vcpus=3, uuid=UUID_OF_WEB, ramdisk=b"ramdisk", command_line="quiet")
    info = web.info()
    assert web.kind == "pv"
    assert web == host.xen.domains[UUID_OF_WEB]
    assert info.flags & ~DomainFlag.BLOCKED == DomainFlag.PAUSED
    assert (info.nr_vcpus, info.nr_online_vcpus, info.tot_pages, info.outstanding_pages) == (3, 1, 4096, 0)
    assert host.xen.link.maps == []
    context = web.vcpu(0).context()
    assert context["rip"] == 0xFFFFFFFF80200000
    types, owned = host.truth.machine.types, host.owned(web.domid)
    assert types[context["cr3"] >> 12] == PageType.L4TAB | PAGE_PINNED
    assert sorted(types[mfn] >> 28 & 7 for mfn in owned & types.keys()) == [1, 1, 2, 3, 4]
    web.unpause()
    web.destroy()


def test_rings_of_a_pv_guest(host: Host) -> None:
    web = build(host, "pv")
    assert [(port.port, port.remote_domid) for port in web.channels.ports()] == [
        (web.store_port, 0), (web.console_port, 0)
    ]  # fmt: skip
    with web.grants.map([0, 1], writable=True) as lent, memoryview(lent) as pages:
        pages[0], pages[4096] = 1, 2
    assert web.memory.read(web.console_frame, size=1) == b"\1"
    assert web.memory.read(web.store_frame, size=1) == b"\2"


def test_a_32_bit_pv_guest(boot: Boot) -> None:
    host = boot("4.10")
    web = build(host, "pv32", memory_kb=40 << 10)
    assert web.guest_bits() == 32
    context, types = web.vcpu(0).context(), host.truth.machine.types
    assert (context.width, context["eip"], context["cs"]) == (32, 0xC0100000, 0xE019)
    root = context["cr3"] >> 12
    assert types[root] == PageType.L3TAB | PAGE_PINNED
    assert sorted(types[mfn] >> 28 & 7 for mfn in host.owned(web.domid) & types.keys()) == [1, 1, 2, 3]
    assert sorted(host.m2p(mfn) for mfn in host.owned(web.domid)) == list(range(10 << 10))
    web.destroy()


def test_a_xen_without_32_bit_pv_guests(host: Host) -> None:
    with pytest.raises(Unsupported, match="set_address_size"):
        build(host, "pv32")
    assert len(host.xen.domains) == 4


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_more_memory_later(host: Host, kind: str) -> None:
    """A PV guest is told that it may have more, a PVH guest believes to have it already."""
    web = build(host, kind, memory_kb=16 << 10, max_memory_kb=64 << 10)
    own = 9 if kind == "pvh" else 0
    assert web.info().tot_pages == (16 << 8) + own
    assert web.info().max_memory_kb == (64 << 10) + 1024
    told = [(part["addr"], part["size"]) for part in host.truth.domains[web.domid].e820 if part["type"] == 1]
    assert told == [(0, 64 << 20)]
    if kind == "pvh":
        target = web.memory.pod_target()
        assert target.tot_pages == web.info().tot_pages
        assert target.pod_entries > target.pod_cache_pages
    web.destroy()


def test_the_builder_of_a_large_guest_needs_little_memory() -> None:
    truth = sim.Hypervisor(sim.named("sim:xen-4.17")._replace(frames=6 << 18), with_guests=False)
    with pyxc.connect(truth.connect()) as xen:
        tracemalloc.start()
        xen.domains.build(sim.kernel("pv"), memory_kb=4 << 20)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
        tracemalloc.stop()


def test_frames_of_a_pv_guest_in_pieces_of_all_sizes(host: Host) -> None:
    """The machine's memory has holes: whatever extents Xen gives, the p2m has each frame in its place."""
    machine = host.truth.machine
    for start in range(0, 1 << 15, 700):
        machine.heap.remove(range(start, start + 3))
    web = build(host, "pv", memory_kb=40 << 10)
    plan_p2m = [host.m2p(mfn) for mfn in sorted(host.owned(web.domid))]
    assert sorted(plan_p2m) == list(range(10 << 10))


def test_its_rings(host: Host) -> None:
    """As those who serve them look for them: parameters, ports that dom0 may bind, grants."""
    web = build(host)
    params = web.hvm_params
    assert params.read(HvmParam.STORE_PFN) == web.store_frame
    assert params.read(HvmParam.CONSOLE_PFN) == web.console_frame
    assert params.read(HvmParam.STORE_EVTCHN) == web.store_port
    assert params.read(HvmParam.CONSOLE_EVTCHN) == web.console_port
    assert [(port.port, port.remote_domid) for port in web.channels.ports()] == [
        (web.store_port, 0), (web.console_port, 0)
    ]  # fmt: skip
    with web.grants.map([0, 1], writable=True) as lent, memoryview(lent) as pages:
        pages[0], pages[4096] = 1, 2
    assert web.memory.read(web.console_frame, size=1) == b"\1"
    assert web.memory.read(web.store_frame, size=1) == b"\2"


def test_its_first_registers(host: Host) -> None:
    record = build(host).hvm_context.record(HvmRecordType.CPU)
    entry, (start_info,) = struct.unpack_from("<Q", record, 640)[0], struct.unpack_from("<Q", record, 520)
    assert entry == 0x100000
    assert start_info == 0x103000


def test_memory_over_4_gib_is_around_the_hole() -> None:
    truth = sim.Hypervisor(sim.named("sim:xen-4.17")._replace(frames=6 << 18), with_guests=False)
    with pyxc.connect(truth.connect()) as xen:
        web = xen.domains.build(sim.kernel("pvh"), memory_kb=4 << 20)
        assert web.info().tot_pages == (1 << 20) + 9
        assert len(web.memory.read(0x103FFF)) == 4096
        for hole in (0xFC001, 0x104000):
            with pytest.raises(HypercallError):
                web.memory.read(hole)


def test_where_it_runs(host: Host) -> None:
    host.xen.pools[0].remove_cpu(1)
    pool = host.xen.pools.create()
    pool.add_cpu(1)
    web = build(host, vcpus=2, pool=pool, cpus=[1], nodes=[0])
    assert web.pool() == pool
    assert [vcpu.affinity().hard for vcpu in web.vcpus] == [frozenset([1])] * 2
    assert web.node_affinity() == frozenset([0])


def test_what_its_cpus_show(host: Host) -> None:
    policy = host.xen.cpu_policies.host(Policy.HVM_DEFAULT)
    assert build(host).cpu_policy().has("avx")
    assert not build(host, cpu_policy=policy.with_(avx=False)).cpu_policy().has("avx")


def test_the_files_of_a_guest(host: Host, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(sim.kernel("pvh"))
    (tmp_path / "ramdisk").write_bytes(b"ramdisk")
    web = host.xen.domains.build(tmp_path / "kernel", ramdisk=str(tmp_path / "ramdisk"), memory_kb=8192)
    assert web.memory.read(0x103, size=7) == b"ramdisk"
    with pytest.raises(FileNotFoundError):
        host.xen.domains.build(tmp_path / "none", memory_kb=8192)


def test_progress(host: Host) -> None:
    told: list[tuple[int, int]] = []
    build(host, memory_kb=5 << 10, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1289, 1289)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_smaller_extents_where_xen_has_no_larger_ones(host: Host) -> None:
    """What Xen has not in one piece, it has in many."""

    @host.truth.handles(memory.POPULATE_PHYSMAP)
    def fragmented(call: sim.Call) -> int:
        done = sim.REGISTER[memory.POPULATE_PHYSMAP.full_name].handler
        return 0 if call["extent_order"] else int(done(call) or 0)

    assert build(host).info().tot_pages == 4105
    assert build(host, "pv").info().tot_pages == 4096


NODES = Vnuma(
    ((10, 20), (20, 10)), (0, 1), (VnumaRange(0, 6 << 20, 0), VnumaRange(6 << 20, 16 << 20, 1)), (0, 0)
)


@pytest.mark.parametrize("kernel", ["pvh", "pv", "pv32"])
def test_memory_of_virtual_nodes(boot: Boot, kernel: str) -> None:
    """Xen is asked for the memory of each virtual node, from the physical node that is behind it."""
    host, flags = boot("4.10" if kernel == "pv32" else "4.17"), {}

    @host.truth.handles(memory.POPULATE_PHYSMAP)
    def noted(call: sim.Call) -> int:
        frames = struct.unpack(
            f"<{call['nr_extents']}Q", call.memory.read(call["extent_start"], 8 * call["nr_extents"])
        )
        for frame in frames:
            flags.update(dict.fromkeys(range(frame, frame + (1 << call["extent_order"])), call["mem_flags"]))
        return int(sim.REGISTER[memory.POPULATE_PHYSMAP.full_name].handler(call) or 0)

    guest = build(host, kernel, vcpus=2, vnuma=NODES)
    assert guest.vnuma() == NODES._replace(physical_nodes=None)
    first, second = 0x60100, 0x60200
    pages = [flags[frame] for frame in range(4096)]
    assert pages.count(first) in (1535, 1536), "but for the top page table of 32 bits"
    assert pages[:1536].count(second) == pages[1536:].count(first) == 0
    assert pages.count(second) in (2559, 2560)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vnuma": NODES, "vcpus": 2, "max_memory_kb": 32 << 10}, ValueError, "vnuma needs all memory"),
        ({"vnuma": NODES}, ValueError, "vnuma has 2 vcpus, the guest has 1"),
        ({"memory_kb": 0}, ValueError, "memory_kb is 0"),
        ({"memory_kb": 64}, ValueError, "larger than the memory|memory is too small"),
        ({"max_memory_kb": 1024}, ValueError, "max_memory_kb is 1024"),
        ({"paging_kb": 4097}, ValueError, "paging_kb is 4097"),
        ({"cpus": [99]}, ValueError, "cpu in cpus is 99"),
        ({"cpus": []}, ValueError, "cpus names no cpu"),
        ({"nodes": []}, ValueError, "no NUMA node is given"),
        ({"vcpus": 0}, ValueError, "vcpus is 0"),
        ({"kind": "pv"}, ValueError, "cannot start as pv"),
        ({"ramdisk": bytes(17 << 20)}, ValueError, "the ramdisk is larger than the memory"),
        ({"command_line": "x" * 5000}, ValueError, "command line has 5000 bytes"),
        ({"uuid": "web"}, ValueError, "not a UUID"),
    ],
)
def test_what_is_refused_before_anything_is_done(
    host: Host, options: dict[str, object], error: type[Exception], message: str
) -> None:
    assert host.xen.nr_cpus == 2
    before = host.link.hypercalls
    with pytest.raises(error, match=message):
        build(host, "pvh", **{"memory_kb": 16 << 10, **options})
    assert host.link.hypercalls == before


def test_nothing_is_left_where_the_host_has_too_little_memory(host: Host) -> None:
    free = host.xen.physinfo().free_pages
    with pytest.raises(HypercallError) as caught:
        build(host, memory_kb=4 * free + 4)
    assert caught.value.errno == XenErrno.ENOMEM
    assert f"the host has {free * 4 >> 10} MiB that are free" in str(caught.value)
    assert len(host.xen.domains) == 4
    assert host.xen.physinfo().free_pages == free
    assert host.xen.physinfo().outstanding_pages in (0, None)


def test_nothing_is_left_of_a_guest_that_was_destroyed(host: Host) -> None:
    free = host.xen.physinfo().free_pages
    for _ in range(3):
        web = build(host)
        web.destroy()
        with pytest.raises(DomainNotFound):
            web.info()
    assert host.xen.physinfo().free_pages == free


def test_a_read_only_handle(boot: Boot) -> None:
    with pytest.raises(ReadOnlyError):
        build(boot(readonly=True))


@pytest.mark.parametrize("release", ["4.7", "sim:ppc64"])
def test_a_xen_that_starts_no_such_guests(boot: Boot, release: str) -> None:
    host = boot(release)
    before = host.xen.domains.infos()
    with pytest.raises(Unsupported, match="PVH guests are built on x86, since Xen 4.10"):
        build(host)
    assert len(host.xen.domains.infos()) == len(before)


def test_a_ramdisk_is_read_in_pieces(host: Host, tmp_path: Path) -> None:
    """A guest's files can be larger than what dom0 has free: no more than a piece is in memory."""
    ramdisk = tmp_path / "ramdisk"
    with ramdisk.open("wb") as file:
        file.truncate(48 << 20)
        for place in range(4092, 48 << 20, 4096):
            file.seek(place)
            file.write(place.to_bytes(4, "little"))
    kernel = sim.kernel("pvh")
    tracemalloc.start()
    web = host.xen.domains.build(kernel, ramdisk=ramdisk, memory_kb=64 << 10)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 24 << 20
    with web.memory.map(range(0x103, 0x103 + (48 << 8))) as mapped, memoryview(mapped) as view:
        ends = view.cast("I")[1023::1024].tolist()
    assert ends == list(range(4092, 48 << 20, 4096))


def test_a_ramdisk_that_becomes_shorter(host: Host, tmp_path: Path) -> None:
    ramdisk = tmp_path / "ramdisk"
    ramdisk.write_bytes(bytes(5 << 20))

    def shorten() -> None:
        ramdisk.write_bytes(b"")

    host.link.guest_acts = shorten
    with pytest.raises(DecodeError, match="the ramdisk became shorter"):
        build(host, ramdisk=ramdisk)
    assert len(host.xen.domains) == 4


def test_a_kernel_from_a_pipe(host: Host, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[sim.kernel("pv")])
    writer.start()
    assert host.xen.domains.build(pipe, memory_kb=8192).kind == "pv"
    writer.join()


def test_no_file_stays_open(host: Host, tmp_path: Path) -> None:
    ramdisk = tmp_path / "ramdisk"
    ramdisk.write_bytes(bytes(20 << 20))
    gc.collect()  # what tests before have left
    before = len(os.listdir("/proc/self/fd"))
    build(host, ramdisk=ramdisk, memory_kb=32 << 10)
    with pytest.raises(ValueError, match="the ramdisk is larger"):
        build(host, ramdisk=ramdisk)
    with pytest.raises(TypeError):
        host.xen.domains.build(5, memory_kb=8192)  # type: ignore[arg-type]
    assert len(os.listdir("/proc/self/fd")) == before
