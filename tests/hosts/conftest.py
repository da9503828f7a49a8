# SPDX-License-Identifier: MIT
"""Hosts of real Xen that are managed from outside, by ssh: python3 -m lab.hosts runs these tests."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from managed import Host


@pytest.fixture(scope="session")
def hosts() -> list[Host]:
    ssh = Path(os.environ["PYXC_SSH"])
    return [Host(name, ssh) for name in re.findall(r"^Host (\S+)", ssh.read_text(), re.MULTILINE)]
