# SPDX-License-Identifier: MIT
"""Memory of a domain: given, taken, mapped, and the frames that it is."""

from __future__ import annotations

import errno

import pytest

import pyxc
from pyxc.abi import domctl


def test_populate_gives_frames_that_belong_to_the_domain(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    frames = pv.memory.populate(range(10))
    assert len(set(frames)) == 10
    assert all(0 < frame <= xen.physinfo().max_mfn for frame in frames)
    assert pv.memory.info().tot_pages == 10
    kinds = xen.call(domctl.GETPAGEFRAMEINFO3, pv.domid, num=10, array=frames.tobytes()).buffers["array"]
    assert xen.words(kinds).tolist() == [pyxc.PageType.NOTAB] * 10


def test_large_extent(pv: pyxc.Domain) -> None:
    (first,) = pv.memory.populate([0], order=9)
    assert first % 512 == 0
    assert pv.memory.info().tot_pages == 512
    pv.memory.decrease([first], order=9)
    assert pv.memory.info().tot_pages == 0


def test_increase_and_decrease(pv: pyxc.Domain) -> None:
    frames = pv.memory.increase(5)
    assert pv.memory.info().tot_pages == 5
    pv.memory.decrease(frames[:2])
    assert pv.memory.info().tot_pages == 3
    with pytest.raises(pyxc.HypercallError, match="0 of 1 extents"):
        pv.memory.decrease(frames[:1])


def test_populate_beyond_the_limit_gives_nothing(pv: pyxc.Domain) -> None:
    with pytest.raises(pyxc.HypercallError, match="extents were done") as caught:
        pv.memory.populate(range(1025))
    assert caught.value.errno == errno.ENOMEM
    assert pv.memory.info().tot_pages == 0


def test_two_mappings_show_each_others_writes(pv: pyxc.Domain) -> None:
    frames = pv.memory.populate(range(2))
    with pv.memory.map(frames, writable=True) as one, pv.memory.map(reversed(frames)) as other:
        assert (one.size, one.domid, one.writable) == (8192, pv.domid, True)
        assert (other.writable, other.closed, other.errors) == (False, False, ())
        with memoryview(one) as written, memoryview(other) as seen:
            written[0:5] = b"first"
            written[4096:4102] = b"second"
            assert bytes(seen[0:6]) == b"second"
            assert bytes(seen[4096:4101]) == b"first"
            assert seen.readonly
            with pytest.raises(TypeError):
                seen[0] = 1
    assert pv.memory.read(frames[0], 0, 5) == b"first"


def test_write_and_read_across_pages(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    text = bytes(range(256)) * 20
    pvh.memory.populate(range(16, 20))
    pvh.memory.write(16, text, offset=4000)
    assert pvh.memory.read(16, offset=4000, size=len(text)) == text
    assert pvh.memory.read(17, size=100) == text[96:196]


def test_frame_that_cannot_be_mapped_is_named(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    (frame,) = pv.memory.populate([0])
    absent = 0xFFFFFFFF
    with pytest.raises(pyxc.HypercallError, match=f"frame {absent:#x} cannot be mapped"):
        pv.memory.map([frame, absent])
    with pytest.raises(pyxc.HypercallError, match="frame 0x63 cannot be mapped"):
        pvh.memory.read(99)
    assert pv.xen.link.maps == []


def test_errors_of_single_frames(pv: pyxc.Domain) -> None:
    frames = pv.memory.populate([0])
    frames.append(0xFFFFFFFF)
    with pv.xen.link.map_frames(pv.domid, frames) as mapped:
        good, bad = mapped.errors
        assert good == 0 and bad != 0
        with pytest.raises(OSError):
            memoryview(mapped)


def test_memoryview_keeps_its_mapping(pv: pyxc.Domain) -> None:
    (frame,) = pv.memory.populate([0])
    pv.memory.write(frame, b"kept")
    mapped = pv.memory.map(frame)
    view = memoryview(mapped)
    assert mapped.exports == 1
    with pytest.raises(BufferError):
        mapped.close()
    assert bytes(view[:4]) == b"kept"
    view.release()
    mapped.close()
    with pytest.raises(ValueError, match="closed"):
        memoryview(mapped)


def test_view_outlives_the_name_of_its_mapping(pv: pyxc.Domain) -> None:
    (frame,) = pv.memory.populate([0])
    pv.memory.write(frame, b"kept")
    view = memoryview(pv.memory.map(frame))
    assert bytes(view[:4]) == b"kept"
    assert len(pv.xen.link.maps) == 1
    view.release()
    del view
    assert pv.xen.link.maps == []


def test_closing_the_handle_says_which_view_keeps_it(pv: pyxc.Domain) -> None:
    (frame,) = pv.memory.populate([0])
    other = pyxc.open(names=False)
    view = memoryview(other.domains[pv.domid].memory.map(frame))
    with pytest.raises(BufferError, match=rf"domain {pv.domid}\b"):
        other.close()
    view.release()
    other.close()


def test_closing_the_handle_closes_its_mappings(pv: pyxc.Domain) -> None:
    (frame,) = pv.memory.populate([0])
    other = pyxc.open(names=False)
    mapped = other.domains[pv.domid].memory.map(frame)
    other.close()
    assert mapped.closed
    pv.destroy(timeout=5)


def test_maximum_gpfn(pvh: pyxc.Domain) -> None:
    pvh.memory.populate([16, 17, 0xFEFFF])
    assert pvh.memory.maximum_gpfn() == 0xFEFFF


def test_frames_of_a_pvh_domain(pvh: pyxc.Domain) -> None:
    assert pvh.memory.frames().frames.tolist() == []
    gfns = [0, 1, 500, 1023, 1024, 2048, 0xFEFF8, 0xFEFFF]
    pvh.memory.populate(gfns)
    found = pvh.memory.frames(types=True)
    assert sorted(found.frames) == gfns
    assert (found.source, found.translated, set(found.types or ())) == ("getpageframeinfo3", True, {0})
    with pytest.raises(pyxc.Unsupported, match="only PV"):
        pvh.memory.p2m()


@pytest.mark.needs_xen(4, 12)
def test_pv_domain_that_publishes_no_p2m(pv: pyxc.Domain) -> None:
    assert pv.memory.frames().frames.tolist() == []
    pv.memory.populate([0])
    for call in (pv.memory.p2m, pv.memory.frames):
        with pytest.raises(pyxc.Unsupported, match="publishes none"):
            call()
