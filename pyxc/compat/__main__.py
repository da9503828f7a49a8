# SPDX-License-Identifier: MIT
"""python3 -m pyxc.compat run PROGRAM [ARGUMENT...]: runs a Python program with pyxc as its xen.lowlevel."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from collections.abc import Sequence

from pyxc.compat import install

_USAGE = "usage: python3 -m pyxc.compat run PROGRAM [ARGUMENT...]"


def main(words: Sequence[str]) -> None:
    """Run the program given by the words. SystemExit with a message if there is none."""
    if len(words) < 2 or words[0] != "run":
        raise SystemExit(_USAGE)
    program = words[1] if os.path.exists(words[1]) else shutil.which(words[1])
    if program is None:
        raise SystemExit(f"pyxc.compat: no such program: {words[1]}")
    install()
    sys.argv[:] = [program, *words[2:]]
    sys.path[0] = os.path.dirname(os.path.abspath(program))
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
