# SPDX-License-Identifier: MIT
"""PV guests saved and restored on simulated hosts: their pages, page tables, registers and rings."""

from __future__ import annotations

import io
import socket
import struct
import sys
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import hostile
import pytest
import streams
from hosts import Boot, Host

import pyxc
from pyxc import DecodeError, ShutdownReason, sim
from pyxc.abi import domctl_vcpu, memory
from pyxc.abi.arch import x86
from pyxc.domain import vcpu_state
from pyxc.errors import GuestUnable, HypercallError, Unsupported
from pyxc.guest import stream
from pyxc.guest.core_file import CoreFile
from pyxc.guest.save import Live
from pyxc.guest.stream.records import RecordType

PAGES = 2048
PAGE = 4096
START_INFO = {64: x86.START_INFO_STRUCT, 32: x86.START_INFO_32_STRUCT}
OTHER_UUID = "11111111-2222-4333-8444-555555555555"
PRESENT, PSE = 1, 0x80


def started(host: Host, kernel: Any = "pv", vcpus: int = 1) -> tuple[pyxc.Domain, sim.ScriptedGuest]:
    """A PV guest of 8 MiB that suspends when it is asked."""
    made = host.xen.domains.build(sim.kernel(kernel), memory_kb=4 * PAGES, vcpus=vcpus)
    host.truth.introduce(made.domid, "web")
    made.unpause()
    return made, woken(host, made)


def woken(host: Host, domain: pyxc.Domain) -> sim.ScriptedGuest:
    guest = host.truth.script(domain.domid)
    guest.obey()
    return guest


def saved(domain: pyxc.Domain, **options: Any) -> bytes:
    file = io.BytesIO()
    domain.save(file, **options)
    return file.getvalue()


def gone(host: Host, domain: pyxc.Domain) -> None:
    domain.destroy()
    host.xen.store.remove(f"/local/domain/{domain.domid}")


def again(host: Host, data: bytes, **options: Any) -> Any:
    return host.xen.restore(io.BytesIO(data), **options)


def content(domain: pyxc.Domain, pfn: int) -> bytes:
    return domain.memory.read(domain.memory.p2m()[pfn])


def calls_of(function: Callable[[], object]) -> int:
    """How many functions written in Python it calls in pyxc/guest."""
    seen = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal seen
        seen += event == "call" and "/pyxc/guest/" in frame.f_code.co_filename

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return seen


def start_info(domain: pyxc.Domain, register: str = "rdx") -> dict[str, Any]:
    layout = START_INFO[domain.guest_bits()].at(domain.xen.interface)
    return layout.unpack(domain.memory.read(domain.vcpu(0).context()[register]))


def running(host: Host, domain: pyxc.Domain) -> bool:
    """Whether it runs, and nothing of a save is left."""
    truth = host.truth.domains[domain.domid]
    return not truth.stopped and truth.dirty is None and host.xen.link.maps == []


@pytest.mark.parametrize("release", ["4.10", "4.14", "4.17", "4.20", "4.22"])
def test_a_guest_continues_elsewhere(boot: Boot, release: str) -> None:
    here, there = boot(release), boot(release)
    there.xen.domains.build(sim.kernel("pv"), memory_kb=4 * PAGES)  # which takes the same frames
    web, guest = started(here)
    guest.write_memory(77, b"what it has in memory")
    data = saved(web)
    assert web.info().shutdown_reason is ShutdownReason.SUSPEND
    made = again(there, data)
    info, frames = made.info(), made.memory.p2m
    assert (made.kind, made.uuid, made.name, info.tot_pages) == ("pv", web.uuid, "web", PAGES)
    woken(there, made)
    assert frames().entries != web.memory.p2m().entries
    assert content(made, 77)[:21] == b"what it has in memory"
    before, now = web.vcpu(0).context(), made.vcpu(0).context()
    moved = {"cr3", "rdx", "flags"}
    assert {name: now[name] for name in now if name not in moved} == {
        name: before[name] for name in before if name not in moved
    }
    assert made.tsc_info()[:2] == web.tsc_info()[:2]


@pytest.mark.parametrize(("kernel", "release", "register"), [("pv", "4.17", "rdx"), ("pv32", "4.10", "edx")])
def test_every_page_is_where_it_was(boot: Boot, kernel: str, release: str, register: str) -> None:
    host = boot(release)
    web, guest = started(host, kernel)
    for pfn in (1500, 1501, 2047):
        guest.write_memory(pfn, struct.pack("<Q", pfn) * 512)
    data = saved(web)
    made = again(host, data, uuid=OTHER_UUID, name="web2")
    woken(host, made)
    old, new = web.memory.p2m(), made.memory.p2m()
    assert len(old) == len(new) == PAGES
    back = {mfn: pfn for pfn, mfn in enumerate(old)} | {mfn: pfn for pfn, mfn in enumerate(new)}
    tables = {pfn for pfn, mfn in enumerate(new) if mfn in host.truth.machine.types}
    assert tables == {pfn for pfn, mfn in enumerate(old) if mfn in host.truth.machine.types}
    others = {back[made.vcpu(0).context()[register]]}
    per_page = PAGE // (8 if kernel == "pv" else 4)
    p2m_pages = {event.frames[0] for event in streams.decoded(data) if isinstance(event, stream.PvP2mFrames)}
    p2m_pages = {first + page for first in p2m_pages for page in range(-(-PAGES // per_page))}
    for pfn in range(PAGES):
        here, there = web.memory.read(old[pfn]), made.memory.read(new[pfn])
        if pfn in tables:
            assert named(here, back) == named(there, back), hex(pfn)
        elif pfn not in others | p2m_pages:
            assert here == there, hex(pfn)
    assert made.guest_bits() == web.guest_bits()


def named(table: bytes, back: dict[int, int]) -> list[int]:
    """Entries of a page table, with the pfns that they mean, without those of Xen."""
    entries = array("Q", table)
    return [
        entry & ~x86.PTE_FRAME_MASK | back[(entry & x86.PTE_FRAME_MASK) >> 12]
        for entry in entries
        if entry & PRESENT
    ]


@pytest.mark.parametrize(("kernel", "release"), [("pv", "4.17"), ("pv32", "4.10")])
@pytest.mark.parametrize("left", ["is another domain's", "is a page of its own"])
def test_its_p2m_before_it_runs(boot: Boot, kernel: str, release: str, left: str, tmp_path: Path) -> None:
    """It says itself where its p2m is only once it runs: until then, the frame that it names is any other."""
    host = boot(release)
    web, guest = started(host, kernel)
    guest.write_memory(77, b"what it has in memory")
    made = again(host, saved(web), uuid=OTHER_UUID, name="web2", paused=True)
    if left == "is a page of its own":
        host.publish(made.domid, p2m_cr3=made.memory.p2m()[1500] << 12)
    p2m = made.memory.p2m()
    assert len(p2m) == len(set(p2m)) == PAGES
    made.dump_core(tmp_path / "dump", provenance="none")
    with CoreFile(tmp_path / "dump") as core:
        assert core.read(77)[:21] == b"what it has in memory"


def test_its_rings_are_others_now(host: Host) -> None:
    web, _ = started(host)
    web.channels.open(3)
    data = saved(web)
    gone(host, web)
    made = again(host, data, paused=True)
    info = start_info(made)
    assert (info["store_mfn"], info["store_evtchn"]) == (made.store_frame, made.store_port)
    assert (info["console.domU.mfn"], info["console.domU.evtchn"]) == (made.console_frame, made.console_port)
    assert info["shared_info"] == made.info().shared_info_frame * PAGE
    assert (info["nr_pages"], info["flags"]) == (PAGES, 0)
    assert [port.port for port in made.channels.ports()] == [made.store_port, made.console_port]
    shared = made.memory.read(made.info().shared_info_frame)
    layout = x86.SHARED_INFO_STRUCT.at(host.xen.interface)
    fields = layout.unpack(shared)
    assert set(fields["evtchn_mask"]) == {2**64 - 1}
    assert (fields["arch.max_pfn"], fields["arch.pfn_to_mfn_frame_list_list"]) == (PAGES, 0)
    with made.grants.map([0, 1], writable=True) as lent, memoryview(lent) as pages:
        pages[0] = 7
    assert made.memory.read(made.console_frame, size=1) == b"\7"


def test_it_moves_on_and_on(host: Host) -> None:
    web, _ = started(host)
    for round_ in range(3):
        data = saved(web, live=bool(round_ % 2))
        gone(host, web)
        web = again(host, data)
        woken(host, web).write_memory(100 + round_, b"round %d" % round_)
    assert [content(web, 100 + round_)[:7] for round_ in range(3)] == [b"round 0", b"round 1", b"round 2"]


def test_a_checkpoint_goes_on(host: Host) -> None:
    web, guest = started(host)
    first = saved(web, resume=True)
    assert running(host, web)
    assert web.vcpu(0).context()["rax"] == 1, "its suspend was cancelled"
    guest.write_memory(77, b"later")
    second = saved(web, resume=True)
    twins = [again(host, data, uuid=OTHER_UUID[:-1] + digit, name=f"twin{digit}")
             for data, digit in ((first, "6"), (second, "7"))]  # fmt: skip
    for twin, expected in zip(twins, (bytes(5), b"later")):
        woken(host, twin)
        assert content(twin, 77)[:5] == expected


def test_the_state_of_its_vcpus(host: Host) -> None:
    web, _ = started(host)
    vcpu = web.vcpu(0)
    xstate = struct.pack("<QQ", 3, 7) + bytes(range(256)) * 3
    msrs = struct.pack("<IIQ", 0xC0000103, 0, 5)
    extended = bytearray(vcpu_state.read_extended(vcpu))
    extended[8:16] = struct.pack("<Q", 0xFFFF800000001000)
    vcpu_state.write_extended(vcpu, bytes(extended))
    vcpu_state.write_xstate(vcpu, xstate)
    vcpu_state.write_msrs(vcpu, msrs)
    made = again(host, saved(web), uuid=OTHER_UUID, name="web2").vcpu(0)
    assert vcpu_state.read_extended(made) == bytes(extended)
    assert vcpu_state.read_xstate(made) == xstate
    assert vcpu_state.read_msrs(made) == msrs


def test_extended_contexts_of_other_releases(host: Host) -> None:
    web, _ = started(host)
    short = struct.pack("<IIQQ", 0, 32, 0xFFFF800000001000, 0).ljust(32, b"\0")
    vcpu_state.write_extended(web.vcpu(0), short)
    assert vcpu_state.read_extended(web.vcpu(0))[8:16] == short[8:16]
    vcpu_state.write_extended(web.vcpu(0), short.ljust(128, b"\0"))
    with pytest.raises(DecodeError, match="only 8 bytes"):
        vcpu_state.write_extended(web.vcpu(0), bytes(8))


def test_what_it_writes_while_it_is_saved(host: Host) -> None:
    web, guest = started(host)

    def write(progress: Any) -> None:
        if progress.dirty_pages is None and progress.round < 2 and progress.done_pages:
            guest.write_memory(300, b"in round %d" % progress.round)

    data = saved(web, live=Live(max_downtime_s=0.0), progress=write)
    made = again(host, data, uuid=OTHER_UUID, name="web2")
    woken(host, made)
    assert content(made, 300)[:10] == b"in round 1"


def test_a_page_that_gets_another_frame_while_it_is_saved(host: Host) -> None:
    """As a balloon driver does that gives a page back and takes one again."""
    web, _ = started(host)
    p2m, swapped = web.memory.p2m(), []
    machine = host.truth.machine
    leaf = host.truth.domains[web.domid]

    def swap(progress: Any) -> None:
        if swapped or not progress.done_pages:
            return
        a, b = 1800, 1801
        swapped.append(True)
        for pfn, mfn in ((a, p2m[b]), (b, p2m[a])):
            page = next(frame for frame in p2m if machine.word(frame, pfn % 512) == p2m[pfn])
            machine.memory.write(page, 8 * (pfn % 512), struct.pack("<Q", mfn))
            machine.set_m2p_run(mfn, [pfn])
        machine.memory.write(p2m[b], 0, b"now at a")
        assert leaf.dirty is not None

    data = saved(web, live=True, progress=swap)
    made = again(host, data, uuid=OTHER_UUID, name="web2")
    woken(host, made)
    assert content(made, 1800)[:8] == b"now at a"


def test_guests_of_xl(host: Host) -> None:
    """What `xl save` of Xen 4.17 wrote, but for the cpus, which the simulated host does not have."""
    policies = (stream.CpuidPolicy, stream.MsrPolicy)
    events = [event for event in streams.decoded(streams.recorded_pv()) if not isinstance(event, policies)]
    made = again(host, streams.encoded(events))
    assert (made.kind, made.name, made.info().tot_pages) == ("pv", "pv1", 4096)
    assert start_info(made)["magic"].rstrip(b"\0") == b"xen-3.0-x86_64"


def test_a_guest_with_a_frame_of_another_one(host: Host) -> None:
    """Nothing of it is left, and the guest continues."""
    web, guest = started(host)
    table = next(
        pfn for pfn, mfn in enumerate(web.memory.p2m()) if host.truth.machine.types.get(mfn, 0) >> 28 == 2
    )
    foreign = host.truth.domains[1].shared_info << 12 | PRESENT
    place = array("Q", content(web, table)).index(0)
    guest.write_memory(table, struct.pack("<Q", foreign), 8 * place)
    for live in (False, True):
        with pytest.raises(GuestUnable, match="which is not its own"):
            saved(web, live=live)
        assert running(host, web)


def test_a_guest_that_was_stopped_from_outside(host: Host) -> None:
    web, _ = started(host)
    with pytest.raises(GuestUnable, match="only the guest itself"):
        saved(web, suspend="force")
    assert running(host, web)
    web.shutdown(ShutdownReason.SUSPEND)
    with pytest.raises(GuestUnable, match="not in the p2m"):
        saved(web)


def test_a_guest_without_a_published_p2m(host: Host) -> None:
    made = host.xen.domains.build(sim.kernel("pv"), memory_kb=4 * PAGES)
    with pytest.raises(Unsupported, match="the guest publishes none"):
        saved(made)


def test_a_guest_that_lists_one_page_many_times(host: Host) -> None:
    """It would fill the disk of dom0, and its memory with one number for each frame of the host."""
    web, _ = started(host)
    leaf = hostile.own_frames(host.truth, web.domid)[2]
    hostile.tree(host.truth, 100_000, [leaf], domid=web.domid)
    for live in (False, True):
        file = io.BytesIO()
        with pytest.raises(DecodeError, match=f"lists more frames than the {PAGES} that it owns"):
            web.save(file, live=live)
        assert len(file.getvalue()) < PAGE
        assert running(host, web)


def changed(stored: bytes, kind: type, /, **fields: Any) -> bytes:
    """The stream with other fields in its records of a kind."""
    writer = stream.Writer()
    events = (
        event._replace(**{name: value(event) for name, value in fields.items()})
        if isinstance(event, kind) else event
        for event in streams.decoded(stored)
    )  # fmt: skip
    return b"".join(bytes(piece) for event in events for piece in writer.encode(event))


def registers(**values: int) -> Callable[[Any], bytes]:
    """BASIC with other registers."""
    layout = x86.VCPU_GUEST_CONTEXT_STRUCT.at(sim.named("sim:xen-4.17").interface)

    def context(event: Any) -> bytes:
        if event.part is not RecordType.X86_PV_VCPU_BASIC:
            return bytes(event.context)
        fields = layout.unpack(event.context)
        cr = list(fields["ctrlreg"])
        cr[3], cr[1] = values.get("cr3", cr[3]), values.get("cr1", cr[1])
        others = {name: value for name, value in values.items() if name in fields}
        rdx = {"user_regs.rdx": values["rdx"]} if "rdx" in values else {}
        return layout.pack({**fields, **others, **rdx, "ctrlreg": tuple(cr)})

    return context


def test_hostile_streams(host: Host) -> None:
    web, _ = started(host)
    data = saved(web)
    gone(host, web)
    before = [(info.domid, info.tot_pages) for info in host.xen.domains.infos()]
    root = next(
        pfn for event in streams.decoded(data) if isinstance(event, stream.PageData)
        for pfn, kind in zip(event.pfns, event.types) if kind == 0xC
    )  # fmt: skip

    def broken_table(entry: int) -> Callable[[Any], memoryview]:
        def pages(event: Any) -> memoryview:
            found = bytearray(event.data)
            if root in event.pfns:
                struct.pack_into("<Q", found, event.pfns.index(root) * PAGE, entry)
            return memoryview(found)

        return pages

    hostile = [
        (stream.PvVcpu, {"context": registers(cr3=5 << 12)}, "uses pfn 0x5 as its page table"),
        (stream.PvVcpu, {"context": registers(cr3=1 << 40)}, "as its page table"),
        (stream.PvVcpu, {"context": registers(cr1=5 << 12 | 1)}, "uses pfn 0x5 as its page table"),
        (stream.PvVcpu, {"context": registers(rdx=1 << 33)}, "no page at pfn 0x200000000"),
        (stream.PvVcpu, {"context": registers(rdx=root)}, "is a page table"),
        (stream.PvVcpu, {"context": registers(rdx=7)}, "is not the start_info"),
        (stream.PvVcpu, {"context": registers(gdt_ents=2**32 - 1)}, None),
        (stream.PvP2mFrames, {"frames": lambda event: array("Q", [root] * len(event.frames))}, "page table"),
        (stream.Pages, {"data": broken_table(0xFFFFF << 12 | PRESENT)}, "no such page"),
        (stream.Pages, {"data": broken_table(PSE | PRESENT)}, "large page"),
    ]
    for kind, fields, message in hostile:
        with pytest.raises((DecodeError, HypercallError), match=message):
            again(host, changed(data, kind, **fields))
            pytest.fail(f"{message} was restored")
        assert [(info.domid, info.tot_pages) for info in host.xen.domains.infos()] == before, message
    assert host.xen.link.maps == []


def test_a_p2m_that_is_too_large(host: Host) -> None:
    web, _ = started(host)
    data = saved(web)
    pfns = (1 << 20) + 64 * PAGES + 1024
    more = {"end_pfn": lambda event: pfns, "frames": lambda event: array("Q", [3]) * (pfns // 512 + 1)}
    with pytest.raises(DecodeError, match="too many for its memory"):
        again(host, changed(data, stream.PvP2mFrames, **more), uuid=OTHER_UUID, name="web2")
    claimed = b'{"b_info": {"max_memkb": 1099511627776, "target_memkb": 8192, "type.pv": {}}}\0'
    data = changed(data, stream.XlHeader, config=lambda event: claimed)
    with pytest.raises(DecodeError, match="too many for its memory"):
        again(host, changed(data, stream.PvP2mFrames, **more), uuid=OTHER_UUID, name="web2")


def test_memory_comes_in_large_extents(host: Host) -> None:
    data, orders = saved(started(host)[0]), []

    @host.truth.handles(memory.POPULATE_PHYSMAP)
    def noted(call: sim.Call) -> int:
        orders.extend([call["extent_order"]] * call["nr_extents"])
        return int(sim.REGISTER[memory.POPULATE_PHYSMAP.full_name].handler(call) or 0)

    again(host, data, uuid=OTHER_UUID, name="web2")
    assert orders.count(9) >= 2


def test_cpus_that_lack_something(host: Host) -> None:
    data = saved(started(host)[0])
    host.link.fail(domctl_vcpu.SETVCPUEXTSTATE, 22)
    with pytest.raises(HypercallError, match="those of this host do not"):
        again(host, data, uuid=OTHER_UUID, name="web2")


def test_it_moves_to_another_host(boot: Boot) -> None:
    here, there = boot(), boot()
    web, guest = started(here)
    guest.write_memory(77, b"what it has in memory")
    arrived: list[Any] = []
    near, far = socket.socketpair()
    with near, far:
        receiver = threading.Thread(target=lambda: arrived.append(there.xen.receive(far)))
        receiver.start()
        web.migrate(near)
        receiver.join()
    woken(there, arrived[0])
    assert (arrived[0].kind, arrived[0].info().paused) == ("pv", False)
    assert content(arrived[0], 77)[:21] == b"what it has in memory"
    assert web.info().shutdown_reason is ShutdownReason.SUSPEND


def test_pages_are_handled_many_at_a_time(host: Host) -> None:
    """In Python a call for each page would take longer than everything else."""
    web, _ = started(host)
    web.save(io.BytesIO(), resume=True)  # imports modules
    file = io.BytesIO()
    assert calls_of(lambda: web.save(file)) < PAGES // 2
    gone(host, web)
    assert calls_of(lambda: again(host, file.getvalue())) < PAGES


def doubled(event: stream.Event) -> list[stream.Event]:
    """Pages that come twice in one record, as written pages may that had to wait, too."""
    if not isinstance(event, stream.Pages):
        return [] if isinstance(event, stream.PageData) else [event]
    half = len(event.pfns) // 2
    pfns, types = event.pfns[:half] + event.pfns, event.types[:half] + event.types
    data = memoryview(bytes(event.data[: half * PAGE]) + bytes(event.data))
    return [stream.PageData(pfns, types), stream.Pages(pfns, types, data)]


def test_pages_that_come_twice(host: Host) -> None:
    web, _ = started(host)
    data = saved(web)
    gone(host, web)
    copy = again(host, streams.encoded(part for event in streams.decoded(data) for part in doubled(event)))
    assert copy.info().tot_pages == PAGES
    assert start_info(copy)["nr_pages"] == PAGES
