# SPDX-License-Identifier: MIT
"""What the shell offers on TAB."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "completions" / "pyxc.bash"
SIM = ["--target", "sim:xen-4.17"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["p"], ["pause"]),
        ([*SIM, "vc"], ["vcpu-list", "vcpu-pin"]),
        ([*SIM, "pause", ""], ["Domain-0", "web1", "db1", "build"]),
        ([*SIM, "pause", "web1", "b"], ["build"]),
        (["--target=sim:", "context", "w"], ["web1"]),
        ([*SIM, "context", "web1", ""], []),
        ([*SIM, "debug-keys", ""], []),
        (["frames", "--t"], ["--target", "--types"]),
        (["--r"], ["--read-only"]),
        (["list", "--gate", ""], ["auto", "never"]),
        (["--target", "sim:xen-4.2"], ["sim:xen-4.20", "sim:xen-4.22"]),
        (["nonsense", "x"], []),
        (["pause", "--target", "moon", ""], []),
    ],
)
def test_candidates(pyxc, words, offered):
    outcome = pyxc("__complete", *words)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.split() == offered


def test_a_first_word(pyxc):
    assert "list" in pyxc("__complete").out.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the file is for bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [("pyxc li", ["list"]), ("pyxc --target sim: unpause we", ["web1"]), ("pyxc --target sim:xen-4.1", None)],
)
def test_the_bash_file(line, offered):
    """COMPREPLY for a line; after a colon bash replaces only what follows it."""
    script = f"""
        pyxc() {{ {sys.executable} -m pyxc "$@"; }}
        source {SCRIPT}
        COMP_LINE={line!r} COMP_POINT={len(line)}
        _pyxc
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split() == (offered or ["xen-4.10", "xen-4.14", "xen-4.17"])
