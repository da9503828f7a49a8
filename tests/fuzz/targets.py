# SPDX-License-Identifier: MIT
"""Every decoder, by name: code that makes objects from bytes of others.

A target takes any bytes. What it may raise is what its documentation says: pyxc's own errors, and OSError
where a mapping fails; `refuses` names what else. All other exceptions are bugs.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import threading
import warnings
from array import array
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import attack
import core_targets
import cores
import kernels
import questions
import streams
from questions import Question
from strangers import Enough, HonestLink, StrangeLink, answer

import pyxc
from pyxc import OrderedRecords, RunstateMeter, errors, sim
from pyxc.call.caller import Caller
from pyxc.cli.terminal import Harmless
from pyxc.debug import DomainMemory, GdbSession, MemorySession, memory_wire
from pyxc.debug.gdb_packets import Packets, packet
from pyxc.domain.address_space import Virtual
from pyxc.domain.console import Console
from pyxc.domain.hvm_context import HvmContext
from pyxc.domain.paging import Paging
from pyxc.domain.registers import VcpuContext
from pyxc.files import labels, provenance, traces
from pyxc.files.perfetto import PerfettoWriter
from pyxc.files.provenance import Digest, Origin
from pyxc.files.xattrs import Attributes
from pyxc.guest import build_pv, build_pvh, stream
from pyxc.guest.config import GuestConfig
from pyxc.guest.core_convert import Format, convert
from pyxc.guest.core_file import CoreFile
from pyxc.guest.images import Kernel
from pyxc.guest.stream.summary import Summary
from pyxc.link.evtchn import EvtchnDevice
from pyxc.link.record import RecordLink
from pyxc.link.replay import ReplayLink
from pyxc.sim.xenstored import HostDomains, Xenstored
from pyxc.store import Names, Permission
from pyxc.store.channel import FileChannel
from pyxc.store.wire import Kind, Message, Parser, error_of, join, split

RECORDINGS = Path(__file__).parent.parent / "recordings"
RELEASES = ("xen-4.17-xsm", "xen-4.22", "ppc64", "xen-3.1", "xen-4.1", "xen-4.10", "xen-3.0", "xen-4.17-pci")
"""Simulated hosts whose interfaces are spoken; the first byte of the data chooses one."""
_INTERFACES = [sim.named(f"sim:{release}").interface for release in RELEASES]
_PATIENCE_S = 0.05


class Target(NamedTuple):
    """One decoder; `samples` makes valid inputs to start from."""

    run: Callable[[bytes], object]
    samples: Callable[[], list[bytes]]
    refuses: tuple[type[Exception], ...] = ()

    def feed(self, data: bytes) -> None:
        """Decode, look at the result, and ignore documented exceptions."""
        with suppress(Enough, errors.Error, *self.refuses):
            repr(self.run(data))


def _asked(question: Question, data: bytes) -> object:
    """A question to a hypervisor of which only the interface is known."""
    interface = _INTERFACES[data[0] % len(RELEASES)] if data else _INTERFACES[0]
    link = StrangeLink(data[1:], interface.byteorder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        xen = pyxc.Xen(link, Caller(link, interface))
        xen.store.timeout = _PATIENCE_S
        try:
            return question(xen)
        finally:
            Names._silent.pop(link.target, None)
            xen.close()


@cache
def _booted(release: str, name: str) -> sim.Hypervisor:
    """A host for all questions, or for one that needs preparation."""
    host = sim.Hypervisor(sim.named(f"sim:{release}"))
    if name:
        with suppress(errors.HypercallError, KeyError):
            questions.BEFORE[name](pyxc.connect(host.connect()))
    return host


def _truth(name: str, question: Question) -> list[bytes]:
    """The answers of each simulated host."""
    found = []
    for number, release in enumerate(RELEASES):
        host = _booted(release, name if name in questions.BEFORE else "")
        link = HonestLink(host.connect())
        xen = pyxc.Xen(link, Caller(link, _INTERFACES[number]))
        with suppress(errors.Error, OSError, *questions.REFUSES.get(name, ())):
            question(xen)
        found.append(bytes([number]) + link.told)
        xen.close()
    return found


def _of(group: str, all_of: dict[str, Question]) -> dict[str, Target]:
    return {
        f"{group}.{name}": Target(
            partial(_asked, question),
            partial(_truth, name, question),
            (OSError, *questions.REFUSES.get(name, ())),
        )
        for name, question in all_of.items()
    }


# xenstore: what a client understands, and what a simulated xenstored does.


def _parse(data: bytes) -> list[Message]:
    """In pieces whose size is the first byte."""
    parser, size = Parser(), data[0] + 1 if data else 1
    pieces = range(1, len(data), size)
    return [message for start in pieces for message in parser.feed(data[start : start + size])]


_MESSAGES = [
    Message(Kind.READ, 1, 0, b"/a\0"),
    Message(Kind.WATCH, 2, 0, join([b"/a", b"token"])),
    Message(Kind.TRANSACTION_START, 3, 0, b"\0"),
    Message(Kind.WRITE, 4, 1, b"/a/b\0value"),
    Message(Kind.SET_PERMS, 5, 1, join([b"/a", b"n0", b"r1"])),
    Message(Kind.DIRECTORY, 6, 1, b"/\0"),
    Message(Kind.DIRECTORY_PART, 7, 1, join([b"/", b"0"])),
    Message(Kind.GET_PERMS, 8, 1, b"/a\0"),
    Message(Kind.TRANSACTION_END, 9, 1, b"T\0"),
    Message(Kind.MKDIR, 10, 0, b"a/c\0"),
    Message(Kind.RM, 11, 0, b"/a\0"),
    Message(Kind.UNWATCH, 12, 0, join([b"/a", b"token"])),
    Message(Kind.SET_PERMS, 13, 0, join([b"@releaseDomain", b"n0", b"r1"])),
    Message(Kind.WATCH, 14, 0, join([b"@releaseDomain", b"t"])),
    Message(Kind.INTRODUCE, 15, 0, join([b"1", b"5", b"1"])),
    Message(Kind.IS_DOMAIN_INTRODUCED, 16, 0, b"1\0"),
    Message(Kind.SET_TARGET, 17, 0, join([b"1", b"2"])),
    Message(Kind.RELEASE, 18, 0, b"1\0"),
    Message(Kind.RESUME, 19, 0, b"2\0"),
    Message(Kind.GET_DOMAIN_PATH, 20, 0, b"1\0"),
    Message(Kind.CONTROL, 21, 0, b"help\0"),
    Message(Kind.RESET_WATCHES, 22, 0, b"\0"),
]


def _conversation(first: bytes) -> list[bytes]:
    return [first + b"".join(message.encode() for message in _MESSAGES), *(
        first + message.encode() for message in _MESSAGES
    )]  # fmt: skip


@cache
def _host() -> sim.Hypervisor:
    return sim.Hypervisor(sim.named("sim:"), with_store=False)


def _serve(data: bytes) -> list[bytes]:
    """Requests to a simulated xenstored, of dom0 or of the guest that the first byte names."""
    xenstored = Xenstored(HostDomains(_host()), threading.RLock())
    xenstored.add(1, 0)
    xenstored.write("/a", "1", [Permission.parse("n1"), Permission.parse("r2")])
    told: list[bytes] = []
    session = xenstored.attach(data[0] % 2 if data else 0, told.append, lambda: None)
    xenstored.feed(session, data[1:])
    parser = Parser()
    return [message.payload for text in told for message in parser.feed(text)]


def _received(data: bytes) -> object:
    """What a socket brings."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as end, open(writing, "wb", buffering=0) as other:
        other.write(data[:4096])
        os.set_blocking(reading, False)
        return FileChannel(end).receive() if data else None


def _ports(data: bytes) -> int:
    """The answers of the event channel device."""
    device = object.__new__(EvtchnDevice)
    device._file = io.BytesIO(data)  # type: ignore[assignment]
    device._lock = threading.RLock()
    return device.take()


def _by_xenstored() -> list[bytes]:
    """A xenstored that answers requests 1 to 3, in one piece."""
    values = [Message(Kind.READ, number, 0, b"value").encode() for number in (1, 2, 3)]
    return [bytes([0]) + answer(0, b"".join(values))]


# Files: recordings, provenance, labels.


def _replayed(data: bytes) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        link = ReplayLink(data.decode("ascii", "replace").splitlines(), "strange")
        try:
            return _recordable(pyxc.connect(link, names=False))
        finally:
            link.close()


def _recordable(xen: pyxc.Xen) -> object:
    """What a recording is asked: calls, multicalls, mappings, devices."""
    domain = questions.pv(xen)
    found: list[object] = [xen.physinfo(), xen.vcpus(), domain.memory.frames(), xen.sample()]
    with xen.events() as channels:
        found += [channels.bind_unbound(1), channels.wait(0)]
    xen.store.timeout = _PATIENCE_S
    found.append(xen.store.read("/local/domain/1/name"))
    return found


def _recordings() -> list[bytes]:
    stream = io.StringIO()
    inner = sim.Hypervisor(sim.named("sim:")).connect()
    with pyxc.connect(RecordLink(inner, stream), names=False) as xen:
        _recordable(xen)
    real = RECORDINGS / "xen-4.17" / "pools.calls"
    return [stream.getvalue().encode("ascii"), real.read_bytes()]


_ORIGIN = Origin(
    "core", provenance.State.COMPLETE, "pyxc 0.1.0", "host", 1, 2, 3,
    provenance.DomainOrigin(1, "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01", "web1", "a:b:c"),
    provenance.XenOrigin("4.17", "changeset", 0x15),
)  # fmt: skip
_DIGEST = Digest("0" * 64, 3, 4)


def _beside(data: bytes) -> object:
    """A file with only a sidecar."""
    with tempfile.TemporaryDirectory(prefix="pyxc-fuzz-") as directory:
        file = Path(directory) / "core"
        file.write_bytes(b"abc")
        file.with_name(file.name + provenance.SIDECAR).write_bytes(data)
        return provenance.verify(file)


def _trace(data: bytes) -> object:
    """A trace, decoded and drawn."""
    order, meter = OrderedRecords(), RunstateMeter(1000)
    drawing = PerfettoWriter(io.StringIO(), 1000)
    for found in traces.rounds(io.BytesIO(data)):
        ready = order.add(found)
        meter.add(ready)
        drawing.add(ready)
    drawing.close()
    return [record.name for record in order.rest()], meter.totals()


def _traces() -> list[bytes]:
    """Two rounds of two cpus: a change of runstates, lost records, an event that has no name."""
    words = (0x90021130, 5, 0, 1 << 16, 0xC001F001, 9, 0, 12, 0, 0, 0, 0x10ABC123, 5)
    data = struct.pack(f"<{len(words)}I", *words)
    piece = [struct.pack("<III", 0x2001F003, cpu, len(data)) + data for cpu in (0, 1, 0)]
    return [b"".join(piece)]


def _streamed(data: bytes) -> object:
    """A saved guest, in pieces whose size is the first byte. If it is read strictly, it is written again."""
    control, data = data[:1] or b"\0", data[1:]
    strict, size = control[0] > 0x7F, 1 + (control[0] & 0x7F) * 61
    reader, writer, summary = stream.Reader(strict=strict), stream.Writer(), Summary()
    again, skipped = bytearray(), False
    for start in range(0, len(data), size):
        for event in reader.feed(data[start : start + size]):
            summary.add(reader.place, event)
            skipped = skipped or isinstance(event, stream.Skipped)
            if strict and not skipped:
                for piece in writer.encode(event):
                    again += piece
    assert data.startswith(again)
    reader.close()
    return summary.info()


def _restored(data: bytes) -> object:
    """A guest from a stream: a whole domain, or none."""
    host = sim.Hypervisor(sim.named("sim:"), with_guests=False)
    with pyxc.connect(host.connect()) as xen:
        try:
            return xen.restore(io.BytesIO(data)).info()
        except BaseException:
            assert list(host.domains) == [0]
            assert host.machine.frames_of(1) is None or not len(host.machine.frames_of(1))
            raise
        finally:
            assert xen.link.maps == []


def _saved() -> list[bytes]:
    """A guest of two pages."""
    with pyxc.connect(sim.Hypervisor(sim.named("sim:"), with_guests=False).connect()) as xen:
        made = xen.domains.create(hvm=True, hap=True)
        made.set_max_memory(1 << 12)
        made.memory.set_paging_pool(4 << 10)
        made.memory.populate(range(2))
        made.unpause()
        file = io.BytesIO()
        made.save(file, suspend="force")
        return [file.getvalue()]


def _streams() -> list[bytes]:
    """Mostly without contents of pages, where no change matters more than another."""
    head, tail = streams.hvm()[:5], streams.hvm()[-4:]
    lean = [*head, *streams.page_data([(0, streams.XTAB), (5, streams.XALLOC)]), *tail]
    found = [lean, streams.xl(streams.libxl(lean, model=True)), *streams.SAMPLES.values()]
    return [bytes([0x8F]) + streams.encoded(events) for events in found]


def _core(data: bytes) -> object:
    """A core dump: all of its pages can be read, or it is refused."""
    with tempfile.NamedTemporaryFile(prefix="pyxc-fuzz-") as file:
        file.write(data)
        file.flush()
        with CoreFile(file.name) as core:
            assert sum(map(len, core.ranges())) == len(core.gfns)
            found: list[object] = [core.read(gfn)[:1] for gfn in core.gfns]
            form: Format = "kdump" if len(data) % 2 else "vmcore"
            with tempfile.TemporaryDirectory(prefix="pyxc-fuzz-") as directory, suppress(errors.Unsupported):
                found.append(convert(core, Path(directory) / "dump", format=form, provenance="none"))
            return core.xen, core.contexts, found


def _cores() -> list[bytes]:
    pages = {0: b"a", 1: b"b", 7: b"c"}
    text = b"OSRELEASE=6\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffff800000000000\nNUMBER(x)=1\n"
    tables = {0: text, 1: struct.pack("<Q", 0x3067) * 512, 7: struct.pack("<Q", 0x4067) * 512}
    return [
        cores.core(tables, [cores.context(cr3=0x3000)], {0: 5, 1: 3, 7: 4}),
        cores.core(pages, [cores.context(rip=1, cr3=2)], missing=1),
        cores.core(pages, [cores.context(32, eip=1, cr3=2)], {0: 5, 1: 3, 7: 4}),
    ]


def _kernel(data: bytes) -> object:
    """A kernel from another owner's disk, examined as a builder does."""
    kernel = Kernel.decode(data, 1 << 20)
    assert sum(len(segment.data) for segment in kernel.elf.segments) <= len(kernel.elf.segments) << 20
    found: list[object] = [kernel]
    if "pv" in kernel.kinds:
        plan = build_pv.plan(kernel, _PAGES, b"", b"ramdisk")
        assert all(0 <= pfn < _PAGES for pfn in plan.tables.values())
        frames = array("Q", range(_PAGES))
        pieces = [*plan.pieces, build_pv.p2m(plan, frames), *build_pv.tables(plan, frames)]
        assert all(0 <= frame < _PAGES for piece in pieces for frame in (piece.frames[0], piece.frames[-1]))
        found.append(build_pv.registers(_INTERFACES[0], plan, 1))
    if "pvh" in kernel.kinds:
        plan_pvh = build_pvh.plan(_INTERFACES[0], kernel, _PAGES, b"", b"ramdisk")
        assert all(0 <= piece.address < 1 << 32 for piece in plan_pvh.pieces)
    return found


_PAGES = 16 << 8


def _kernels() -> list[bytes]:
    plain = [sim.kernel("pv"), sim.kernel("pv32"), sim.kernel("pvh")]
    packed = [kernels.bzimage(form(plain[0])) for form in kernels.FORMATS.values()]
    return [*plain, *packed, kernels.FORMATS["xz"](plain[2])]


@cache
def _speaker() -> tuple[sim.Hypervisor, pyxc.Xen]:
    host = sim.Hypervisor(sim.named("sim:"))
    host.script(1)
    return host, pyxc.connect(host.connect())


def _console(data: bytes) -> object:
    """A page that the guest has written as it likes."""
    host, xen = _speaker()
    domain = host.domains[1]
    assert domain.rings is not None
    host.machine.memory.write(domain.rings.console, 0, data[:4096].ljust(4096, b"\0"))
    with Console(xen.domains[1]) as console:
        console.write_some(b"typed")
        with suppress(errors.DecodeError):
            assert len(console.read(timeout=0)) <= 2048
        assert len(console.last()) <= 2048
        return console.read(timeout=0)


def _shown(data: bytes) -> str:
    """What a guest prints, as it is shown where no raw terminal is."""
    harmless = Harmless()
    text = "".join(harmless.text(bytes([byte])) for byte in data)
    assert all(letter.isprintable() or letter in "\n\t" for letter in text)
    return text


_CONFIG = b'''name="web";kernel='/boot/\\x41'\nmemory=0x200\ndisk=['phy:/dev/a,xvda,w',\n"/b,raw,xvdb"]
vif = [''] # one\ncpus=["0-3","^1"]\nextra="a"\nextra+="b"\non_crash="preserve"'''


def _config(data: bytes) -> object:
    """A configuration of a guest, and an override."""
    text, _, override = data.decode("latin-1").partition("\xff")
    return GuestConfig.parse(text, [override] if override else [])


def _labelled(data: bytes) -> object:
    return labels._decoded(Attributes(-1, "strange"), data)


def _translated(data: bytes) -> object:
    """Page tables that a guest has written as it likes, from the frame that they are in."""
    host, xen = _speaker()
    db1, table = host.domains[2], 0x300
    data = data[:16384]
    for place in range(0, len(data), 4096):
        host.machine.memory.write(db1.p2m[table + place // 4096], 0, data[place : place + 4096])
    found: list[object] = []
    for levels in (2, 3, 4, 5):
        how = Paging(levels, 0).with_root(table << 12)
        with Virtual(xen.domains[2].memory, how) as space:
            for address in (0, 0x1234, 0x7FFF_F000):
                with suppress(errors.Error):
                    found.append(space.translate(address))
            found += space.search(b"\xff", limit=1 << 20)
    return found


def _debugged(data: bytes) -> list[bytes | None]:
    """What a debugger sends: each packet gets a reply, whatever it is."""
    session = GdbSession(_speaker()[1].domains["db1"])
    try:
        return [session.reply(content) for content in Packets().feed(data)]
    finally:
        session._forget()


def _packets() -> list[bytes]:
    contents = [b"qSupported:x", b"qXfer:features:read:target.xml:0,fff", b"Hg1", b"g", b"T1"]
    contents += [b"mffffffff80100000,10", b"qThreadExtraInfo,1", b"s", b"Z0,1,1"]
    return [b"".join(map(packet, contents)), *map(packet, contents)]


def _from(data: bytes) -> Callable[[int], bytes]:
    """A connection that brings some bytes and ends."""
    left = io.BytesIO(data)

    def receive(size: int) -> bytes:
        found = left.read(size)
        if len(found) < size:
            raise EOFError
        return found

    return receive


def _requested(data: bytes) -> list[bytes]:
    """Requests to a memory server, but those that take nothing from it and search all memory."""
    receive, found = _from(data), []
    with DomainMemory(_speaker()[1].domains["db1"]) as memory:
        session = MemorySession(memory)
        with suppress(EOFError):
            while True:
                request = memory_wire.Request.decode(receive)
                if request.op is not memory_wire.Op.VMCOREINFO:
                    found.append(session.answer(request)[:64])
    return found


def _replied(data: bytes) -> object:
    """What a memory server sends."""
    return memory_wire.from_json(memory_wire.taken(_from(data))[1])


def _requests() -> list[bytes]:
    asked = [
        (op, 0, 0xFFFF_FFFF_8010_0000, 8, b"") for op in memory_wire.Op if op is not memory_wire.Op.WRITE
    ]
    return [memory_wire.Request(*words).encode() for words in asked]


def _tables() -> list[bytes]:
    """A table that is its own entry, four levels of tables, and large pages."""
    entries = [0x300067] + [0] * 511
    chain = b"".join(struct.pack("<512Q", 0x300067 + (level << 12), *[0] * 511) for level in (1, 2, 3, 4))
    return [struct.pack("<512Q", *entries), chain, struct.pack("<512Q", *([0xE7] * 512))]


# Structures by themselves. The native core is in core_targets.py.


def _contexts() -> list[bytes]:
    link = sim.Hypervisor(sim.named("sim:")).connect()
    xen = pyxc.connect(link, names=False)
    return [bytes([0]) + bytes(questions.hvm(xen).hvm_context.read())]


def _registers(data: bytes) -> object:
    interface = _INTERFACES[data[0] % len(RELEASES)] if data else _INTERFACES[0]
    width = 32 if data[:1] > b"\x80" and interface.arch != "ppc64" else 64
    context = VcpuContext.decode(data[1:], width, interface)
    assert VcpuContext.decode(context.encode(), width, interface) == context
    return context


TARGETS: dict[str, Target] = {
    **_of("xen", questions.HOST),
    **_of("domain", questions.DOMAINS),
    **_of("store", questions.STORE),
    **_of("compat", questions.COMPAT),
    "store.wire.parser": Target(_parse, lambda: _conversation(b"\x05")),
    "store.wire.split": Target(split, lambda: [b"a\0b\0", b""]),
    "store.wire.error": Target(error_of, lambda: [b"ENOENT\0", b"EFOO\0"]),
    "store.wire.permission": Target(
        lambda data: Permission.parse(data.decode("latin-1")), lambda: [b"r3", b"b65535"], (ValueError,)
    ),
    "guest.config": Target(_config, lambda: [_CONFIG, _CONFIG + b"\xffmemory=3"]),
    "domain.console": Target(
        _console, lambda: [b"x" * 3072 + struct.pack("<IIII", 0, 0, 5, 2000), bytes(4096)]
    ),
    "domain.page_tables": Target(_translated, _tables),
    "debug.gdb": Target(_debugged, _packets),
    "debug.memory_server": Target(_requested, _requests),
    "debug.memory_client": Target(
        _replied, lambda: [memory_wire.reply(memory_wire.Status.OK, b'{"rip": 5}')], (EOFError,)
    ),
    "cli.terminal": Target(_shown, lambda: ["\x1b[1mé\r\n".encode()]),
    "store.channel": Target(_received, lambda: [b"bytes"]),
    "xenstored": Target(_serve, lambda: [*_conversation(b"\0"), *_conversation(b"\1")]),
    "evtchn": Target(_ports, lambda: [struct.pack("=I", 5), b""]),
    "replay": Target(_replayed, _recordings, (ValueError, OSError)),
    "provenance.origin": Target(Origin.decode, lambda: [_ORIGIN.encode()]),
    "provenance.digest": Target(Digest.decode, lambda: [_DIGEST.encode()]),
    "provenance.sidecar": Target(_beside, lambda: [provenance.sidecar(_ORIGIN, _DIGEST)]),
    "files.traces": Target(_trace, _traces),
    "guest.stream": Target(_streamed, _streams),
    "guest.restore": Target(_restored, _saved, (ValueError,)),
    "guest.core": Target(_core, _cores),
    "guest.kernel": Target(_kernel, _kernels, (pyxc.MissingLibrary, ValueError)),
    "labels": Target(_labelled, lambda: [b"tenant1:vm_r:disk_t:s0"]),
    "hvm_context": Target(
        lambda data: list(HvmContext(data[1:], _INTERFACES[data[0] % 8 if data else 0])), _contexts
    ),
    "vcpu_context": Target(_registers, lambda: [b"\0" + bytes(5168), b"\x88" + bytes(2800)]),
    "sim.dispatch": Target(attack.attack, attack.samples),
    **{
        f"core.{name}": Target(run, partial(list, [sample]), core_targets.REFUSED)
        for name, (run, sample) in core_targets.SAMPLES.items()
    },
}
"""Name to decoder."""
