# SPDX-License-Identifier: MIT
"""Of the command line only what is asked for is put together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyxc
from pyxc.cli.commands import TOPICS, build

PROGRAM = """
import sys
from pyxc.cli import main
status = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""


SCRIPT = Path(__file__).parents[2] / "debian" / "pyxc"


def loaded_by(*words: str) -> set[str]:
    """Modules that are there when a command has run."""
    command = [sys.executable, "-c", PROGRAM, *words]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stderr.split())


@pytest.mark.parametrize("word", " ".join(TOPICS.values()).split())
def test_a_command_alone_is_what_it_is_among_all(word):
    whole = build().commands
    alone = build(["--target", "moon", "--json", word]).commands
    assert {name for name in alone if name.split()[0] == word} != set()
    assert all(alone[name].options == whole[name].options for name in alone)


def test_each_command_is_in_the_index():
    assert {name.split()[0] for name in build().commands} == set(" ".join(TOPICS.values()).split())


@pytest.mark.parametrize(
    "words",
    [["--help"], ["-h"], ["nonsense"], ["--target", "list", "nonsense"]],
)
def test_the_help_and_what_is_no_command_know_all(words):
    assert build(words).commands.keys() == build().commands.keys()


def test_options_are_no_commands(pyxc):
    assert pyxc("--target=sim:", "--gate", "auto", "--json", "list").json["domains"]
    assert pyxc("--target", "sim:").status == 2
    assert pyxc().status == 2
    assert pyxc("--target").status == 2


def test_a_command_loads_what_it_needs(tmp_path):
    recording = str(tmp_path / "list.calls")
    dear = "asyncio base64 ctypes dataclasses email hashlib inspect pathlib shutil socket subprocess uuid"
    loaded = loaded_by("--target", "sim:", "--record", recording, "--provenance", "none", "list")
    assert {name for name in loaded if name.startswith("pyxc.cli.commands.")} == {"pyxc.cli.commands.list"}
    assert not loaded_by("--target", f"replay:{recording}", "list") & set(dear.split())
    assert not {name for name in loaded_by("--version") if name.startswith("pyxc.cli.commands.")}


def test_the_script_of_the_package_is_the_command():
    words = [sys.executable, "-X", "importtime", SCRIPT]
    path = {**os.environ, "PYTHONPATH": str(Path(pyxc.__file__).parents[1])}
    version = subprocess.run([*words, "--version"], env=path, check=True, capture_output=True, text=True)
    assert version.stdout == f"pyxc {pyxc.__version__}\n"
    assert "argparse" not in version.stderr and "importlib.metadata" not in version.stderr
    words += ["--json", "--version"]
    parsed = subprocess.run(words, env=path, check=True, capture_output=True, text=True)
    assert parsed.stdout == version.stdout
