# SPDX-License-Identifier: MIT
"""Runs call scripts in a real dom0 and records them: python3 tests/record.py DIRECTORY [SCRIPT...], or all.

Writes RELEASE/SCRIPT.calls (what passed through the link) and SCRIPT.outcomes.json (the outcomes).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import callscripts

import pyxc


def record(script: str, release: str, directory: Path) -> None:
    calls = directory / "calls"
    with pyxc.open(record=calls, provenance="none", names=False) as xen:
        outcomes = callscripts.run(script, xen, release)
    made = directory / release
    made.mkdir(exist_ok=True)
    calls.rename(made / f"{script}.calls")
    text = json.dumps(outcomes, indent=1, sort_keys=True)
    (made / f"{script}.outcomes.json").write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    with pyxc.open() as xen:
        release = callscripts.release(xen)
    for name in sys.argv[2:] or callscripts.names():
        record(name, release, target)
