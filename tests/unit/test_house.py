# SPDX-License-Identifier: MIT
"""Where modules stand: imports run down the floors of docs/architecture.md, and never in a circle."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyxc

PACKAGE = Path(pyxc.__file__).parent
FLOORS = (
    "_core abi errors",
    "answers arguments undoing waiting",
    "store",
    "link",
    "call",
    "host",
    "domain",
    "files",
    "guest",
    "debug",
    "xen",
    "opening",
    "compat metrics",
    "cli",
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms.split()}
OF_SIM = {"sim", "abi", "link", "store", "errors", "_core"}
"""What the simulator knows: it stands beside the house."""
OF_CLI = {"cli", "debug", "errors", "files", "guest", "metrics", "opening", "sim", ""}
"""What the command proves to be enough: `pyxc` itself (""), and the packages that docs/ describe."""
DOORS_TO_SIM = {"opening", "compat", "cli"}
DOORS_UPWARD = {("domain/domain.py", "guest"), ("domain/domains.py", "guest")}
"""Domain.dump_core(), Domains.build() and the like are carried out by guest/: imported when called."""


def imports(file: Path) -> Iterator[str]:
    """Modules of pyxc that a file imports, also for types alone, as "domain.memory"."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pyxc":
            module = (node.module or "").partition(".")[2]
            yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names)
        elif isinstance(node, ast.Import):
            names = [alias.name.partition(".") for alias in node.names]
            yield from (below for top, _, below in names if top == "pyxc")


def strays(package: Path) -> list[str]:
    """Imports that run upward, or to and from the simulator by another way than its doors."""
    found = []
    for file in package.rglob("*.py"):
        name = file.relative_to(package).as_posix()
        room = name.partition("/")[0].removesuffix(".py")
        for target in {module.partition(".")[0] for module in imports(file)} - {room}:
            if room == "sim":
                fine = target in OF_SIM
            elif target == "sim":
                fine = room in DOORS_TO_SIM
            else:
                fine = room not in LEVEL or (name, target) in DOORS_UPWARD
                fine = fine or LEVEL.get(target, 0) <= LEVEL[room]
            found += [] if fine else [f"{name} imports {target}"]
    return found


def test_imports_run_downward() -> None:
    assert strays(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("host/pools.py", "from pyxc.domain.memory import Memory"),
        ("abi/domctl.py", "from pyxc import answers"),
        ("domain/memory.py", "if TYPE_CHECKING:\n    from pyxc.xen import Xen"),
        ("sim/link.py", "from pyxc.call.caller import Caller"),
        ("call/caller.py", "def ask():\n    from pyxc import sim"),
    ],
)
def test_an_import_that_runs_upward_is_noticed(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text)
    assert [line.partition(" ")[0] for line in strays(tmp_path)] == [file]


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): file
        for file in PACKAGE.rglob("*.py")
    }
    graph = {}
    for name, file in files.items():
        targets = {module if module in files else module.rpartition(".")[0] for module in imports(file)}
        graph[name] = (targets & files.keys()) - {name}
    graphlib.TopologicalSorter(graph).prepare()


def private(package: Path) -> list[str]:
    """What the command imports that is no part of the public API."""
    return [
        f"{file.relative_to(package).as_posix()} imports {module}"
        for file in (package / "cli").rglob("*.py")
        for module in imports(file)
        if module.partition(".")[0] not in OF_CLI
    ]


def test_the_command_needs_the_public_names_only() -> None:
    assert private(PACKAGE) == []


@pytest.mark.parametrize("text", ["from pyxc.abi import domctl", "def run():\n    import pyxc.host.host"])
def test_a_private_import_of_the_command_is_noticed(tmp_path: Path, text: str) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "list.py").write_text(text)
    assert len(private(tmp_path)) == 1


def test_the_root_of_the_package_is_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 10


def test_the_native_core_is_its_entry_and_its_parts() -> None:
    source = Path(__file__).parents[2] / "pyxc"
    entry = (source / "_core.pyx").read_text(encoding="utf-8")
    parts = sorted(f"core/{part.name}" for part in (source / "core").iterdir())
    assert sorted(re.findall(r'^include "(.*)"$', entry, re.MULTILINE)) == parts
    for part in ("_core.pyx", *parts):
        assert len((source / part).read_text(encoding="utf-8").splitlines()) <= 500, part


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports them by their names alone."""
    top = Path(__file__).parent.parent
    names = [path.name for path in top.rglob("test_*.py") if top / "real" not in path.parents]
    twice = {name for name in names if names.count(name) > 1}
    assert twice == set()
