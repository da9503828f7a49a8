# SPDX-License-Identifier: MIT
"""The exporter on a real Xen: who it is when it serves, and that its numbers are Xen's."""

from __future__ import annotations

import http.client
import pwd
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyxc


@pytest.fixture
def server(plain_directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, and its socket."""
    path = str(plain_directory / "metrics.sock")
    words = [sys.executable, "-m", "pyxc", "--no-names", "exporter", "--unix", path]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        yield process, path
        process.kill()


def _scrape(process: subprocess.Popen[str], path: str) -> str:
    """As soon as it listens."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        while True:
            try:
                connection.connect(path)
                break
            except OSError:
                assert process.poll() is None, process.stderr and process.stderr.read()
        client = http.client.HTTPConnection("localhost")
        client.sock = connection
        client.request("GET", "/metrics")
        return client.getresponse().read().decode()


def test_it_serves_as_nobody_and_still_asks_xen(
    xen: pyxc.Xen, server: tuple[subprocess.Popen[str], str]
) -> None:
    process, path = server
    first, second = _scrape(process, path), _scrape(process, path)
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    nobody = pwd.getpwnam("nobody")
    for name, number in (("Uid", nobody.pw_uid), ("Gid", nobody.pw_gid)):
        match = re.search(rf"^{name}:(.*)$", status, re.MULTILINE)
        assert match and match[1].split() == [str(number)] * 4
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    for text in (first, second):
        assert "xen_exporter_scrape_failures_total 0\n" in text
        assert f"xen_host_cpus {xen.physinfo().nr_cpus}\n" in text
        assert f"xen_host_domains {len(xen.domains)}\n" in text
    for name in ("xen_domain_cpu_seconds_total", "xen_host_cpu_idle_seconds_total"):
        before, after = (re.findall(rf"^{name}{{.*}} (.*)$", text, re.MULTILINE) for text in (first, second))
        assert 0 < float(before[0]) <= float(after[0])
