# SPDX-License-Identifier: MIT
"""`topology`, `memory`, `watch` and `shell`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from pyxc import connect
from pyxc.sim.model import lifecycle

TOPOLOGY = """node 0
  socket 0
    core   0  cpu   0  Pool-0      Domain-0/0 web1/0 build/0
    core   1  cpu   1  Pool-0      Domain-0/1 web1/1 db1/0
"""


def test_topology(pyxc, host):
    assert pyxc("topology").out == TOPOLOGY
    cpus = pyxc("topology", "--json").json["cpus"]
    assert [(cpu["cpu"], cpu["core"], cpu["pool"]) for cpu in cpus] == [(0, 0, "Pool-0"), (1, 1, "Pool-0")]
    assert cpus[1]["vcpus"] == ["Domain-0/1", "web1/1", "db1/0"]


@pytest.mark.parametrize("target", ["sim:xen-3.1", "sim:ppc64"])
def test_topology_of_a_xen_that_tells_little(pyxc, target):
    outcome = pyxc("--target", target, "topology")
    assert (outcome.status, outcome.err) == (0, "")
    assert "no pool" in outcome.out


def test_memory_adds_up(pyxc, host):
    found = pyxc("memory", "--json").json
    owned = sum(domain["memory_kb"] for domain in found["domains"])
    others = found["total_kb"] - owned - found["free_kb"] - (found["scrub_kb"] or 0)
    assert found["xen_kb"] == max(0, others)
    rows = [line.split() for line in pyxc("memory").out.splitlines()]
    assert [row[0] for row in rows] == ["Name", "Domain-0", "web1", "db1", "build", "(Xen)", "(free)"]
    assert rows[2][1] == str(host.domains[1].tot_pages // 256)


def test_watch_reports_what_happens(pyxc, host):
    def end() -> None:
        time.sleep(0.3)
        lifecycle.shut_down(host, host.domains[1], 3)

    thread = threading.Thread(target=end)
    thread.start()
    outcome = pyxc("--json", "watch", "-d", "0.05", "-t", "2")
    thread.join()
    first, *events = [json.loads(line) for line in outcome.out.splitlines()]
    assert [domain["name"] for domain in first["watching"]] == ["Domain-0", "web1", "db1", "build"]
    assert [(event["domid"], event["change"]) for event in events] == [(1, "shut down")]
    assert events[0]["reason"] == "CRASH"


def test_shell_runs_code_with_the_domains_by_name(pyxc, host):
    assert pyxc("shell", "-c", "print(web1.domid, dom0.domid, xen.nr_cpus)").out == "1 0 2\n"
    outcome = pyxc("shell", "-c", "xen.domains[99]")
    assert (outcome.status, len(outcome.err.splitlines())) == (5, 1)


def test_no_domain_hides_what_python_has(pyxc, host):
    with connect(host.connect()) as xen:
        for domid, name in enumerate(["print", "__builtins__", "xen"], 1):
            xen.store.write(f"/local/domain/{domid}/name", name)
    assert pyxc("shell", "--json").json["names"] == ["dom0", "pyxc", "xen"]
    assert pyxc("shell", "-c", "print(len(xen.domains))").out == "4\n"


def test_a_prompt_on_a_simulated_host(start):
    words = ("-m", "pyxc", "--target", "sim:xen-4.17", "shell")
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    shell = start(sys.executable, *words, **pipes)
    out, _ = shell.communicate("web1.info().paused\n", timeout=60)
    assert "False" in out
    assert shell.returncode == 0
