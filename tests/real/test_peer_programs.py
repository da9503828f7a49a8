# SPDX-License-Identifier: MIT
"""Programs that were written for Xen's own Python modules, unchanged, on pyxc's: what they do, xl sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ground_truth import Guests, Peer

import pyxc

OWN = Path(__file__).parent.parent / "programs"
SPARE_MB = 64

Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """Run a program with words; answers what each line of its output says in JSON."""
    path = os.pathsep.join(filter(None, (os.environ["PYXC_PROGRAMS"], os.environ.get("PYTHONPATH"))))

    def run_program(name: str, *words: str) -> Any:
        command = (sys.executable, "-m", "pyxc.compat", "run", str(OWN / name), *words)
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": path}
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run_program


@pytest.fixture
def victims(peer: Peer, guests: Guests) -> Iterator[dict[str, int]]:
    """Two guests that wait for ever, one of each kind."""
    made = {}
    for kind in ("pv", "pvh"):
        name = f"victim-{kind}"
        peer.create(kind, f'name="{name}"', 'cmdline="b"', 'on_poweroff="preserve"')
        made[name] = peer.domid(name)
    yield made
    left = peer.xl("list")
    for name in made:
        if f"{name} " in left:
            peer.xl("destroy", name)


def state(peer: Peer, name: str) -> str:
    return peer.xl("list", name).splitlines()[1].split()[4]


def test_the_monitor_sees_what_xl_lists(peer: Peer, guests: Guests, run: Run) -> None:
    (report,) = run("monitor.py")
    rows = [line.split() for line in peer.xl("list").splitlines()[1:]]
    listed = [[row[0], int(row[1]), int(row[2])] for row in rows]
    assert [[d["name"], d["domid"], d["mem_kb"] // 1024] for d in report["domains"]] == listed
    told = peer.info()
    assert (report["xen"], report["cpus"]) == (told["xen_version"], int(told["nr_cpus"]))
    assert report["hvm"] == ("hvm" in told["virt_caps"].split())
    assert all(0 <= percent <= 110 for percent in report["idle_percent"])
    assert sum(domain["cpu_percent"] for domain in report["domains"]) > 0


def test_the_monitor_acts(peer: Peer, victims: dict[str, int], run: Run) -> None:
    for name in victims:
        assert "p" not in state(peer, name)
        run("monitor.py", "pause", name)
        assert "p" in state(peer, name)
        run("monitor.py", "unpause", name)
        assert "p" not in state(peer, name)
    run("monitor.py", "shutdown", "victim-pv")
    assert "s" in state(peer, "victim-pv")
    run("monitor.py", "destroy", "victim-pvh")
    assert "victim-pvh" not in peer.xl("list")


def test_the_balancer_balances(xen: pyxc.Xen, peer: Peer, victims: dict[str, int], run: Run) -> None:
    used = {domid: 8192 + 1024 * index for index, domid in enumerate(victims.values())}
    for domid, kb in used.items():
        peer.run("xenstore-write", f"/local/domain/{domid}/memory/meminfo", str(kb))
    rounds = run("balancer.py", "2")
    spare = min(xen.physinfo().free_memory_kb // 4, SPARE_MB * 1024)
    for domid, kb in used.items():
        target = rounds[1][str(domid)]
        assert abs(target - (kb + spare // 2)) <= 1024
        assert peer.read_store(f"/local/domain/{domid}/memory/target") == str(target)
        assert xen.domains[domid].info().max_memory_kb == target + 1024


def test_python_xen(peer: Peer, victims: dict[str, int], run: Run) -> None:
    (report,) = run("with_pyxen.py")
    rows = [line.split() for line in peer.xl("list").splitlines()[1:]]
    assert {name: int(domid) for domid, (name, _) in report["domains"].items()} == {
        row[0]: int(row[1]) for row in rows
    }
    told = peer.info()
    assert report["info"]["nr_cpus"] == int(told["nr_cpus"])
    assert set(report["info"]["virt_caps"].split()) == {
        word for word in told["virt_caps"].split() if word in ("hvm", "pv") or word.endswith("_directio")
    }
    assert report["dmesg"] > 1000
    # It looks whether a domain is blocked first, which a paused one may be too.
    assert run("with_pyxen.py", "pause", "victim-pv")[0] in ("blocked", "paused")
    assert "p" in state(peer, "victim-pv")
    run("with_pyxen.py", "shutdown", "victim-pvh")
    assert peer.read_store(f"/local/domain/{victims['victim-pvh']}/control/shutdown") == "poweroff"
