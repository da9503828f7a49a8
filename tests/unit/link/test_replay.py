# SPDX-License-Identifier: MIT
"""Links that record and replay give back what they have opened, also when they fail."""

from __future__ import annotations

import io
import json
import os
from array import array
from pathlib import Path

import pytest
from hosts import Boot

import pyxc
from pyxc.link import Link
from pyxc.link.record import RecordLink
from pyxc.link.replay import ReplayError, ReplayLink

DB1 = 2
FRAMES = array("Q", [0x100])
MAPS = 40


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def map_some(link: Link) -> None:
    for _ in range(MAPS):
        link.map_frames(DB1, FRAMES).close()


@pytest.fixture
def lines(boot: Boot) -> list[str]:
    """Of a device that is opened, and of pages that are mapped."""
    stream = io.StringIO()
    link = RecordLink(boot().truth.connect(), stream)
    link.open_events().close()
    map_some(link)
    return stream.getvalue().splitlines()


@pytest.fixture
def file(lines: list[str], tmp_path: Path) -> Path:
    file = tmp_path / "bug.calls"
    file.write_text("\n".join(lines))
    return file


@pytest.mark.usefixtures("no_collection")
def test_a_replay_that_fails_keeps_no_descriptor(file: Path) -> None:
    """Although the error, and with it the frames that it went through, is kept."""
    before, kept = descriptors(), []
    for _ in range(10):
        with pytest.raises(ReplayError) as caught:
            pyxc.open(f"replay:{file}")
        kept.append(caught.value)
    assert descriptors() == before


@pytest.mark.parametrize("header", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "byteorder": "big"}'])
@pytest.mark.usefixtures("no_collection")
def test_what_is_not_a_recording_is_not_kept_open(file: Path, header: str) -> None:
    file.write_text("\n".join([header, *file.read_text().splitlines()[1:]]))
    before, kept = descriptors(), []
    for _ in range(10):
        with pytest.raises(ValueError) as caught:
            pyxc.open(f"replay:{file}")
        kept.append(caught.value)
    assert descriptors() == before


@pytest.mark.usefixtures("no_collection")
def test_a_mapping_that_is_damaged_keeps_no_descriptor(lines: list[str]) -> None:
    page = json.loads(lines[-1])
    before, kept = descriptors(), []
    errors: list[object] = [[-1], [4096], [0, 0], "x"]
    for change in [{"errors": wrong} for wrong in errors] + [{"pages": "AAAA"}, {"pages": 5}]:
        link = ReplayLink([lines[0], json.dumps({**page, **change})])
        with pytest.raises(ReplayError) as caught:
            link.map_frames(DB1, FRAMES)
        kept.append(caught.value)
    assert descriptors() == before


@pytest.mark.usefixtures("no_collection")
def test_mappings_that_are_closed_keep_no_descriptor(lines: list[str]) -> None:
    link = ReplayLink(lines)
    device = link.open_events()
    before = descriptors()
    map_some(link)
    assert descriptors() == before
    device.close()
    with pytest.raises(ValueError, match="closed"):
        device.fileno()
    link.close()


def test_all_mappings_are_closed_or_none(lines: list[str]) -> None:
    link = ReplayLink([lines[0], *lines[-2:]])
    first, second = link.map_frames(DB1, FRAMES), link.map_frames(DB1, FRAMES)
    with memoryview(second), pytest.raises(BufferError, match=f"domain {DB1}"):
        link.close()
    assert link.maps == [first, second]
    link.close()
    assert first.closed and second.closed and link.maps == []
