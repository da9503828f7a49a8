# SPDX-License-Identifier: MIT
"""Runs the call script in a real dom0 and records it: python3 tests/record.py DIRECTORY.

Writes xen-MAJOR.MINOR.calls (what went through the link) and xen-MAJOR.MINOR.outcomes.json (what came of it).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import callscript

import pyxc
from pyxc.link.privcmd import PrivcmdLink
from pyxc.link.record import RecordLink


def main(directory: Path) -> None:
    target = directory / "recording.part"
    with target.open("w", encoding="ascii") as stream:
        link = RecordLink(PrivcmdLink(), stream)
        with pyxc.connect(link, names=False) as xen:
            outcomes = callscript.run(xen)
            name = "xen-{}.{}".format(*xen.interface.xen)
    target.rename(directory / f"{name}.calls")
    text = json.dumps(outcomes, indent=1, sort_keys=True)
    (directory / f"{name}.outcomes.json").write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
