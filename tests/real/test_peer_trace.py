# SPDX-License-Identifier: MIT
"""Traces beside xentrace and xenalyze: each reads what the other wrote, and finds the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ground_truth import Command, Peer

pytestmark = pytest.mark.usefixtures("traceable")
STATES = ("running", "runnable", "blocked")


def _theirs(text: str, domid: int, vcpu: int) -> dict[str, int]:
    """Cycles in each state, from xenalyze's summary: how often, and the mean."""
    domain = re.split(r"^\|-- Domain (\d+) --\|$", text, flags=re.MULTILINE)
    of_domain = domain[domain.index(str(domid)) + 1]
    parts = re.split(r"^-- v(\d+) --$", of_domain, flags=re.MULTILINE)
    of_vcpu = parts[parts.index(str(vcpu)) + 1]
    found = dict.fromkeys(STATES, 0)
    for name, count, mean in re.findall(r"^   *(\w+): +(\d+) +[\d.]+s +(\d+) \{", of_vcpu, re.MULTILINE):
        if name in found:
            found[name] = int(count) * int(mean)
    return found


def _compare(peer: Peer, pyxc_command: Command, name: str) -> None:
    """A file in the peer's root."""
    path = str(peer.root / "tmp" / name)
    ours: dict[str, Any] = json.loads(
        pyxc_command("--json", "trace", "report", "--khz", "1000000", path).stdout
    )
    summary = peer.run("xenalyze", "--summary", f"/tmp/{name}")
    assert ours["lost"] == 0
    compared = 0
    for vcpu in ours["vcpus"]:
        theirs = _theirs(summary, vcpu["domid"], vcpu["vcpu"])
        cycles = {state: vcpu[f"{state}_ns"] for state in STATES}  # at 1 GHz
        # xenalyze leaves out the state in which the trace ends, so that ours has more of it.
        last = max(STATES, key=lambda state: cycles[state] - theirs[state])
        for state in STATES:
            least = 10**9 if state == last else 5 * 10**7
            assert cycles[state] == pytest.approx(theirs[state], rel=0.05, abs=least), (vcpu, state)
        compared += 1
    assert compared


def test_xenalyze_reads_ours_and_finds_the_same(peer: Peer, pyxc_command: Command) -> None:
    path = str(peer.root / "tmp/ours.trace")
    pyxc_command("trace", "record", "--provenance", "none", "--seconds", "3", path)
    _compare(peer, pyxc_command, "ours.trace")


def test_what_xentrace_writes_is_read(peer: Peer, pyxc_command: Command) -> None:
    peer.run("xentrace", "-D", "-e", "0x0002f000", "-T", "3", "/tmp/theirs.trace")
    _compare(peer, pyxc_command, "theirs.trace")
