# SPDX-License-Identifier: MIT
"""Running guests and the host, as xl shows them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from ground_truth import Command, Guests, Peer

import pyxc
from pyxc import DomainFlag, ShutdownReason

FREE_MEMORY_MB = 4
# As every host of the lab is younger than a day.
UPTIME = re.compile(r" (\d+):(\d\d):(\d\d)$", re.MULTILINE)


def _same_but_for_dom0s_time(ours: str, before: str, after: str, time_column: int) -> None:
    """Byte for byte; rows of dom0, whose time and state go on, up to those and with a time in between."""
    rows = list(zip(ours.splitlines(), before.splitlines(), after.splitlines(), strict=True))
    assert rows[0][0] == rows[0][1]
    for mine, first, last in rows[1:]:
        if not mine.startswith("Domain-0 "):
            assert mine == first == last
            continue
        moving = {time_column - 1, time_column}
        words = [line.split() for line in (mine, first, last)]
        mine_fixed, first_fixed, _ = [[w for i, w in enumerate(row) if i not in moving] for row in words]
        assert mine_fixed == first_fixed
        times = [float(row[time_column]) for row in words]
        assert times[1] <= times[0] <= times[2]
        assert len(mine) == len(first)


@pytest.mark.parametrize("option", [(), ("-v",), ("-Z",), ("-c",), ("-n",), ("-v", "-c", "-n")], ids=" ".join)
def test_list(peer: Peer, guests: Guests, pyxc_command: Command, option: tuple[str, ...]) -> None:
    before = peer.xl("list", *option)
    ours = pyxc_command("list", *option).stdout
    _same_but_for_dom0s_time(ours, before, peer.xl("list", *option), time_column=5)


def test_vms_and_what_they_share(peer: Peer, guests: Guests, pyxc_command: Command) -> None:
    assert pyxc_command("vm-list").stdout == peer.xl("vm-list")
    assert pyxc_command("sharing").stdout == peer.xl("sharing")
    assert pyxc_command("pci-list", "linux").stdout == peer.xl("pci-list", "linux")
    assert pyxc_command("pci-assignable-list").stdout == peer.xl("pci-assignable-list")


def test_how_long_they_run(peer: Peer, guests: Guests, pyxc_command: Command) -> None:
    """Byte for byte but for the time, which goes on."""
    before, ours, after = peer.xl("uptime"), pyxc_command("uptime").stdout, peer.xl("uptime")
    assert re.sub(UPTIME, "", ours) == re.sub(UPTIME, "", before)
    for first, mine, last in zip(*map(_uptimes_s, (before, ours, after)), strict=True):
        assert first <= mine <= last


def _uptimes_s(text: str) -> list[int]:
    return [
        int(hours) * 3600 + int(minutes) * 60 + int(seconds)
        for hours, minutes, seconds in re.findall(UPTIME, text)
    ]


def test_nodes_and_cpus(peer: Peer, pyxc_command: Command) -> None:
    ours, theirs = (text.splitlines() for text in (pyxc_command("info", "-n").stdout, peer.xl("info", "-n")))
    for title, lines in (("cpu_topology", 3), ("numa_info", 2)):
        mine, peers = (
            next(i for i, line in enumerate(text) if line.startswith(title)) for text in (ours, theirs)
        )
        assert ours[mine : mine + lines] == theirs[peers : peers + lines]


def test_list_of_one(peer: Peer, guests: Guests, pyxc_command: Command) -> None:
    assert pyxc_command("list", "linux").stdout == peer.xl("list", "linux")


def test_vcpu_list(peer: Peer, guests: Guests, pyxc_command: Command) -> None:
    peer.xl("vcpu-pin", "pvh", "0", "1", "0")
    before = peer.xl("vcpu-list").splitlines()
    ours = pyxc_command("vcpu-list").stdout.splitlines()
    assert ours[0] == before[0]
    assert [line for line in ours if "Domain-0" not in line] == [
        line for line in before if "Domain-0" not in line
    ]
    # dom0's place, state and time go on.
    dom0 = [
        [line.split()[:3] + line.split()[-3:] for line in lines if "Domain-0" in line]
        for lines in (ours, before)
    ]
    assert dom0[0] == dom0[1]


def test_affinity_as_xl_set_it(xen: pyxc.Xen, peer: Peer, guests: Guests) -> None:
    peer.xl("vcpu-pin", "pv", "0", "0", "1")
    assert xen.domains[guests.domids["pv"]].vcpu(0).affinity() == pyxc.Affinity(
        frozenset([0]), frozenset([1])
    )
    xen.domains[guests.domids["pv"]].vcpu(0).set_affinity(hard=range(xen.nr_cpus), soft=[0])
    (row,) = (line for line in peer.xl("vcpu-list", "pv").splitlines()[1:])
    assert row.endswith("all / 0")


def test_pause_and_unpause_are_seen_by_xl(xen: pyxc.Xen, peer: Peer, guests: Guests) -> None:
    domain = xen.domains[guests.domids["pv"]]

    def state() -> str:
        return peer.xl("list", "pv").splitlines()[1].split()[4]

    assert state() == "--p---"
    domain.unpause()
    try:
        assert "p" not in state()
        assert not domain.info().paused
    finally:
        domain.pause()
    assert state() == "--p---"
    peer.xl("unpause", "pv")
    assert not domain.info().paused
    peer.xl("pause", "pv")
    assert domain.info().paused


def test_limit_of_memory_is_seen_by_xl(xen: pyxc.Xen, peer: Peer, guests: Guests) -> None:
    domain = xen.domains[guests.domids["pvh"]]
    before = domain.info().max_memory_kb
    peer.xl("mem-max", "pvh", "32")
    assert domain.info().max_memory_kb > before
    domain.set_max_memory(before)
    assert domain.info().max_memory_kb == before


def test_guest_that_ends_by_itself(xen: pyxc.Xen, peer: Peer) -> None:
    peer.create("pv", 'name="ending"', 'cmdline="pq"', 'on_poweroff="preserve"')
    domain = xen.domains[peer.domid("ending")]
    peer.wait_for("ending", "line 1")
    _until(lambda: DomainFlag.SHUTDOWN in domain.info().flags)
    assert domain.info().shutdown_reason is ShutdownReason.POWEROFF
    peer.xl("destroy", "ending")
    assert not domain.exists()


def test_guest_that_crashes(xen: pyxc.Xen, peer: Peer, pyxc_command: Command) -> None:
    peer.create("pv", 'name="crashing"', 'cmdline="c"')
    domain = xen.domains[peer.domid("crashing")]
    _until(lambda: DomainFlag.SHUTDOWN in domain.info().flags)
    assert domain.info().shutdown_reason is ShutdownReason.CRASH
    assert pyxc_command("list", "crashing").stdout == peer.xl("list", "crashing")
    peer.xl("destroy", "crashing")


def _until(happened: Callable[[], bool]) -> None:
    """Wait for a guest."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_destroyed_guest_is_gone_for_xl(xen: pyxc.Xen, peer: Peer) -> None:
    peer.create("pv", 'name="victim"', 'cmdline="b"')
    domain = xen.domains[peer.domid("victim")]
    assert domain.info().tot_pages > 0
    domain.destroy()
    assert all(line.split()[1] != str(domain.domid) for line in peer.xl("list").splitlines()[1:])


def test_info(xen: pyxc.Xen, peer: Peer, guests: Guests, pyxc_command: Command) -> None:
    told = peer.info()
    physinfo = xen.physinfo()
    assert int(told["nr_cpus"]) == physinfo.nr_cpus
    assert int(told["max_cpu_id"]) == physinfo.max_cpu_id
    assert int(told["threads_per_core"]) == physinfo.threads_per_core
    assert int(told["cores_per_socket"]) == physinfo.cores_per_socket
    assert int(told["total_memory"]) == physinfo.total_memory_kb // 1024
    assert abs(int(told["free_memory"]) - physinfo.free_memory_kb // 1024) <= FREE_MEMORY_MB
    assert told["hw_caps"] == ":".join(f"{word:08x}" for word in physinfo.hw_cap)
    assert told["xen_version"] == str(xen.version)
    assert told["xen_scheduler"] == xen.scheduler.name.lower()
    assert told["xen_commandline"] == xen.commandline
    assert told["build_id"] == xen.build.build_id
    assert told["cc_compile_date"] == xen.build.compile_date
    rows = (line.partition(":") for line in pyxc_command("info").stdout.splitlines())
    ours = {name.strip(): value.strip() for name, _, value in rows}
    moving = {"free_memory"}
    assert {name: value for name, value in ours.items() if name not in moving} == {
        name: told.get(name) for name in ours if name not in moving
    }


def test_topology_and_numa(xen: pyxc.Xen, peer: Peer) -> None:
    text = peer.xl("info", "-n")
    places = [tuple(map(int, line.replace(":", " ").split())) for line in _table(text, "cpu:")]
    assert places == [tuple(place) for place in xen.topology()]
    ((number, size_mb, free_mb, *distances),) = (
        [int(word.strip("{},")) for word in line.replace(":", " ").replace(",", " ").split()]
        for line in _table(text, "node:")
    )
    (node,) = xen.numa()
    assert node.size_bytes is not None and node.free_bytes is not None
    assert (number, size_mb, tuple(distances)) == (node.node, node.size_bytes >> 20, node.distances)
    assert abs(free_mb - (node.free_bytes >> 20)) <= FREE_MEMORY_MB


def _table(text: str, header: str) -> list[str]:
    """The rows below a header line, down to the first that is no row."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(header):
            break
    rows = []
    for line in lines:
        if not line.strip()[:1].isdigit():
            break
        rows.append(line)
    return rows


def test_dmesg(xen: pyxc.Xen, peer: Peer) -> None:
    xen.debug_keys("h")
    before = xen.console.read()
    assert peer.xl("dmesg").encode() == before == xen.console.read()
    peer.xl("debug-keys", "h")
    assert xen.console.read().count(b"'h' pressed") == before.count(b"'h' pressed") + 1
