# SPDX-License-Identifier: MIT
"""Runs call scripts in a real dom0 and records them: python3 tests/record.py DIRECTORY [SCRIPT...], or all.

Writes xen-MAJOR.MINOR/SCRIPT.calls (what went through the link) and SCRIPT.outcomes.json (what came of it).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import callscripts

import pyxc
from pyxc.link.privcmd import PrivcmdLink
from pyxc.link.record import RecordLink


def record(script: str, directory: Path) -> None:
    part = directory / "calls.part"
    with part.open("w", encoding="ascii") as stream:
        link = RecordLink(PrivcmdLink(), stream)
        with pyxc.connect(link, names=False) as xen:
            outcomes = callscripts.run(script, xen)
            release = directory / "xen-{}.{}".format(*xen.interface.xen)
    release.mkdir(exist_ok=True)
    part.rename(release / f"{script}.calls")
    text = json.dumps(outcomes, indent=1, sort_keys=True)
    (release / f"{script}.outcomes.json").write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    for name in sys.argv[2:] or callscripts.names():
        record(name, target)
