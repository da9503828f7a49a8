# SPDX-License-Identifier: MIT
"""Saved guests that are kept in memory: many domains of one, and clones that go back to their start."""

from __future__ import annotations

import errno
import io
from array import array
from pathlib import Path

import pytest
from hosts import Host

import pyxc
from pyxc import DecodeError, HvmParam, TscInfo, sim
from pyxc.errors import GuestUnable, HypercallError, ReadOnlyError
from pyxc.guest import stream
from pyxc.guest.built import BuiltDomain

PAGES = 521


def saved(host: Host, kernel: str = "pvh") -> bytes:
    """A small guest, with something in its memory, that is no more."""
    made = host.xen.domains.build(sim.kernel(kernel), memory_kb=2048 if kernel == "pvh" else 8192)  # type: ignore[arg-type]
    made.unpause()
    file = io.BytesIO()
    if kernel == "pvh":
        made.memory.write(0x42, b"as it was saved")
        made.save(file, suspend="force")
    else:
        host.truth.introduce(made.domid, "web")
        guest = host.truth.script(made.domid)
        guest.obey()
        made.save(file)
        host.xen.store.remove(f"/local/domain/{made.domid}")
    made.destroy()
    return file.getvalue()


def written(host: Host, clone: BuiltDomain, gfn: int, data: bytes) -> None:
    host.truth.write_as_guest(clone.domid, gfn, 0, data)


@pytest.mark.parametrize(("kernel", "pages"), [("pvh", PAGES), ("pv", 2048)])
def test_many_domains_of_one_guest(host: Host, kernel: str, pages: int) -> None:
    template = host.xen.template(io.BytesIO(saved(host, kernel)))
    assert (template.nr_pages, repr(template)) == (pages, f"<Template of {pages} pages>")
    clones = [template.start() for _ in range(3)]
    assert len({clone.uuid for clone in clones}) == 3
    assert [(clone.kind, clone.name, clone.info().tot_pages, clone.info().paused) for clone in clones] == [
        (kernel, None, pages, False)
    ] * 3
    if kernel == "pvh":
        clones[0].memory.write(0x42, b"of the first alone")
        assert [clone.memory.read(0x42, size=15) for clone in clones[1:]] == [b"as it was saved"] * 2
    named = template.start(name="web7", paused=True)
    assert (named.name, named.info().paused) == ("web7", True)


def test_a_page_that_was_sent_twice(host: Host) -> None:
    """What counts is how it was last."""
    writer, file, again = stream.Writer(), io.BytesIO(), array("Q", [0x42])
    for event in stream.Reader().feed(saved(host)):
        if isinstance(event, TscInfo):
            file.writelines(writer.encode(stream.PageData(again, b"\0")))
            file.writelines(writer.encode(stream.Pages(again, b"\0", memoryview(b"later".ljust(4096)))))
        file.writelines(writer.encode(event))
    template = host.xen.template(io.BytesIO(file.getvalue()))
    assert template.nr_pages == PAGES
    assert template.start().memory.read(0x42, size=5) == b"later"


def test_a_clone_goes_back(host: Host) -> None:
    template = host.xen.template(io.BytesIO(saved(host)))
    clone = template.start(revertible=True)
    assert template.revert(clone) == 0
    context = bytes(clone.hvm_context.read())
    port = clone.channels.open(0)
    clone.hvm_params.write(HvmParam.CALLBACK_IRQ, 1)
    for gfn in (0x42, 0x43, 0x1FF):
        written(host, clone, gfn, b"something else")
    assert template.revert(clone) == 3
    assert clone.memory.read(0x42, size=15) == b"as it was saved"
    assert clone.memory.read(0x43) == bytes(4096)
    assert bytes(clone.hvm_context.read()) == context
    assert clone.hvm_params.read(HvmParam.CALLBACK_IRQ) == 0
    assert port not in [one.port for one in clone.channels.ports()]
    assert clone.hvm_params.read(HvmParam.STORE_EVTCHN) == clone.store_port
    assert (clone.info().paused, template.revert(clone)) == (False, 0)


def test_a_paused_clone_stays_paused(host: Host) -> None:
    template = host.xen.template(io.BytesIO(saved(host)))
    clone = template.start(revertible=True, paused=True)
    template.revert(clone)
    assert clone.info().paused


@pytest.mark.parametrize("step", range(8))
def test_one_that_is_partly_reverted_does_not_run(host: Host, step: int) -> None:
    """Whichever hypercall fails; before the first page is copied it runs as before."""
    template = host.xen.template(io.BytesIO(saved(host)))
    clone = template.start(revertible=True)
    for gfn in (0x42, 0x43):
        written(host, clone, gfn, b"something else")
    host.link.fail_call(step, errno.EIO)
    with pytest.raises(HypercallError):
        template.revert(clone)
    untouched = clone.memory.read(0x42, size=14) == b"something else"
    assert clone.info().paused != untouched


def test_what_cannot_be_reverted(host: Host) -> None:
    template = host.xen.template(io.BytesIO(saved(host)))
    with pytest.raises(ValueError, match="not started revertible"):
        template.revert(template.start())
    with pytest.raises(ValueError, match="without a name"):
        template.start(name="web", revertible=True)
    with pytest.raises(ValueError, match="only a PVH guest"):
        host.xen.template(io.BytesIO(saved(host, "pv"))).start(revertible=True)
    clone = template.start(revertible=True)
    clone.memory.decrease([0x55])
    with pytest.raises(GuestUnable, match="other memory"):
        template.revert(clone)
    assert not clone.info().paused


def test_streams_that_make_no_template(host: Host, tmp_path: Path) -> None:
    data = saved(host)
    before = len(host.xen.domains)
    with pytest.raises(DecodeError, match="ends at byte"):
        host.xen.template(io.BytesIO(data[: len(data) // 2]))
    file = io.BytesIO()
    writer = stream.Writer()
    for event in stream.Reader().feed(data):
        if not isinstance(
            event, stream.XlHeader | stream.LibxlHeader | stream.LibxcContext | stream.LibxlEnd
        ):
            file.writelines(writer.encode(event))
    with pytest.raises(ValueError, match="no size|not have the size"):
        host.xen.template(io.BytesIO(file.getvalue()))
    assert len(host.xen.domains) == before


def test_a_read_only_handle_makes_none(host: Host, tmp_path: Path) -> None:
    readonly = pyxc.connect(host.truth.connect(), readonly=True)
    with pytest.raises(ReadOnlyError):
        readonly.template(tmp_path / "none")
