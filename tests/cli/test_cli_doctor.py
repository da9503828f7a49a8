# SPDX-License-Identifier: MIT
"""`doctor`: what is left, in lines and as JSON, and its exit status."""

from __future__ import annotations

import sys
import time

import pytest


def test_nothing_is_left(pyxc, host):
    pyxc("unpause", "build")
    assert pyxc("doctor") == (0, "", "")


def test_each_line_says_how_to_remove_it(pyxc, host):
    made = pyxc("create-empty", "--json").json["domid"]
    pyxc("cpupool-create")
    outcome = pyxc("doctor")
    assert outcome.status == 15
    lines = outcome.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["domain 3 (build)", f"domain {made}", "cpu pool 1"]
    for line in lines:
        command = line.rpartition("to end that: ")[2].partition(", or ")[0].removeprefix("pyxc ")
        assert pyxc(*command.split()).status == 0
    assert pyxc("doctor").status == 0


def test_as_json(pyxc, host):
    outcome = pyxc("doctor", "--json")
    assert outcome.status == 15
    (left,) = outcome.json["leftovers"]
    assert (left["kind"], left["domid"], left["remedy"]) == ("paused", 3, "pyxc unpause 3")


def test_what_cannot_be_looked_at_is_complained_of(pyxc, host):
    host.store_runs = False
    host.domains[3].pauses = 0
    outcome = pyxc("doctor")
    assert (outcome.status, outcome.out) == (7, "")
    assert outcome.err.startswith("pyxc: xenstore: it cannot be checked: ")


def test_a_directory_that_is_not_there_hides_no_other(pyxc, host, tmp_path):
    pyxc("unpause", "build")
    (tmp_path / "core.part").write_bytes(b"x")
    outcome = pyxc("doctor", str(tmp_path / "absent"), str(tmp_path))
    assert outcome.status == 15
    assert outcome.out.startswith(f"{tmp_path}/core.part: an unfinished file")
    assert "absent" in outcome.err


@pytest.fixture
def dumping(start, tmp_path):
    """A dump of a simulated guest, killed while it writes; once more if it was complete before."""
    words = ("dump-core", "web1", str(tmp_path / "core"), "--provenance=none")
    part = tmp_path / "core.part"
    for _ in range(20):
        process = start(sys.executable, "-m", "pyxc", "--target=sim:", *words)
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.001)
        process.kill()
        process.wait()
        if part.exists():
            return part
        (tmp_path / "core").unlink(missing_ok=True)
    raise AssertionError("each dump was complete before it was killed")


def test_a_dump_that_was_killed_is_listed_and_blocks_no_other(pyxc, host, dumping):
    pyxc("unpause", "build")
    outcome = pyxc("doctor", str(dumping.parent))
    assert (outcome.status, outcome.out.partition(":")[0]) == (15, str(dumping))
    assert pyxc("dump-core", "web1", str(dumping.with_suffix(""))).status == 0
    assert pyxc("doctor", str(dumping.parent)) == (0, "", "")
