# SPDX-License-Identifier: MIT
"""A core dump that xl writes: its pages beside those of pyxc's dump, and both converted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ground_truth import Command, Peer

import pyxc
from pyxc.guest.core_file import CoreFile

NAME = "dumped"
FILES = Path("/run/pyxc-dumps")
"""What both roots of this dom0 see."""


@pytest.fixture
def dumps(named: pyxc.Xen, peer: Peer) -> Iterator[tuple[Path, Path]]:
    """Of one paused PV guest: xl's, and pyxc's. xl takes minutes for a PVH guest, page by page."""
    FILES.mkdir()
    peer.create("pv", f'name="{NAME}"')
    try:
        peer.wait_for(NAME, "line 1")
        domain = named.domains[NAME]
        domain.pause()
        theirs, ours = FILES / "theirs", FILES / "ours"
        peer.xl("dump-core", NAME, str(theirs))
        domain.dump_core(ours, provenance="none")
        yield theirs, ours
    finally:
        peer.xl("destroy", NAME)
        for file in FILES.iterdir():
            file.unlink()
        FILES.rmdir()


def pages(path: Path) -> dict[int, bytes]:
    with CoreFile(path) as core:
        return {gfn: core.read(gfn) for part in core.ranges() for gfn in part}


def test_a_dump_of_xl(dumps: tuple[Path, Path], pyxc_command: Command) -> None:
    theirs, ours = dumps
    found = pages(theirs)
    assert len(found) > 1000
    assert found == pages(ours)
    converted = [path.with_suffix(".vmcore") for path in dumps]
    for path, vmcore in zip(dumps, converted):
        pyxc_command("core", "convert", "--provenance", "none", str(path), str(vmcore))
    assert converted[0].read_bytes() == converted[1].read_bytes()
