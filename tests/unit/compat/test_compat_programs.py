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
PACKAGE = Path(__file__).parents[3] / "debian" / "xen-lowlevel"

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


# A daemon as xend was: it has its handles and watches before it goes to the background.
DAEMON = """
import os, sys
import xen.lowlevel.xc, xen.lowlevel.xs
host, store, closed = xen.lowlevel.xc.xc(), xen.lowlevel.xs.xs(), xen.lowlevel.xs.xs()
closed.close()
store.watch("/tool", "a token")
assert store.read_watch() == ("/tool", "a token")
print(len(host.domain_getinfo()), flush=True)
for _ in range(2):
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.setsid()
    print(len(host.domain_getinfo()), store.read("", "/local/domain/1/name"), store.read_watch(), flush=True)
store.write("", "/tool/x", "1")
print(store.read_watch())
store.unwatch("/tool", "a token")
try:
    closed.read("", "/tool")
except xen.lowlevel.xs.Error as error:
    print(error)
store.close()
del host
sys.stdout.flush()
"""

# A program that says where other modules of Xen's are, once pyxc has been installed.
EXTENDED = """
import sys
sys.path.append(sys.argv[1])
from xen import lowlevel, migration
from xen.util import auxbin
import xen.lowlevel.xc
print(migration.WHERE, auxbin.WHERE, len(xen.lowlevel.xc.xc().domain_getinfo()))
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


def test_a_daemon_keeps_its_handles(tmp_path: Path) -> None:
    """Each process opens them for itself."""
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON)
    done = run("-m", "pyxc.compat", "run", str(script))
    assert (done.returncode, done.stderr) == (0, "")
    there = "4 b'web1' ('/tool', 'a token')"
    last = ["('/tool/x', 'a token')", "(22, 'Invalid argument')"]
    assert done.stdout.splitlines() == ["4", there, there, *last]


@pytest.mark.parametrize("way", ["installed for it", "as a package"])
def test_a_program_finds_other_modules_of_xen(tmp_path: Path, way: str) -> None:
    """Also when it says only after its start where they are, and theirs of the same name is not taken."""
    for name in ("", "util", "lowlevel"):
        (tmp_path / "others" / "xen" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "others" / "xen" / name / "__init__.py").touch()
    for name in ("migration", "util/auxbin", "lowlevel/xc"):
        (tmp_path / "others" / "xen" / f"{name}.py").write_text(f"WHERE = {name!r}")
    script = tmp_path / "program.py"
    script.write_text(EXTENDED)
    if way == "installed for it":
        done = run("-m", "pyxc.compat", "run", str(script), str(tmp_path / "others"))
    else:
        begin = f"import sys; sys.path.insert(0, {str(PACKAGE)!r})"
        done = run("-c", begin + EXTENDED, str(tmp_path / "others"))
    assert (done.stdout, done.stderr) == ("migration util/auxbin 4\n", "")


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
