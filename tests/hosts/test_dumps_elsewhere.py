# SPDX-License-Identifier: MIT
"""One dump of a guest opens on this machine in each tool that is made for dumps of Linux."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import described
import pytest
from described import GUEST
from managed import PATIENCE_S, Host

from lab import artifacts

ON_HOST = "/run/described.core"
CRASH = "sys\nlog\nbt\nquit\n"


@pytest.fixture
def dump(said: str, hosts: list[Host], tmp_path: Path) -> Path:
    """A vmcore of the guest, brought here."""
    hosts[0].run(f"pyxc dump-core --format vmcore {GUEST} {ON_HOST} && gzip -1 {ON_HOST}")
    here = tmp_path / "core.gz"
    with here.open("wb") as packed:
        words = ["ssh", "-F", str(hosts[0].ssh), hosts[0].name, f"cat {ON_HOST}.gz && rm {ON_HOST}.gz"]
        subprocess.run(words, stdout=packed, check=True, timeout=PATIENCE_S)
    subprocess.run(["gunzip", str(here)], check=True)
    return here.with_suffix("")


def test_a_dump_opens_in_each_tool(said: str, dump: Path, tmp_path: Path) -> None:
    """crash, drgn, makedumpfile and volatility3 find what the guest printed, and what its vcpu did."""
    vmlinux = str(artifacts.symbols())
    described.check_drgn(said, ["-m", "drgn", "-c", str(dump), "-s", vmlinux], tmp_path)
    described.check_volatility(said, str(dump), tmp_path)
    messages = tmp_path / "messages"
    subprocess.run(["makedumpfile", "--dump-dmesg", str(dump), str(messages)], check=True, timeout=PATIENCE_S)
    described.check_messages(said, messages.read_text())
    crash = subprocess.run(
        ["crash", "-s", vmlinux, str(dump)], input=CRASH, capture_output=True, text=True, timeout=PATIENCE_S
    ).stdout
    assert f"RELEASE: {described.release(said)}\n" in crash
    described.check_messages(said, crash)
    called = re.findall(r"^ *#\d+ \[\w+\] (\w+) at ", crash, re.MULTILINE)
    assert [name for name in called if name in described.IDLE] == described.IDLE
