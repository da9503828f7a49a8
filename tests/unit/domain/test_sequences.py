# SPDX-License-Identifier: MIT
"""Lists of frames are sequences of what they list, and flags print as their names."""

from __future__ import annotations

from array import array

import pytest
from hosts import Host

from pyxc import DirtyPages, DomainFlag


def test_a_frame_list_is_a_sequence_of_frames(host: Host) -> None:
    memory = host.xen.domains[1].memory
    listed = memory.frames()
    assert len(listed) == 16384
    assert list(listed) == listed.frames.tolist()
    assert listed[0] in listed
    assert 0 not in listed
    assert listed[:2] == listed.frames[:2]
    assert listed == memory.frames()
    assert listed != memory.frames(types=True)


def test_a_p2m_is_a_sequence_of_machine_frames_by_pfn(host: Host) -> None:
    p2m = host.xen.domains[1].memory.p2m()
    assert (len(p2m), p2m[300], p2m[-1]) == (len(p2m.entries), p2m.entries[300], p2m.entries[-1])
    with pytest.raises(IndexError):
        p2m[len(p2m)]


def test_dirty_pages_are_a_sequence_of_their_numbers() -> None:
    dirty = DirtyPages(bytes([0b10000001, 0, 0b1]), 17, 3, 3)
    assert list(dirty) == [0, 7, 16]
    assert dirty.frames() == array("Q", [0, 7, 16])
    assert [frame for frame in range(-1, 20) if frame in dirty] == [0, 7, 16]
    assert dirty == DirtyPages(bytes([0b10000001, 0, 0b1]), 17, 3, 3)


def test_flags_print_as_their_names() -> None:
    flags = DomainFlag.PAUSED | DomainFlag.BLOCKED
    assert str(flags) == f"{flags}" == "PAUSED|BLOCKED"
    assert (f"{flags:#x}", str(DomainFlag(0))) == ("0x18", "")
