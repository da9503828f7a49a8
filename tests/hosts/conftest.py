# SPDX-License-Identifier: MIT
"""Hosts of real Xen that are managed from outside, by ssh: python3 -m lab.hosts runs these tests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from described import GUEST
from managed import Host, remove_guests, start_linux


@pytest.fixture(scope="session")
def hosts() -> list[Host]:
    ssh = Path(os.environ["PYXC_SSH"])
    return [Host(name, ssh) for name in re.findall(r"^Host (\S+)", ssh.read_text(), re.MULTILINE)]


@pytest.fixture(params=["pv", "pvh"])
def said(request: pytest.FixtureRequest, hosts: list[Host]) -> Iterator[str]:
    """What a guest of the first host prints of itself."""
    words = f"type={request.param} 'cmdline=\"console=hvc0 describe\"'"
    log = f"/run/xen/console/guest-{GUEST}.log"

    def printed() -> str:
        return hosts[0].run(f"cat {log} || true").replace("\r\n", "\n")

    start_linux(hosts[0], GUEST, words, lambda: "all is described" in printed(), "the guest describes itself")
    yield printed()
    remove_guests(hosts)
    hosts[0].run(f"rm -f {log}")
