# SPDX-License-Identifier: MIT
"""drgn, volatility3 and GDB on this machine, with the kernel's symbols, look into a guest of another host."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import described
import pytest
from described import GUEST
from managed import PATIENCE_S, Host

from lab import artifacts

UNWINDER = described.CONTRIB / "gdb/xen_hypercalls.py"
SOCKET = "/run/described.memory"


@pytest.fixture
def memory(said: str, hosts: list[Host], tmp_path: Path) -> Iterator[Path]:
    """A socket on this machine that leads to the guest's memory."""
    here = tmp_path / "memory"
    # With a terminal, the server ends with the connection.
    words = ["ssh", "-tt", "-F", str(hosts[0].ssh), "-L", f"{here}:{SOCKET}", hosts[0].name]
    serve = f"exec pyxc memory-server --unix {SOCKET} {GUEST}"
    with subprocess.Popen([*words, serve], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            assert server.stdout.readline().decode().strip() == f"listening: pyxc drgn unix:{SOCKET}"
            yield here
        finally:
            server.kill()


def test_what_drgn_finds_is_what_the_guest_says(said: str, memory: Path, tmp_path: Path) -> None:
    words = ["-m", "pyxc", "drgn", "--vmlinux", str(artifacts.symbols()), f"unix:{memory}"]
    described.check_drgn(said, words, tmp_path)


def test_what_volatility_finds_is_what_the_guest_says(said: str, memory: Path, tmp_path: Path) -> None:
    described.check_volatility(said, f"xen://unix:{memory}", tmp_path)


def test_gdb_shows_what_an_idle_vcpu_does(said: str, hosts: list[Host]) -> None:
    """GDB ends, and the guest runs."""
    remote = shlex.join(["ssh", "-F", str(hosts[0].ssh), hosts[0].name, f"pyxc gdb --stdio {GUEST}"])
    start = (f"source {UNWINDER}", f"set remotetimeout {PATIENCE_S}", f"target remote | {remote}")
    words = ["gdb", "-nx", "-batch"]
    for command in (*start, "backtrace", "detach"):
        words += ["-ex", command]
    words.append(str(artifacts.symbols()))
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    frames = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+) \(", done.stdout, re.MULTILINE)
    assert [name for name in frames if name in described.IDLE] == described.IDLE, done.stdout
    assert hosts[0].json("list", GUEST)["domains"][0]["state"] in ("blocked", "runnable", "running")
