# SPDX-License-Identifier: MIT
"""Of the command line only what is asked for is put together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyxc
from pyxc import sim
from pyxc.cli.commands import NAMES, TOPICS, build

PROGRAM = """
import sys
from pyxc.cli import main
status = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(status)
"""
PARSER = """
import argparse, sys
argparse.ArgumentParser().format_usage()
print(*sys.modules, file=sys.stderr)
"""


SCRIPT = Path(__file__).parents[2] / "debian" / "command"


def loaded_by(*words: str, program: str = PROGRAM) -> set[str]:
    """Modules that are there when a command has run."""
    command = [sys.executable, "-c", program, *words]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stderr.split())


@pytest.mark.parametrize("word", " ".join(TOPICS.values()).split())
def test_a_command_alone_is_what_it_is_among_all(word):
    whole = build().commands
    alone = build(["--target", "moon", "--json", word]).commands
    assert {name for name in alone if name.split()[0] == word} != set()
    assert all(alone[name].options == whole[name].options for name in alone)


def test_each_command_is_in_the_index():
    assert {name.split()[0] for name in build().commands} == set(" ".join(TOPICS.values()).split())


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--target", "list", "-h"]])
def test_the_help_knows_all_commands(words):
    assert build(words).commands.keys() == build().commands.keys()


def test_the_help_lists_each_command_once_and_each_simulated_host(pyxc):
    for words in (["--help"], ["help"]):
        outcome = pyxc(*words)
        assert outcome.status == 0
        listed = re.findall(r"^  (\S+) +[A-Z].*[.a-z]$", outcome.out, re.MULTILINE)
        assert sorted(set(listed) & set(NAMES)) == sorted(NAMES)
        assert all(target.removeprefix("sim:") in outcome.out.split() for target in sim.PROFILES)


def test_help_of_a_command(pyxc):
    assert pyxc("help", "list").out == pyxc("list", "--help").out
    assert pyxc("help", "store", "ls").out == pyxc("store", "ls", "--help").out
    assert pyxc("--json", "--target", "help", "help", "list").out == pyxc("list", "--help").out
    assert pyxc("help", "lst").status == 2


def test_the_command_alone_says_how_to_begin(pyxc):
    outcome = pyxc()
    assert outcome.status == 2
    assert "pyxc help COMMAND" in outcome.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["lst"], "no command 'lst'; did you mean 'list'? (pyxc --help lists all)"),
        (["--target", "sim:", "nonsense"], "no command 'nonsense' (pyxc --help lists all)"),
        (["store", "lss"], "no command 'lss'; did you mean 'ls'? (pyxc store --help lists all)"),
        (["vncviewer"], "pyxc has no command 'vncviewer': use xl vncviewer (pyxc help lists what there is)"),
        (["list", "--xyz"], "unrecognized arguments: --xyz (see pyxc list --help)"),
        (
            ["list", "--jsno"],
            "unrecognized arguments: --jsno; did you mean '--json'? (see pyxc list --help)",
        ),
        (["-v", "list"], "unrecognized arguments: -v; it goes after 'pyxc list' (see pyxc list --help)"),
        (["helpp"], "no command 'helpp'; did you mean 'help'? (pyxc --help lists all)"),
        (["dump-core", "web1", "-"], "a dump cannot go to the standard output: it needs a file"),
        (["store", "help"], "no command 'help' (pyxc store --help lists all)"),
        (["create"], "the following arguments are required: FILE (see pyxc create --help)"),
    ],
)
def test_a_mistyped_command_is_answered_with_what_may_be_meant(pyxc, words, text):
    outcome = pyxc(*words)
    assert (outcome.status, outcome.err) == (2, f"pyxc: {text}\n")


def test_options_are_no_commands(pyxc):
    assert pyxc("--target=sim:", "--gate", "auto", "--json", "list").json["domains"]
    assert pyxc("--target", "sim:").status == 2
    assert pyxc().status == 2
    assert pyxc("--target").status == 2


def test_a_command_loads_what_it_needs(tmp_path):
    recording = str(tmp_path / "list.calls")
    dear = "asyncio base64 ctypes dataclasses email hashlib inspect pathlib shutil socket subprocess uuid"
    rare = "pyxc.abi.domctl_create pyxc.abi.features pyxc.store.transaction pyxc.store.watch"
    loaded = loaded_by("--target", "sim:", "--record", recording, "--provenance", "none", "list")
    assert {name for name in loaded if name.startswith("pyxc.cli.commands.")} == {"pyxc.cli.commands.list"}
    unavoidable = loaded_by(program=PARSER)  # since Python 3.14 dataclasses and inspect, too
    loaded = loaded_by("--target", f"replay:{recording}", "list")
    assert not (loaded - unavoidable) & set(f"{dear} {rare}".split())
    assert not {name for name in loaded_by("--version") if name.startswith("pyxc.cli.commands.")}


def test_a_plain_guest_is_created_without_what_others_need(guest_config):
    loaded = loaded_by("--target", "sim:xen-4.17", "create", "-q", guest_config)
    assert "pyxc.guest.build_pvh" in loaded
    rare = {
        "cli": "terminal",
        "domain": "address_space affinity console frames p2m paging registers state vcpus vnuma",
        "files": "compressed provenance writer xattrs",
        "guest": "bridge build_pv compression config_devices config_vnuma cpu_lists devices loop page_tables",
        "host": "cpu_policy events flask pools scheduling topology",
    }
    assert not loaded & {f"pyxc.{room}.{name}" for room, names in rare.items() for name in names.split()}


@pytest.mark.parametrize("command", ["pause", "destroy", "shutdown"])
def test_a_guest_is_controlled_without_what_reads_its_memory(command):
    loaded = loaded_by("--target", "sim:xen-4.17", command, "web1")
    rare = "domain.mapping domain.memory domain.p2m domain.registers files.provenance guest.core_dump"
    assert not loaded & {f"pyxc.{name}" for name in rare.split()}


def test_the_script_of_the_package_is_the_command():
    words = [sys.executable, "-X", "importtime", SCRIPT]
    path = {**os.environ, "PYTHONPATH": str(Path(pyxc.__file__).parents[1])}
    version = subprocess.run([*words, "--version"], env=path, check=True, capture_output=True, text=True)
    assert version.stdout == f"pyxc {pyxc.__version__}\n"
    assert "argparse" not in version.stderr and "importlib.metadata" not in version.stderr
    words += ["--json", "--version"]
    parsed = subprocess.run(words, env=path, check=True, capture_output=True, text=True)
    assert parsed.stdout == version.stdout
