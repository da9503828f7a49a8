# SPDX-License-Identifier: MIT
"""Runs the scripts in a real dom0 with xenstored and records them: python3 record.py DIRECTORY XEN-LOWLEVEL.

XEN-LOWLEVEL is where Xen's own Python modules are.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pyxc

sys.path.insert(0, str(Path(__file__).parent.parent))
from storescripts import client, compat, record  # noqa: E402


def main(directory: Path, own_modules: str) -> None:
    directory.mkdir(exist_ok=True)
    with pyxc.open(names=False) as xen:
        record("client", json.loads(json.dumps(client.run(xen))), directory)
    sys.path.insert(0, own_modules)
    record("compat", compat.run(importlib.import_module("xen.lowlevel.xs")), directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
