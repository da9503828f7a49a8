# SPDX-License-Identifier: MIT
"""The core belongs to the main interpreter of a process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

MODULE = next(filter(importlib.util.find_spec, ("_interpreters", "_xxsubinterpreters")), None)
IMPORT = f"""
import os, sys
sys.path[:] = {sys.path!r}
try:
    import pyxc; pyxc.open
except ImportError as error:
    os.write(1, f"refused: {{error}}\\n".encode())
else:
    os.write(1, b"imported\\n")
"""
PROGRAM = f"""
import os
import {MODULE} as interpreters

def try_to_import():
    try:
        created = interpreters.create("legacy")    # one that shares the GIL
    except TypeError:
        created = interpreters.create()
    interpreters.run_string(created, {IMPORT!r})

try_to_import()
import pyxc
try_to_import()
with pyxc.open("sim:") as xen:
    os.write(1, f"{{xen.domains['web1'].domid}}\\n".encode())
"""


def test_without_the_gil_it_is_refused() -> None:
    """As a free-threaded Python that was forbidden to enable it says; this one may have it always."""
    program = f"import sys; sys._is_gil_enabled = lambda: False\n{IMPORT}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused: pyxc._core needs the GIL")


@pytest.mark.skipif(MODULE is None, reason="this Python has no module that makes interpreters")
def test_a_sub_interpreter_is_refused_and_the_main_one_is_not() -> None:
    """Also after a sub-interpreter has tried first."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, second, found = done.stdout.splitlines()
    assert first == second
    # The core's own words, or Python's for an interpreter that does not share the GIL.
    assert first.startswith("refused: ") and "pyxc._core" in first and "interpreter" in first
    assert found == "1"
