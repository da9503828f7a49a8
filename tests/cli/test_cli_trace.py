# SPDX-License-Identifier: MIT
"""`trace`: recorded, added up, drawn."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from pyxc.abi import trace


@pytest.fixture
def file(pyxc, host, tmp_path: Path) -> str:
    """A trace of a vcpu that runs and does not."""
    path = str(tmp_path / "x.trace")
    stop = threading.Event()

    def act() -> None:
        while not stop.wait(0.001):
            for old, new, lasts_ns in ((2, 1, 3000), (1, 0, 5000), (0, 2, 2000)):
                host.trace(0, trace.TRC_SCHED_RUNSTATE_CHANGE | old << 8 | new << 4, 1 << 16)
                host.clock_ns += lasts_ns

    thread = threading.Thread(target=act)
    thread.start()
    try:
        assert pyxc("trace", "record", "--seconds", "0.3", path).status == 0
    finally:
        stop.set()
        thread.join()
    return path


def test_a_report(pyxc, host, file):
    assert not host.trace_buffers.enabled
    header, row, *counts = pyxc("trace", "report", file).out.splitlines()
    assert header.split()[:2] == ["NAME", "VCPU"]
    assert row.split()[:2] == ["web1", "0"]
    assert row.split()[-3:-1] == ["<=5", "<=5"]
    assert counts[0].split()[1] == "sched.runstate_change"


def test_a_report_in_json(pyxc, host, file):
    found = pyxc("--json", "trace", "report", file).json
    (vcpu,) = found["vcpus"]
    assert (vcpu["domid"], vcpu["name"], vcpu["vcpu"]) == (1, "web1", 0)
    wakes = sum(vcpu["waits"])
    assert vcpu["runnable_ns"] == pytest.approx(3000 * wakes, rel=0.1)
    assert vcpu["running_ns"] == pytest.approx(5000 * wakes, rel=0.1)
    assert (found["lost"], list(found["events"])) == (0, ["sched.runstate_change"])
    assert len(vcpu["waits"]) == len(found["buckets_us"]) + 1


def test_a_trace_of_another_host(pyxc, monkeypatch, host, file):
    monkeypatch.setenv("PYXC_TARGET", "no-such-target")
    assert pyxc("trace", "report", "--khz", "2400000", file).out.splitlines()[1].split()[0] == "1"


def test_a_drawing(pyxc, host, file, tmp_path):
    path = tmp_path / "x.json"
    assert pyxc("trace", "perfetto", file, str(path)).status == 0
    events = json.loads(path.read_text())["traceEvents"]
    assert {event["name"] for event in events} >= {"running", "waits for a cpu", "process_name"}
    assert pyxc("trace", "perfetto", file, str(path)).status == 0, "it replaces its own"
    other = tmp_path / "other"
    other.write_text("precious")
    assert pyxc("trace", "perfetto", file, str(other)).status != 0
    assert other.read_text() == "precious"


def test_off(pyxc, host):
    host.trace_buffers.allocate(1)
    assert host.trace_buffers.enabled
    assert pyxc("trace", "off").status == 0
    assert not host.trace_buffers.enabled


def test_a_file_that_is_no_trace(pyxc, host, tmp_path):
    path = tmp_path / "x"
    for content in (b"", b"hello, world"):
        path.write_bytes(content)
        outcome = pyxc("trace", "report", str(path))
        assert outcome.status == 1 and "not a trace" in outcome.err


@pytest.mark.parametrize("options", [["--events", "nonsense"], ["--events", "0xg"], ["--seconds", "0"]])
def test_options_that_are_refused(pyxc, host, tmp_path, options):
    assert pyxc("trace", "record", *options, str(tmp_path / "x")).status == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("events", "mask"), [("hvm,pv", 0x0028F000), ("all", 0x0FFFF000), ("0x21000", 0x21000)]
)
def test_events(pyxc, host, tmp_path, events, mask):
    assert pyxc("trace", "record", "--seconds", "0.01", "--events", events, str(tmp_path / "x")).status == 0
    assert host.trace_buffers.events == mask


def test_the_hypercalls_of_a_command(pyxc, host):
    outcome = pyxc("trace", "--", "mem-max", "web1", "80")
    assert (outcome.status, outcome.out) == (0, "")
    assert "domctl.max_mem(domain=1, max_memkb=0x14000) = 0 <0." in outcome.err
    assert "PYXC_TRACE" not in os.environ
    failed = pyxc("trace", "--", "mem-max", "99", "80")
    assert failed.status == pyxc("mem-max", "99", "80").status
    assert " = -1 ESRCH (no such domain" in failed.err


def test_they_are_added_up(pyxc, host):
    outcome = pyxc("trace", "--summary", "--", "pause", "web1", "db1")
    head, *rows, total = outcome.err.splitlines()
    assert head.split() == ["%", "time", "seconds", "usecs/call", "calls", "errors", "operation"]
    assert [row.split()[-2:] for row in rows if "pausedomain" in row] == [["2", "domctl.pausedomain"]]
    assert total.split()[-1] == "total"
    assert int(total.split()[2]) == sum(int(row.split()[3]) for row in rows)


def test_no_command_to_trace(pyxc, host):
    assert pyxc("trace", "--").status == 2
    assert "did you mean 'list'" in pyxc("trace", "--", "lst").err
    assert pyxc("destroy", "trace", "--", "x").err.startswith("pyxc: trace: no domain has the name")
    assert "list" in pyxc("--no-names", "trace", "--", "list").err
