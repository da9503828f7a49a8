# SPDX-License-Identifier: MIT
"""Guests saved on simulated hosts: what continues where, and what becomes of failures."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
import struct
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hosts import FOREIGN, Boot, Host, Swap
from saves import DB1, OTHER_UUID, events, obedient, running, saved, small

import pyxc
from pyxc import DomainFlag, HvmParam, ShutdownReason, sim
from pyxc.abi import domctl, domctl_hvm, memory
from pyxc.abi.errno import XenErrno
from pyxc.domain import ask
from pyxc.errors import GuestSilent, GuestUnable, HypercallError, ReadOnlyError
from pyxc.files.provenance import read
from pyxc.guest import settings, stream
from pyxc.guest.save import Live, SaveProgress

PAGES = 32_776
PAGE = 4096


@pytest.mark.parametrize("release", ["4.10", "4.14", "4.17", "4.20", "4.22"])
def test_a_guest_continues_elsewhere(boot: Boot, tmp_path: Path, release: str) -> None:
    here, there = boot(release), boot(release)
    web = small(here)
    web.memory.write(0x42, b"what it has in memory")
    web.hvm_params.write(HvmParam.CALLBACK_IRQ, 1)
    told = web.save(tmp_path / "web.save", suspend="force", provenance="none")
    assert (told.pages, told.rounds, told.sent_bytes) == (521, 0, (tmp_path / "web.save").stat().st_size)
    assert web.info().shutdown_reason is ShutdownReason.SUSPEND
    again = there.xen.restore(tmp_path / "web.save")
    info = again.info()
    assert (again.kind, again.uuid, info.tot_pages, info.nr_online_vcpus) == ("pvh", web.uuid, 521, 1)
    assert info.flags & ~DomainFlag.RUNNING == DomainFlag.HVM_GUEST | DomainFlag.HAP
    assert again.memory.read(0x42, size=21) == b"what it has in memory"
    assert bytes(again.hvm_context.read()) == bytes(web.hvm_context.read())
    assert again.hvm_params.read(HvmParam.CALLBACK_IRQ) == 0, "it sets that anew"
    assert again.tsc_info()[:2] == web.tsc_info()[:2]


def test_every_page_is_where_it_was(host: Host) -> None:
    web = small(host)
    for gfn in range(521 - 9):
        web.memory.write(gfn, struct.pack("<Q", gfn) * 512)
    again = host.xen.restore(io.BytesIO(saved(web)), uuid=host.xen.domains[1].uuid.hex[:8] + OTHER_UUID[8:])
    frames = again.memory.frames().frames
    assert frames == web.memory.frames().frames
    shared = {again.store_frame, again.console_frame, 0xFEFFB, 0xFEFFD}
    for gfn in frames:
        expected = bytes(PAGE) if gfn in shared else web.memory.read(gfn)
        assert again.memory.read(gfn) == expected, hex(gfn)


def test_its_rings_are_others_now(host: Host) -> None:
    web = small(host)
    web.memory.write(web.console_frame, b"of the console before")
    web.channels.open(3)
    data = saved(web)
    web.destroy()
    again = host.xen.restore(io.BytesIO(data), paused=True)
    assert again.memory.read(again.console_frame) == bytes(PAGE)
    assert again.hvm_params.read(HvmParam.STORE_PFN) == again.store_frame == web.store_frame
    assert again.hvm_params.read(HvmParam.STORE_EVTCHN) == again.store_port
    assert again.hvm_params.read(HvmParam.CONSOLE_EVTCHN) == again.console_port
    assert [port.port for port in again.channels.ports()] == [again.store_port, again.console_port]
    with again.grants.map([0, 1], writable=True) as lent, memoryview(lent) as pages:
        pages[0] = 7
    assert again.memory.read(again.console_frame, size=1) == b"\7"


def test_memory_comes_in_large_extents(host: Host) -> None:
    data, orders = saved(small(host)), []

    @host.truth.handles(memory.POPULATE_PHYSMAP)
    def noted(call: sim.Call) -> int:
        orders.append(call["extent_order"])
        return int(sim.REGISTER[memory.POPULATE_PHYSMAP.full_name].handler(call) or 0)

    host.xen.restore(io.BytesIO(data), uuid="22222222-2222-4333-8444-555555555555")
    assert orders == [0, 0, 9]


def test_it_asks_the_guest(host: Host) -> None:
    db1, guest = obedient(host)
    db1.save(io.BytesIO())
    assert db1.info().shutdown_reason is ShutdownReason.SUSPEND
    assert guest.read("control/shutdown") == ""
    db1.resume(fast=True)
    assert running(host, db1)
    db1.save(io.BytesIO(), resume=True)
    assert running(host, db1)
    assert db1.vcpu(0).context()["rax"] == 1, "its suspend was cancelled"


def test_one_that_is_suspended_already(host: Host) -> None:
    """A failure leaves it so: whoever suspended it decides."""
    web = small(host)
    web.shutdown(ShutdownReason.SUSPEND)
    with pytest.raises(OSError, match="full"):
        web.save(Broken(1 << 20))
    assert web.info().shutdown_reason is ShutdownReason.SUSPEND
    assert len(saved(web, live=True)) > 521 * PAGE


def test_what_it_writes_while_it_is_saved(host: Host) -> None:
    db1, guest = obedient(host)
    seen: list[SaveProgress] = []

    def write(progress: SaveProgress) -> None:
        seen.append(progress)
        if progress.dirty_pages is None and progress.round < 2 and progress.done_pages:
            guest.write_memory(progress.round, b"in round %d" % progress.round)

    file = io.BytesIO()
    told = db1.save(file, live=Live(max_downtime_s=0.0), progress=write)
    assert told.rounds == 2
    between = [(one.round, one.dirty_pages) for one in seen if one.dirty_pages is not None]
    assert between == [(0, 1), (1, 1), (2, 0)]
    again = host.xen.restore(io.BytesIO(file.getvalue()), uuid=OTHER_UUID, name="db2")
    assert again.memory.read(0, size=10) == b"in round 0"


def test_memory_that_it_gets_while_it_is_saved(host: Host) -> None:
    """Pages that it had before are found, too, although it has as many as were counted before them."""
    web = host.xen.domains.create(hvm=True, hap=True)
    web.set_max_memory(64 << 10)
    web.memory.set_paging_pool(8 << 10)
    for gfns in (range(0x3000, 0x4000), range(0x5000, 0x5100), range(0x7000, 0x7001)):
        web.memory.populate(gfns)
    web.memory.write(0x50FF, b"its last page")
    web.unpause()

    def grow(progress: SaveProgress) -> None:
        if progress.done_pages == 0x1001:
            web.memory.populate(range(0x4000, 0x4100))

    file = io.BytesIO()
    web.save(file, live=True, suspend="force", progress=grow)
    again = host.xen.restore(io.BytesIO(file.getvalue()), uuid=OTHER_UUID, memory_kb=64 << 10, vcpus=1)
    assert again.info().tot_pages == web.info().tot_pages == 0x1201
    assert again.memory.read(0x50FF, size=13) == b"its last page"


def test_the_name_that_libxl_keeps(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the creation, as after `xl migrate-receive`; xl says the present one."""
    db1, _ = obedient(host)
    monkeypatch.setattr(settings, "_USERDATA", f"{tmp_path}/{{domid}}.{{uuid}}")
    kept = {"c_info": {"type": "pvh", "name": "db1--incoming"}, "b_info": {"max_memkb": 131104}}
    (tmp_path / f"{db1.domid}.{db1.uuid}").write_text(json.dumps(kept))
    header = next(event for event in events(saved(db1)) if isinstance(event, stream.XlHeader))
    found = header.settings()
    assert found is not None
    assert found["c_info"] == {"type": "pvh", "name": "db1", "uuid": str(db1.uuid)}


class Broken(io.RawIOBase):
    """A file that takes so many bytes in all, and few at a time, before it is full."""

    def __init__(self, left: int, at_once: int = 10_000) -> None:
        self.left, self.at_once = left, at_once
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        count = min(self.left, self.at_once, len(data))
        if not count and data:
            raise OSError(errno.ENOSPC, "it is full")
        self.left -= count
        self.taken += data[:count]
        return count


@pytest.mark.parametrize("live", [False, True])
def test_short_writes_and_a_full_disk(host: Host, live: bool) -> None:
    db1, guest = obedient(host)
    db1.save(whole := Broken(1 << 30, 999_983), live=live, resume=True)
    for left in (0, 1, 100, 1000, 3000, 100_000, len(whole.taken) // 2, len(whole.taken) - 1):
        with pytest.raises(OSError, match="full"):
            db1.save(Broken(left, 1 << 20), live=live)
        assert running(host, db1)
    assert events(bytes(whole.taken))[-1] == stream.LibxlEnd()


@pytest.mark.parametrize("compress", ["gzip", "zstd", "lz4"])
def test_compressed_to_a_pipe(host: Host, compress: str) -> None:
    pytest.importorskip({"gzip": "gzip", "zstd": "zstandard", "lz4": "lz4.frame"}[compress])
    web = small(host)
    web.memory.write(5, b"five")
    source, sink = os.pipe()
    made: list[pyxc.Domain] = []

    def restore() -> None:
        with open(source, "rb", buffering=0) as file:
            made.append(host.xen.restore(file, uuid="22222222-2222-4333-8444-555555555555"))

    reader = threading.Thread(target=restore)
    reader.start()
    with open(sink, "wb", buffering=0) as file:
        web.save(file, suspend="force", compress=compress)
    reader.join()
    assert made[0].memory.read(5, size=4) == b"five"


def test_a_pipe_takes_no_more_calls_than_a_file(host: Host) -> None:
    """It has its bytes in small pieces."""
    data, calls = saved(small(host)), []
    source, sink = os.pipe()
    with open(source, "rb", buffering=0) as pipe, open(sink, "wb", buffering=0) as far:
        writer = threading.Thread(target=lambda: (far.write(data), far.close()))
        writer.start()
        for file in (pipe, io.BytesIO(data)):
            before = host.link.hypercalls
            host.xen.restore(file, uuid=OTHER_UUID.replace("1", str(5 + len(calls))))
            calls.append(host.link.hypercalls - before)
        writer.join()
    assert calls[0] <= calls[1] + 5


def test_through_a_socket(host: Host) -> None:
    web = small(host)
    near, far = socket.socketpair()
    with near, far:
        sender = threading.Thread(target=lambda: web.save(near, suspend="force"))
        sender.start()
        again = host.xen.restore(far, uuid=OTHER_UUID.replace("1", "3"), paused=True)
        sender.join()
        near.send(b"more")
        assert far.recv(10) == b"more", "what follows is not read"
    assert again.info().tot_pages == 521


def test_a_file_says_where_it_comes_from(host: Host, tmp_path: Path) -> None:
    web = small(host)
    web.save(tmp_path / "web.save", suspend="force", resume=True, provenance="sidecar")
    about = read(tmp_path / "web.save").origin
    assert about is not None
    assert (about.kind, about.domain.uuid, about.xen.version) == ("save", OTHER_UUID, "4.17")
    web.save(tmp_path / "web.save", suspend="force", resume=True, provenance="none")
    (tmp_path / "other").write_text("something else")
    with pytest.raises(FileExistsError):
        web.save(tmp_path / "other", suspend="force")
    assert running(host, web)
    assert sorted(os.listdir(tmp_path)) == ["other", "web.save"]


def test_a_stopped_guest_is_not_saved(host: Host) -> None:
    web = small(host)
    web.shutdown(ShutdownReason.CRASH)
    with pytest.raises(GuestUnable, match="cannot be saved"):
        web.save(io.BytesIO())


def test_guests_that_do_not_suspend(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "_STOPS_S", 0.0)
    host = boot()
    db1, guest = host.xen.domains[DB1], host.truth.script(DB1)
    with pytest.raises(GuestSilent, match="has not accepted"):
        db1.save(io.BytesIO(), timeout=0.0)
    assert guest.read("control/shutdown") == ""
    guest.when("control/shutdown", lambda request: request and guest.write("control/shutdown", ""))
    with pytest.raises(GuestSilent, match="did not suspend"):
        db1.save(io.BytesIO(), timeout=0.0)
    assert running(host, db1)
    with pytest.raises(GuestUnable, match="does not use xenstore"):
        small(host).save(io.BytesIO())


def test_a_guest_that_powers_off_instead(host: Host) -> None:
    guest = host.truth.script(DB1)
    guest.when("control/shutdown", lambda request: request and guest.stop())
    with pytest.raises(GuestUnable, match="shut down instead: <ShutdownReason.POWEROFF: 0>"):
        host.xen.domains[DB1].save(io.BytesIO())


def test_a_guest_that_is_paused(host: Host) -> None:
    db1, _ = obedient(host)
    db1.pause()
    with pytest.raises(GuestUnable, match="paused"):
        db1.save(io.BytesIO())
    db1.save(io.BytesIO(), suspend="force", resume=True)
    assert db1.info().paused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"compress": "rar"}, ValueError, "expected one of gzip, zstd, lz4"),
        ({"suspend": "now"}, ValueError, "expected ask or force"),
        ({"timeout": -1.0}, ValueError, "timeout is -1.0"),
        ({"live": Live(max_rounds=-1)}, ValueError, "max_rounds is -1"),
        ({"max_bytes_per_s": 4095}, ValueError, "max_bytes_per_s is 4095"),
    ],
)
def test_what_cannot_be_wanted(
    host: Host, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = host.link.hypercalls
    with pytest.raises(error, match=message):
        host.xen.domains[DB1].save(io.BytesIO(), **options)
    assert running(host, host.xen.domains[DB1])
    assert host.link.hypercalls - before < 10


def test_who_cannot_be_saved(boot: Boot) -> None:
    host = boot()
    with pytest.raises(ValueError, match="itself"):
        host.xen.domains[0].save(io.BytesIO())
    with pytest.raises(ReadOnlyError):
        boot(readonly=True).xen.domains[DB1].save(io.BytesIO())


def test_it_takes_little_memory(host: Host) -> None:
    db1, _ = obedient(host)
    tracemalloc.start()
    try:
        with open(os.devnull, "wb", buffering=0) as null:
            db1.save(null, live=True)
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


class Counter(io.RawIOBase):
    """A file that takes everything and keeps nothing."""

    def write(self, data: Any, /) -> int:
        return len(data)


def test_a_file_reads_the_same_twice(host: Host) -> None:
    """One that makes a digest of it, as a named file has, or sends it to two places."""
    db1, _ = obedient(host)
    written = []

    class Twice(Counter):
        def write(self, data: Any, /) -> int:
            before = bytes(data)
            for gfn in (0x200, 0x600, 0x1200):
                host.truth.write_as_guest(DB1, gfn, 0, b"%d" % len(written))
            written.append(bytes(data) == before)
            return len(before)

    db1.save(Twice(), live=True)
    assert written
    assert all(written)


@pytest.mark.parametrize("live", [False, True])
def test_a_pipe_that_breaks_while_pages_are_written(host: Host, live: bool) -> None:
    db1, _ = obedient(host)
    source, sink = os.pipe()

    def read() -> None:
        os.read(source, 1 << 16)
        os.close(source)

    reader = threading.Thread(target=read)
    reader.start()
    with open(sink, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        db1.save(pipe, live=live)
    reader.join()
    assert running(host, db1)


def test_a_page_that_vanishes(host: Host) -> None:
    """While it runs that is no failure: a guest may give memory back."""
    db1, guest = obedient(host)
    gone: list[int] = []

    def balloon() -> None:
        if not gone:
            gone.append(0x3000)
            with host.truth.lock:
                host.xen.domains[DB1].memory.decrease([0x3000])

    host.link.guest_acts = balloon
    file = io.BytesIO()
    db1.save(file, live=True)
    host.link.guest_acts = None
    again = host.xen.restore(io.BytesIO(file.getvalue()), uuid=OTHER_UUID, name="db2")
    assert again.info().tot_pages == PAGES - 1


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("at", [1, 2, 8])
def test_no_page_of_a_domain_that_got_the_id(host: Host, live: bool, at: int) -> None:
    db1, _ = obedient(host)
    host.link.guest_acts = swap = Swap(host.truth, DB1, at)
    file = io.BytesIO()
    with pytest.raises((pyxc.DomainGone, pyxc.DomainNotFound)):
        db1.save(file, live=live, resume=True)
    assert FOREIGN not in file.getvalue()
    assert swap.left_alone()


@pytest.mark.parametrize("live", [False, True])
def test_the_end_is_looked_at_as_well(host: Host, tmp_path: Path, live: bool) -> None:
    """What is asked for after the pages would be another domain's."""
    db1, _ = obedient(host)
    swap = Swap(host.truth, DB1)
    host.link.before(domctl_hvm.GETHVMCONTEXT, swap)
    with pytest.raises(pyxc.DomainGone):
        db1.save(tmp_path / "db1.save", live=live, resume=True, provenance="none")
    assert not (tmp_path / "db1.save").exists()
    assert swap.left_alone()


def test_the_host_refuses(host: Host) -> None:
    db1, guest = obedient(host)
    for operation in (domctl.GETPAGEFRAMEINFO3,):
        host.link.fail(operation, XenErrno.EPERM)
        with pytest.raises(HypercallError):
            db1.save(io.BytesIO(), live=True)
        host.link.fail(operation, None)
        assert running(host, db1)
