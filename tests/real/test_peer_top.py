# SPDX-License-Identifier: MIT
"""`pyxc top` beside xentop."""

from __future__ import annotations

import time

import pytest
from ground_truth import Command, Guests, Peer

import pyxc

NAME, STATE, CPU_PERCENT, VCPUS = 0, 1, 3, 8


def _rows(text: str) -> dict[str, list[str]]:
    """Columns of the last table by name; dom0's limit is two words."""
    lines = text.replace("no limit", "no-limit").splitlines()
    last = max(index for index, line in enumerate(lines) if line.split()[:1] == ["NAME"])
    return {line.split()[NAME]: line.split() for line in lines[last + 1 :]}


def test_the_table_is_xentops(xen: pyxc.Xen, peer: Peer, guests: Guests, pyxc_command: Command) -> None:
    theirs = peer.run("xentop", "-b", "-i", "1")
    ours = pyxc_command("top", "-b", "-i", "1", "-d", "0.1").stdout
    assert ours.splitlines()[0] == theirs.splitlines()[0]
    for name in ("pv", "pvh", "linux"):
        mine, other = _rows(ours)[name], _rows(theirs)[name]
        steady = slice(4, VCPUS + 1)
        assert mine[steady] == other[steady], name
        assert (mine[STATE], mine[-1]) == (other[STATE], other[-1])
        row = next(line for line in theirs.splitlines() if line.split()[NAME] == name)
        assert next(line for line in ours.splitlines() if line.split()[NAME] == name)[:20] == row[:20]


def test_a_guest_that_spins_and_then_rests(xen: pyxc.Xen, guests: Guests) -> None:
    domain = xen.domains[guests.domids["pv"]]
    domain.unpause()
    try:
        time.sleep(0.2)
        before = xen.sample()
        time.sleep(2)
        (busy,) = [used for used in xen.sample().since(before) if used.info.domid == domain.domid]
    finally:
        domain.pause()
    before = xen.sample()
    time.sleep(0.5)
    (resting,) = [used for used in xen.sample().since(before) if used.info.domid == domain.domid]
    assert busy.cpu_percent is not None and 20 < busy.cpu_percent < 105
    assert busy.cpu_percent == pytest.approx(sum(vcpu.cpu_percent or 0 for vcpu in busy.vcpus), abs=5)
    assert resting.cpu_percent == 0
