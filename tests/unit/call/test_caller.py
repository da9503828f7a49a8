# SPDX-License-Identifier: MIT
"""Calls: what is packed, refused, tried again, and how many go together."""

from __future__ import annotations

import ctypes
import errno
from array import array

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import errors
from pyxc._core import ForeignMap, Pool
from pyxc.abi import domctl, hvm, memory, sched, sysctl, version
from pyxc.abi.layout import Interface
from pyxc.abi.operation import MULTICALL, Operation
from pyxc.call.caller import Caller
from pyxc.sim.model.words import Words
from pyxc.store import Channel

ERESTART = 85
WORDS = Words("little")
CHANGES = [
    operation
    for module in (domctl, sysctl, memory, sched, hvm)
    for operation in vars(module).values()
    if isinstance(operation, Operation) and operation.changes
]


def test_a_call_carries_its_fields_and_brings_the_answer(host: Host) -> None:
    host.xen.call(domctl.MAX_MEM, 1, max_memkb=4096)
    assert host.truth.domains[1].max_pages == 1024
    reply = host.xen.call(domctl.GETDOMAININFO, 1)
    assert reply.result == 0
    assert reply.field("max_pages") == 1024


def test_buffers_go_in_and_come_back(host: Host) -> None:
    frames = WORDS.pack(sorted(host.owned(1))[:3])
    reply = host.xen.call(domctl.GETPAGEFRAMEINFO3, 1, num=3, array=frames)
    assert list(WORDS.unpack(reply.buffers["array"])) == [0, 0, 0]


def test_a_null_handle_is_no_buffer(host: Host) -> None:
    reply = host.xen.call(sysctl.CPUTOPOINFO, num_cpus=0, cputopo=0)
    assert reply.field("num_cpus") == host.truth.pcpus
    assert reply.buffers == {}


def test_an_unknown_field_never_gets_to_the_hypervisor(host: Host) -> None:
    before = host.link.hypercalls
    with pytest.raises(TypeError, match="domctl.max_mem has no field 'megabytes'"):
        host.xen.call(domctl.MAX_MEM, 1, megabytes=4)
    assert host.link.hypercalls == before


def test_a_value_that_does_not_fit_never_gets_to_the_hypervisor(host: Host) -> None:
    before = host.link.hypercalls
    for value in (2**64, -1, "8"):
        with pytest.raises(ValueError, match="domctl.max_mem: a value does not fit"):
            host.xen.call(domctl.MAX_MEM, 1, max_memkb=value)
    assert host.link.hypercalls == before


def test_what_makes_an_operation_cannot_be_given(host: Host) -> None:
    before = host.link.hypercalls
    with pytest.raises(TypeError, match="clear selects sysctl.readconsole"):
        host.xen.call(sysctl.READCONSOLE, clear=1)
    assert host.link.hypercalls == before


def test_a_read_only_handle_refuses_every_change(boot: Boot) -> None:
    host = boot(readonly=True)
    before = host.link.hypercalls
    for operation in CHANGES:
        if host.xen.caller.supports(operation):
            with pytest.raises(errors.ReadOnlyError, match=operation.full_name):
                host.xen.call(operation, 1)
            with pytest.raises(errors.ReadOnlyError, match=operation.full_name):
                host.xen.caller.batch(operation, 1)
    assert host.link.hypercalls == before


def test_an_operation_that_this_xen_does_not_have_is_unsupported(boot: Boot) -> None:
    assert boot("4.10").xen.caller.supports(domctl.GETMEMLIST)
    host = boot("4.17")
    assert not host.xen.caller.supports(domctl.GETMEMLIST)
    with pytest.raises(errors.Unsupported, match="Xen 4.17 has no domctl.getmemlist"):
        host.xen.call(domctl.GETMEMLIST, 1)


def test_a_32_bit_kernel_gets_structures_of_fixed_width_only(host: Host) -> None:
    host.link.kernel_bits = 32
    caller = Caller(host.link, host.truth.interface)
    assert caller.call(domctl.GETDOMAININFO, 1).field("domain") == 1
    for operation in (memory.CURRENT_RESERVATION, version.VERSION):
        with pytest.raises(errors.Unsupported, match="kernel is 32-bit"):
            caller.call(operation)
    with pytest.raises(errors.Unsupported, match="kernel is 32-bit"):
        caller.batch(domctl.GETVCPUINFO, 1, domid=1, vcpu=0)


def test_an_interrupted_call_is_issued_again(host: Host) -> None:
    host.link.fail(domctl.PAUSEDOMAIN, ERESTART, times=3)
    host.xen.call(domctl.PAUSEDOMAIN, 1)
    assert host.link.pending == 0
    assert host.truth.domains[1].pauses == 1


def test_destroying_is_tried_again_while_it_goes_on(host: Host) -> None:
    host.link.fail(domctl.DESTROYDOMAIN, errno.EAGAIN, times=5)
    host.xen.domains[1].destroy()
    assert host.link.pending == 0
    assert 1 not in host.truth.domains


def test_nothing_else_is_tried_again(host: Host) -> None:
    host.link.fail(domctl.PAUSEDOMAIN, errno.EAGAIN)
    with pytest.raises(errors.HypercallError, match="EAGAIN"):
        host.xen.call(domctl.PAUSEDOMAIN, 1)
    assert host.truth.domains[1].pauses == 0


def test_a_reading_of_types_outlives_a_moment_of_fault(host: Host) -> None:
    frames = WORDS.pack(sorted(host.owned(1))[:1])
    host.link.fail(domctl.GETPAGEFRAMEINFO3, errno.EFAULT, times=2)
    host.xen.call(domctl.GETPAGEFRAMEINFO3, 1, num=1, array=frames)
    host.link.fail(domctl.GETPAGEFRAMEINFO3, errno.EFAULT, times=3)
    with pytest.raises(errors.HypercallError, match="EFAULT"):
        host.xen.call(domctl.GETPAGEFRAMEINFO3, 1, num=1, array=frames)


def test_a_result_of_64_bits_comes_whole(host: Host) -> None:
    host.truth.domains[1].tot_pages = 2**40
    assert host.xen.call(memory.CURRENT_RESERVATION, 1).result == 2**40
    host.link.fail(MULTICALL, errno.ENOMEM)
    with pytest.raises(errors.HypercallError, match="current_reservation on domain 1 failed: ENOMEM"):
        host.xen.call(memory.CURRENT_RESERVATION, 1)


def test_one_failing_entry_fails_alone(host: Host) -> None:
    batch = host.xen.caller.batch(domctl.GETVCPUINFO, 3, domid=[0, 999, 2], vcpu=0)
    assert batch.results == [0, -errno.ESRCH, 0]


def test_a_batch_of_any_length_is_one_list_in_order(host: Host) -> None:
    for count in (0, 1, 511, 512, 513, 1200):
        before = host.link.hypercalls
        wanted = [index % 4 if index % 7 else 999 for index in range(count)]
        batch = host.xen.caller.batch(domctl.GETVCPUINFO, count, domid=wanted, vcpu=0)
        assert batch.results == [-errno.ESRCH if domid == 999 else 0 for domid in wanted]
        assert host.link.hypercalls - before == -(-count // 512)


def test_each_call_of_a_batch_has_buffers_of_its_own(host: Host) -> None:
    for index, vcpu in enumerate(host.truth.domains[0].live_vcpus):
        vcpu.hard = 1 << index
    hard = {"cpumap_hard.bitmap": 8, "cpumap_hard.nr_bits": 64}
    columns = {**hard, "cpumap_soft.bitmap": 8, "cpumap_soft.nr_bits": 64}
    batch = host.xen.caller.batch(domctl.GETVCPUAFFINITY, 2, domid=0, vcpu=[0, 1], flags=3, **columns)
    assert [int.from_bytes(data, "little") for data in batch.buffers["cpumap_hard.bitmap"]] == [1, 2]
    assert [int.from_bytes(data, "little") for data in batch.buffers["cpumap_soft.bitmap"]] == [3, 3]


def test_a_batch_that_fails_as_a_whole_is_an_error(host: Host) -> None:
    host.link.fail(MULTICALL, errno.ENOSYS)
    with pytest.raises(errors.Unsupported, match="domctl.getvcpuinfo"):
        host.xen.caller.batch(domctl.GETVCPUINFO, 2, domid=0, vcpu=[0, 1])


def test_a_batch_checks_its_columns_before_the_call(host: Host) -> None:
    before = host.link.hypercalls
    with pytest.raises(ValueError, match="domid"):
        host.xen.caller.batch(domctl.GETVCPUINFO, 2, domid=[0, 65536], vcpu=0)
    with pytest.raises(ValueError, match="vcpu"):
        host.xen.caller.batch(domctl.GETVCPUINFO, 2, domid=0, vcpu=-1)
    assert host.link.hypercalls == before


def test_a_trace_has_one_line_for_each_call(
    boot: Boot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYXC_TRACE", "1")
    xen = boot().xen
    capsys.readouterr()
    xen.call(domctl.MAX_MEM, 1, max_memkb=0x12345)
    xen.call(domctl.SETDOMAINHANDLE, 1, handle=bytes(16))
    with pytest.raises(errors.DomainNotFound):
        xen.call(domctl.PAUSEDOMAIN, 999)
    xen.caller.batch(domctl.GETVCPUINFO, 2, domid=[0, 1], vcpu=1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("domctl.max_mem(domain=1, max_memkb=0x12345) = 0 <0.")
    assert lines[1].startswith(f"domctl.setdomainhandle(domain=1, handle=<16 bytes {'00' * 16}>) = 0")
    assert lines[2].startswith("domctl.pausedomain(domain=999) = -1 ESRCH (no such domain or vcpu)")
    assert lines[3].startswith("domctl.getvcpuinfo(domid=0, vcpu=1) = 0 {online=True, ")
    assert len(lines) == 5


def test_a_trace_cuts_long_buffers(
    boot: Boot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYXC_TRACE", "1")
    host = boot()
    host.xen.call(domctl.GETPAGEFRAMEINFO3, 1, num=5, array=bytes(40))
    assert f"array=<40 bytes {'00' * 32}...>" in capsys.readouterr().err.splitlines()[-1]


def test_no_trace_unless_asked(
    boot: Boot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYXC_TRACE", "0")
    assert boot().xen.physinfo().nr_cpus == 2
    assert capsys.readouterr().err == ""


class BigEndian:
    """A hypervisor of the other byte order: keeps the memory of the last call and answers success."""

    target, byteorder, kernel_bits, gated, direct = "big", "big", 64, False, None
    maps: list[ForeignMap] = []

    def __init__(self) -> None:
        self.pool = Pool(locked=False)
        self.seen = b""

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        ((address, size),) = self.pool.live()
        self.seen = ctypes.string_at(address, size)
        return 0

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        raise NotImplementedError

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        raise NotImplementedError

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        raise NotImplementedError

    def connect_store(self) -> Channel:
        raise NotImplementedError

    def close(self) -> None:
        self.pool.close()


def test_a_hypervisor_of_the_other_byte_order_gets_its_own() -> None:
    link = BigEndian()
    interface = Interface((4, 17), 0x15, 0x15, byteorder="big")
    caller = Caller(link, interface)
    caller.call(domctl.MAX_MEM, 7, max_memkb=0x1122)
    assert link.seen[:8] == (11).to_bytes(4, "big") + (0x15).to_bytes(4, "big")
    assert link.seen[8:10] == (7).to_bytes(2, "big")
    assert (0x1122).to_bytes(8, "big") in link.seen[16:32]
    caller.batch(domctl.GETVCPUINFO, 2, domid=[5, 6], vcpu=3)
    assert link.seen[:8] == link.seen[64:72] == (36).to_bytes(8, "big")
    assert link.seen[128 + 8 : 128 + 10] == (5).to_bytes(2, "big")
    assert link.seen[128 + 144 + 8 : 128 + 144 + 10] == (6).to_bytes(2, "big")
    xen = pyxc.Xen(link, caller, names=False)
    assert list(xen.words(b"\0" * 7 + b"\1" + b"\1" + b"\0" * 7)) == [1, 1 << 56]
    link.close()


def test_a_trace_does_not_change_what_a_batch_answers(
    boot: Boot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [(info.domid, info.vcpu, info.online) for info in boot().xen.vcpus()]
    monkeypatch.setenv("PYXC_TRACE", "1")
    assert [(info.domid, info.vcpu, info.online) for info in boot().xen.vcpus()] == plain
    assert capsys.readouterr().err.count("domctl.getvcpuinfo(") == len(plain)
