# SPDX-License-Identifier: MIT
"""A guest that moves between hosts by ssh, and counts seconds meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from managed import Host, remove_guests, start_linux, wait_until

ROUNDS = int(os.environ.get("PYXC_ROUNDS", "10"))
GUEST = "ticker"


@pytest.fixture(params=["pv", "pvh"])
def pair(request: pytest.FixtureRequest, hosts: list[Host]) -> Iterator[tuple[Host, Host]]:
    """Two hosts; on the first a guest counts."""
    first, second = hosts[:2]
    words = f"type={request.param} 'cmdline=\"console=hvc0 quiet ticks\"'"
    start_linux(first, GUEST, words, lambda: bool(first.ticks(GUEST)), "the guest counts")
    yield first, second
    remove_guests(hosts)
    for host in (first, second):
        host.run(f"rm -f /run/xen/console/guest-{GUEST}*.log")


def test_there_and_back(pair: tuple[Host, Host]) -> None:
    """It is on one host at a time, and goes on with the second at which it was suspended."""
    here, there = pair
    for _ in range(2 * ROUNDS):
        arrived = len(there.ticks(GUEST))
        before = here.ticks(GUEST)[-1]
        summary = here.run(f"pyxc migrate {GUEST} {there.name}")
        print(summary)
        assert summary.startswith(f"{GUEST}: ")
        assert GUEST not in here.names()
        assert [name for name in there.names() if GUEST in name] == [GUEST]
        ticks = there.wait_for_ticks(GUEST, arrived)
        assert before <= ticks[0]
        assert ticks == list(range(ticks[0], ticks[-1] + 1))
        here, there = there, here


def test_a_connection_that_breaks(pair: tuple[Host, Host]) -> None:
    """The guest goes on where it was, under its name; on the other host nothing is left."""
    here, there = pair
    cut = f"sh -c 'head -c 3000000 | ssh {there.name} pyxc migrate-receive'"
    said = here.run(f"pyxc migrate -s '' --remote '' {GUEST} \"{cut}\" 2>&1 || echo status $?")
    assert "the other side" in said
    assert said.endswith("status 1\n")
    assert GUEST in here.names()
    assert there.names() == ["Domain-0"]
    before = here.ticks(GUEST)[-1]
    wait_until(lambda: here.ticks(GUEST)[-1] > before + 1, "the guest goes on")
