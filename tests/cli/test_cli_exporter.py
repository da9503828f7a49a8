# SPDX-License-Identifier: MIT
"""`exporter`: what it prints, writes and serves."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from pathlib import Path

import exposition
import pytest

PROGRAM = [sys.executable, "-m", "pyxc", "--target", "sim:xen-4.17", "exporter"]


def test_once(pyxc, host):
    found = exposition.read(pyxc("exporter", "--once").out)
    assert found["xen_domain_memory_bytes"].only(domain="web1") == 64 << 20


def test_runstates_are_traced_meanwhile(pyxc, host):
    outcome = pyxc("exporter", "--once", "--runstates")
    found = exposition.read(outcome.out)
    assert (outcome.status, found["xen_trace_lost_records_total"].only()) == (0, 0)
    assert host.trace_buffers.pages and not host.trace_buffers.enabled
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_textfile(pyxc, host, tmp_path):
    path = tmp_path / "xen.prom"
    assert pyxc("exporter", "--textfile", str(path)).status == 0
    assert exposition.read(path.read_text())["xen_host_domains"].only() == 4
    assert pyxc("exporter", "--textfile", str(tmp_path / "xen.txt")).status == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--listen", "0.0.0.0:9779"],
        ["--listen", "127.0.0.1"],
        ["--listen", "127.0.0.1:99999"],
        ["--listen", "127.0.0.1:1", "--unix", "/x"],
        ["--interval", "0"],
    ],
)
def test_options_that_are_refused(pyxc, host, options):
    assert pyxc("exporter", *options).status == 2


def test_it_serves_on_a_unix_socket(plain_directory: Path, start) -> None:
    path = str(plain_directory / "metrics.sock")
    server = start(*PROGRAM, "--unix", path, stderr=subprocess.PIPE)
    client = http.client.HTTPConnection("localhost")
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.settimeout(30)
    while True:
        try:
            client.sock.connect(path)
            break
        except OSError:
            assert server.poll() is None, server.stderr.read()
    client.request("GET", "/metrics")
    found = exposition.read(client.getresponse().read().decode())
    client.close()
    assert found["xen_host_domains"].only() == 4
    assert found["xen_exporter_scrapes_total"].only() == 2, "the first was before root was given up"
