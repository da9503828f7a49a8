# SPDX-License-Identifier: MIT
"""The tests themselves: they do not depend on what a shell or a service manager hands down to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).with_name("test_cli_status.py")


def test_signals_and_umask_are_not_inherited(start):
    """A shell starts its background jobs with SIGINT ignored.

    The directory is inherited: from there Python finds the pyxc that is tested.
    """
    chosen = f"-c {TESTS.parents[2]}/pyproject.toml -p no:cacheprovider {TESTS} -k 'no_noise or told_to_end'"
    line = f"trap '' INT HUP; umask 077; exec {sys.executable} -m pytest {chosen}"
    inner = start("sh", "-c", line, stdout=subprocess.PIPE)
    out, _ = inner.communicate(timeout=300)
    assert inner.returncode == 0, out
