# SPDX-License-Identifier: MIT
"""A guest that goes from each host to the one with the next newer Xen: --xen 4.14,4.17,4.20."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from managed import Host, remove_guests, start_linux

GUEST = "climber"
FILE = "/root/climber.save"


def _release(host: Host) -> tuple[int, int]:
    info = host.json("info")
    return info["xen_major"], info["xen_minor"]


@pytest.fixture(params=["pv", "pvh"])
def path(request: pytest.FixtureRequest, hosts: list[Host]) -> Iterator[list[Host]]:
    """The hosts, those with an older Xen first; on the first a guest counts."""
    path = sorted(hosts, key=_release)
    words = f"type={request.param} memory=96 'cmdline=\"console=hvc0 quiet ticks\"'"
    start_linux(path[0], GUEST, words, lambda: bool(path[0].ticks(GUEST)), "the guest counts")
    yield path
    remove_guests(hosts)
    logs = f"/run/xen/console/guest-{GUEST}*.log"
    for host in hosts:
        print(host.run(f"tail -n 60 {logs}; rm -f {FILE} {logs}"))


def _check(host: Host) -> None:
    """That the checker of the host's own Xen accepts the saved guest."""
    checker = "PYTHONPATH=$1/lib/python python3 -B $1/bin/verify-stream-v2 -f xl -i " + FILE
    host.run(f"set -- $(ls -d /peer/usr/lib/xen-4.* /usr/lib/xen-4.* 2>/dev/null); {checker}")


def _can_log(host: Host) -> bool:
    """Whether the Xen of the host sees what the guest writes."""
    pv = host.json("list", GUEST)["domains"][0]["type"] == "pv"
    return not pv or "shadow" in host.json("info")["virt_caps"]


def _goes_on(host: Host, last: int) -> None:
    ticks = host.wait_for_ticks(GUEST, 0)
    assert ticks[0] >= last
    assert ticks == list(range(ticks[0], ticks[-1] + 1))


@pytest.mark.parametrize("how", ["", "-l"])
def test_a_saved_guest(path: list[Host], how: str) -> None:
    """Each Xen's own checker accepts what is saved there, and the next restores it."""
    for here, there in itertools.pairwise(path):
        last = here.ticks(GUEST)[-1]
        here.run(f"pyxc --provenance none save {how} {GUEST} {FILE}")
        _check(here)
        assert here.names() == ["Domain-0"]
        there.run(f"ssh {here.name} cat {FILE} > {FILE} && pyxc restore {FILE}")
        _goes_on(there, last)
    newest = path[-1]
    if how and not _can_log(newest):
        refused = newest.run(f"pyxc save {how} {GUEST} {FILE} 2>&1 || true")
        assert "this Xen has no shadow page tables" in refused
        how = ""
    newest.run(f"pyxc --provenance none save {how} {GUEST} {FILE}")
    _check(newest)


def test_a_running_guest(path: list[Host]) -> None:
    for here, there in itertools.pairwise(path):
        last = here.ticks(GUEST)[-1]
        here.run(f"pyxc migrate {GUEST} {there.name}")
        assert here.names() == ["Domain-0"]
        _goes_on(there, last)
