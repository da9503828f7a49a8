# SPDX-License-Identifier: MIT
"""What `import pyxc` gives, and what it does not load for that."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyxc


def loaded_by(statement: str) -> set[str]:
    """Modules that a statement loads in a new interpreter."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*sys.modules.keys() - before)"
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    return set(done.stdout.split())


def names_for_type_checkers() -> list[str]:
    """What is imported where only a type checker reads."""
    tree = ast.parse(Path(pyxc.__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    return [
        alias.asname or alias.name
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyxc")
        for alias in node.names
    ]


def test_import_loads_nothing_else_of_pyxc_and_nothing_dear() -> None:
    found = loaded_by("import pyxc")
    assert {name for name in found if name.partition(".")[0] == "pyxc"} == {"pyxc"}
    assert not found & set("argparse dataclasses enum json pathlib re socket typing uuid".split())


def test_type_checkers_see_the_names_that_there_are() -> None:
    assert sorted(names_for_type_checkers()) == sorted(pyxc.__all__)


@pytest.mark.parametrize("name", pyxc.__all__)
def test_each_name_is_there_and_listed(name: str) -> None:
    assert name in dir(pyxc)
    assert getattr(pyxc, name) is getattr(pyxc, name)


def test_packages_are_attributes_without_an_import_of_their_own() -> None:
    assert "pyxc.errors" in loaded_by("import pyxc; pyxc.errors.LabelConflict")
    assert "pyxc.sim" in loaded_by("import pyxc; pyxc.sim.PROFILES")


def test_an_unknown_name_is_an_attribute_error() -> None:
    name = "Zen"
    with pytest.raises(AttributeError, match="has no attribute 'Zen'"):
        getattr(pyxc, name)
    assert not hasattr(pyxc, name)


FORK = """
import importlib.abc, importlib.machinery, os, sys, threading, time
import pyxc

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == MODULE and threading.current_thread() is not threading.main_thread():
            begun.set()
            time.sleep(0.5)

begun = threading.Event()
sys.meta_path.insert(0, Slow())
pyxc.Error
thread = threading.Thread(target=lambda: importlib.import_module(MODULE))
thread.start()
begun.wait()
child = os.fork()
importlib.import_module(MODULE)
if child == 0:
    os._exit(0)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("module", ["pyxc.host.pm", "pyxc.guest.build_pvh", "uuid"])
def test_the_child_of_a_fork_beside_an_import_can_import(module: str) -> None:
    program = f"MODULE = {module!r}\n{FORK}"
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_fork_without_threads_imports_nothing() -> None:
    statement = "import os, pyxc.errors; os.fork() or os._exit(0); os.wait()"
    assert "pyxc.xen" not in loaded_by(statement)
