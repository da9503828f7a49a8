# SPDX-License-Identifier: MIT
"""Core dumps: what is in the file, read as ELF by other code, and what becomes of it when something fails."""

from __future__ import annotations

import errno
import os
import resource
import struct
from array import array
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hosts import FOREIGN, Boot, Host, Swap

import pyxc
from pyxc.abi import domctl
from pyxc.abi import memory as memory_op
from pyxc.domain.registers import VcpuContext
from pyxc.files import provenance

PV, PVH, BUILD = 1, 2, 3
PAGE = 4096
NOTE_HEADER, NOTE_VERSION, NOTE_FORMAT = 0x2000001, 0x2000002, 0x2000003


class Core(NamedTuple):
    """A core file by its sections, and its notes by their types."""

    sections: dict[str, bytes]
    notes: dict[int, bytes]
    order: str

    @property
    def pages(self) -> list[bytes]:
        content = self.sections[".xen_pages"]
        return [content[start : start + PAGE] for start in range(0, len(content), PAGE)]

    def words(self, name: str) -> tuple[int, ...]:
        content = self.sections[name]
        return struct.unpack(f"{self.order}{len(content) // 8}Q", content)


def read(path: Path) -> Core:
    data = path.read_bytes()
    assert data[:5] == b"\x7fELF\x02"
    order = "<" if data[5] == 1 else ">"
    (kind,) = struct.unpack_from(f"{order}H", data, 16)
    assert kind == 4, "a core file"
    (offset,) = struct.unpack_from(f"{order}Q", data, 40)
    size, count, names_index = struct.unpack_from(f"{order}HHH", data, 58)
    places = range(offset, offset + count * size, size)
    headers = [struct.unpack_from(f"{order}IIQQQQIIQQ", data, place) for place in places]
    names = data[headers[names_index][4] :][: headers[names_index][5]]
    sections = {
        names[header[0] :].split(b"\0")[0].decode(): data[header[4] : header[4] + header[5]]
        for header in headers
    }
    return Core(sections, dict(notes(sections[".note.Xen"], order)), order)


def notes(section: bytes, order: str) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(section):
        name, size, kind = struct.unpack_from(f"{order}III", section, at)
        assert section[at + 12 : at + 12 + name] == b"Xen\0"
        found.append((kind, section[at + 16 : at + 16 + size]))
        at += 16 + size
    return found


def memory(host: Host, frame: int) -> bytes:
    return host.truth.machine.memory.read(frame, 0, PAGE)


def test_a_pv_domain(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "core"
    domain = host.xen.domains[BUILD]
    told: list[tuple[int, int]] = []
    dump = domain.dump_core(path, progress=lambda *done: told.append(done), provenance="none")
    core, entries = read(path), domain.memory.p2m().entries
    assert list(core.sections) == [
        "", ".shstrtab", ".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_pages", ".xen_p2m",
    ]  # fmt: skip
    total = domain.info().tot_pages
    assert dump == (total, 0, 1, None)
    pairs = core.words(".xen_p2m")
    pfns, frames = pairs[::2], pairs[1::2]
    assert len(pfns) == total
    assert list(pfns) == sorted(pfns)
    assert all(entries[pfn] == frame for pfn, frame in zip(pfns, frames))
    assert core.pages == [memory(host, frame) for frame in frames]
    assert core.sections[".xen_shared_info"] == memory(host, host.truth.domains[BUILD].shared_info)
    context = VcpuContext.decode(core.sections[".xen_prstatus"], 64, host.xen.interface)
    assert context["rip"] == domain.vcpu(0).context()["rip"]
    assert struct.unpack("<4Q", core.notes[NOTE_HEADER]) == (0xF00FEBED, 1, total, PAGE)
    assert core.notes[NOTE_FORMAT] == struct.pack("<Q", 1)
    assert told[0] == (0, total)
    assert told[-1] == (total, total)


def test_the_hypervisor_is_named(host: Host, tmp_path: Path) -> None:
    host.xen.domains[BUILD].dump_core(tmp_path / "core", provenance="none")
    told = read(tmp_path / "core").notes[NOTE_VERSION]
    assert len(told) == 1280
    assert struct.unpack_from("<2Q", told) == (4, 17)
    assert told[16:32].rstrip(b"\0").decode() == host.xen.version.extra
    assert told[176:1200].rstrip(b"\0").decode().split() == list(host.xen.capabilities)
    assert struct.unpack_from("<2Q", told, 1264) == (host.xen.virt_start, PAGE)


def test_a_translated_domain_has_guest_frames(host: Host, tmp_path: Path) -> None:
    domain = host.xen.domains.create(hvm=True, hap=True)
    domain.set_max_memory(1024)
    gfns = [*range(32), 0xFE000]
    domain.memory.populate(gfns)
    domain.memory.write(7, b"here")
    dump = domain.dump_core(tmp_path / "core", provenance="none")
    core = read(tmp_path / "core")
    assert dump.nr_pages == 33
    assert list(core.words(".xen_pfn")) == gfns
    assert core.pages[7][:4] == b"here"
    assert ".xen_shared_info" not in core.sections
    assert struct.unpack("<4Q", core.notes[NOTE_HEADER])[0] == 0xF00FEBEE


@pytest.mark.parametrize("release", ["3.1", "4.4", "4.7", "4.14", "4.22"])
def test_every_release(boot: Boot, release: str, tmp_path: Path) -> None:
    domain = boot(release).xen.domains[BUILD]
    assert domain.dump_core(tmp_path / "core", provenance="none") == (domain.info().tot_pages, 0, 1, None)
    assert len(read(tmp_path / "core").pages) == domain.info().tot_pages


def test_a_page_that_cannot_be_read_is_left_out(host: Host, tmp_path: Path) -> None:
    domain = host.xen.domains[BUILD]
    frames = domain.memory.p2m().entries
    dump = domain.dump_core(
        tmp_path / "core",
        progress=lambda done, _: None if done else domain.memory.decrease(frames[5:6]),
        provenance="none",
    )
    core = read(tmp_path / "core")
    assert (dump.nr_missing, core.words(".xen_p2m")[-2:]) == (1, (2**64 - 1, 2**64 - 1))
    assert core.pages[-1] == bytes(PAGE)
    assert 5 not in core.words(".xen_p2m")[::2]
    assert core.pages[5] == memory(host, frames[6])


def test_the_domain_is_paused_meanwhile_and_runs_afterwards(host: Host, tmp_path: Path) -> None:
    domain = host.xen.domains[PV]
    seen = []
    domain.dump_core(
        tmp_path / "core", progress=lambda *_: seen.append(domain.info().paused), provenance="none"
    )
    assert set(seen) == {True}
    assert not domain.info().paused
    seen.clear()
    domain.dump_core(
        tmp_path / "core",
        pause=False,
        progress=lambda *_: seen.append(domain.info().paused),
        provenance="none",
    )
    assert set(seen) == {False}


def test_a_paused_domain_stays_paused(boot: Boot, tmp_path: Path) -> None:
    domain = boot("4.4").xen.domains[BUILD]
    assert domain.info().paused
    domain.dump_core(tmp_path / "core", provenance="none")
    assert domain.info().paused


def test_the_file_says_where_it_comes_from(host: Host, attributes_directory: Path) -> None:
    path = attributes_directory / "core"
    domain = host.xen.domains[BUILD]
    domain.dump_core(path)
    assert provenance.verify(path).verdict is provenance.Verdict.OK
    origin = provenance.read(path).origin
    assert origin is not None and origin.domain is not None and origin.xen is not None
    assert (origin.kind, origin.domain.domid, origin.domain.uuid) == ("core", BUILD, str(domain.uuid))
    assert (origin.domain.name, origin.xen.version) == ("build", "4.17")


def test_a_dump_that_fails_has_not_its_name(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "core"
    domain = host.xen.domains[PV]
    domain.dump_core(path, provenance="none")
    before = path.read_bytes()

    def fail(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        domain.dump_core(path, progress=fail, provenance="none")
    assert path.read_bytes() == before
    assert (tmp_path / "core.part").exists()
    assert not domain.info().paused
    domain.dump_core(path, provenance="none")
    assert list(tmp_path.iterdir()) == [path], "what was left is no obstacle"


_OTHERS = [b"the one before", b"\x7fELF" + bytes(60), Path("/bin/true").read_bytes()]


@pytest.mark.parametrize("content", _OTHERS)
def test_another_file_is_replaced_on_request_only(host: Host, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "core"
    path.write_bytes(content)
    domain = host.xen.domains[BUILD]
    with pytest.raises(FileExistsError, match="exists and is not a core file"):
        domain.dump_core(path, provenance="none")
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    domain.dump_core(path, replace=True, provenance="none")
    assert read(path).pages
    domain.dump_core(path, provenance="none")


# Another domain gets the id while the dump is written.


@pytest.mark.parametrize("at", [1, 2, 20, 128])
def test_no_page_of_a_domain_that_got_the_id(host: Host, tmp_path: Path, at: int) -> None:
    host.link.guest_acts = swap = Swap(host.truth, PVH, at)
    with pytest.raises((pyxc.DomainGone, pyxc.DomainNotFound)):
        host.xen.domains[PVH].dump_core(tmp_path / "core", provenance="none")
    assert not (tmp_path / "core").exists()
    part = tmp_path / "core.part"
    assert not part.exists() or FOREIGN not in part.read_bytes()
    assert swap.left_alone()


def test_the_end_is_looked_at_as_well(host: Host, tmp_path: Path) -> None:
    domain = host.xen.domains[PVH]

    def end(done: int, total: int) -> None:
        if done == total:
            host.truth.kill(host.truth.domains[PVH])

    with pytest.raises(pyxc.DomainNotFound):
        domain.dump_core(tmp_path / "core", progress=end, provenance="none")
    assert [file.name for file in tmp_path.iterdir()] == ["core.part"]


# Failures and interrupts.


def test_a_refused_dump_leaves_nothing(boot: Boot, tmp_path: Path) -> None:
    with pytest.raises(pyxc.ReadOnlyError):
        boot(readonly=True).xen.domains[PV].dump_core(tmp_path / "core", provenance="none")
    host = boot()
    host.link.lie(memory_op.GET_POD_TARGET, pod_entries=5)
    with pytest.raises(pyxc.Unsupported, match="on demand; force"):
        host.xen.domains[PVH].dump_core(tmp_path / "core", provenance="none")
    assert list(tmp_path.iterdir()) == []
    assert host.truth.domains[PVH].pauses == 0
    host.xen.domains[PVH].dump_core(tmp_path / "core", force=True, provenance="none")


def test_a_dump_does_not_begin_where_there_is_no_space(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = os.statvfs_result((4096, 4096, 20000, 8000, 8000, 100, 100, 100, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda fd: free)
    paused = []
    host.link.before(domctl.PAUSEDOMAIN, lambda: paused.append(True))
    with pytest.raises(OSError, match="64 MiB are needed, and 31 MiB are free") as refused:
        host.xen.domains[PV].dump_core(tmp_path / "core", provenance="none")
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(tmp_path / "core"))
    assert (list(tmp_path.iterdir()), paused) == ([], [])


def test_a_disk_that_fills_up_is_left_as_it_was(host: Host, tmp_path: Path) -> None:
    """A limit on the size of files has the effect of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            host.xen.domains[PV].dump_core(tmp_path / "core", provenance="none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert host.truth.domains[PV].pauses == 0


@pytest.mark.parametrize("pauses", [1, 2])
def test_an_interrupt_while_it_is_paused_or_let_run(host: Host, tmp_path: Path, pauses: int) -> None:
    """It comes when the hypercall has been done, and before the program knows."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    host.link.after(domctl.PAUSEDOMAIN, interrupt)
    with pytest.raises(KeyboardInterrupt):
        host.xen.domains[PV].dump_core(tmp_path / "core", provenance="none")
    assert host.truth.domains[PV].pauses == 0
    for _ in range(pauses):
        host.link.after(domctl.UNPAUSEDOMAIN, interrupt)
    with pytest.raises(KeyboardInterrupt):
        host.xen.domains[PV].dump_core(tmp_path / "core", provenance="none")
    assert host.truth.domains[PV].pauses == 0


def test_one_error_does_not_leave_it_paused_and_more_are_reported(host: Host, tmp_path: Path) -> None:
    domain = host.xen.domains[PV]
    for operation in (domctl.UNPAUSEDOMAIN, domctl.GETDOMAININFO):
        host.link.fail(operation, errno.EINTR)
    with suppress(pyxc.HypercallError):
        domain.dump_core(tmp_path / "core", provenance="none")
    assert host.truth.domains[PV].pauses == 0
    host.link.fail(domctl.UNPAUSEDOMAIN, errno.EPERM, times=9)
    with pytest.raises(pyxc.PermissionDenied) as refused:
        domain.dump_core(tmp_path / "core", provenance="none")
    assert refused.value.__notes__ == ["domain 1 is left paused"]


def test_what_cannot_be_dumped(host: Host, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="itself"):
        host.xen.domains[0].dump_core(tmp_path / "core")
    domain = host.xen.domains.create()
    with pytest.raises(pyxc.Unsupported, match="no readable p2m"):
        domain.dump_core(tmp_path / "core", provenance="none")
    domain.destroy()
    with pytest.raises(pyxc.DomainNotFound):
        domain.dump_core(tmp_path / "core")


def test_a_refused_context_is_no_core(host: Host, tmp_path: Path) -> None:
    host.link.fail(domctl.GETVCPUCONTEXT, errno.EPERM)
    with pytest.raises(pyxc.PermissionDenied):
        host.xen.domains[BUILD].dump_core(tmp_path / "core", provenance="none")


def test_a_machine_of_the_other_byte_order_is_no_excuse(boot: Boot, tmp_path: Path) -> None:
    with pytest.raises(pyxc.Unsupported, match="only x86 guests"):
        boot("sim:ppc64").xen.domains[PV].dump_core(tmp_path / "core", provenance="none")


def test_words_of_the_frames(host: Host, tmp_path: Path) -> None:
    host.xen.domains[BUILD].dump_core(tmp_path / "core", provenance="none")
    assert array("Q", read(tmp_path / "core").sections[".xen_p2m"])[0] == 0
