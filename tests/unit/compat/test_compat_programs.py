# SPDX-License-Identifier: MIT
"""Programs that were written for Xen's own Python modules, unchanged, on simulated hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parents[2] / "programs"

# What guests' agents and an administrator do, in the process of the program: there the simulated host is.
BALANCED = """
import json, runpy, sys
from pyxc.compat import install
install()
from xen.lowlevel import xc, xs
program, *used = sys.argv[1:]
store, host = xs.xs(), xc.xc()
for domid, kb in enumerate(used, 1):
    store.write("", f"/local/domain/{domid}/memory/meminfo", kb)
sys.argv[1:] = [str(len(used))]
runpy.run_path(program, run_name="__main__")
limits = {info["domid"]: info["maxmem_kb"] for info in host.domain_getinfo()}
targets = {domid: int(store.read("", f"/local/domain/{domid}/memory/target")) for domid in limits if domid}
print(json.dumps([limits, targets]))
"""


def run(*command: str, release: str = "4.17") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYXC_TARGET": f"sim:xen-{release}"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, env=environment
    )


def program(name: str, *words: str, release: str = "4.17") -> subprocess.CompletedProcess[str]:
    return run("-m", "pyxc.compat", "run", str(PROGRAMS / name), *words, release=release)


def lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("release", ["4.1", "4.14", "4.17", "4.20", "4.22"])
def test_a_monitor(release: str) -> None:
    (report,) = lines(program("monitor.py", release=release))
    assert report["xen"].startswith(release)
    assert report["hvm"] is True
    assert [(domain["domid"], domain["name"]) for domain in report["domains"]] == [
        (0, "Domain-0"), (1, "web1"), (2, "db1"), (3, "build"),
    ]  # fmt: skip
    assert report["domains"][3]["state"] == ["paused"]


@pytest.mark.parametrize("action", ["pause", "unpause", "shutdown", "destroy"])
def test_a_monitor_acts(action: str) -> None:
    name = "build" if action == "unpause" else "web1"
    assert lines(program("monitor.py", action, name)) == []


def test_a_monitor_that_may_not_act_says_so() -> None:
    done = program("monitor.py", "resume", "web1")
    assert (done.returncode, done.stderr) == (1, "resume web1: Invalid argument\n")


@pytest.mark.parametrize("release", ["4.14", "4.17", "4.22"])
def test_a_memory_balancer(release: str) -> None:
    used = {1: 40_000, 2: 90_000, 3: 20_000}
    command = ("-c", BALANCED, str(PROGRAMS / "balancer.py"), *map(str, used.values()))
    *rounds, (limits, targets) = lines(run(*command, release=release))
    assert [len(told) for told in rounds] == [1, 2, 3]
    shares = {kb - used[int(domid)] for domid, kb in rounds[-1].items()}
    assert len(shares) == 1
    assert 0 < shares.pop() <= (64 << 10) // 3
    assert targets == rounds[-1]
    assert {domid: kb - 1024 for domid, kb in limits.items() if domid != "0"} == targets
