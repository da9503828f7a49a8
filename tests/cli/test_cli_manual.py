# SPDX-License-Identifier: MIT
"""man/pyxc.1 and the parser say the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyxc.cli.commands import build
from pyxc.cli.status import Status
from pyxc.sim import PROFILES

PAGES = sorted((Path(__file__).parents[2] / "man").iterdir())
TEXT = next(page for page in PAGES if page.name == "pyxc.1").read_text(encoding="utf-8")


def _section(title: str) -> str:
    return TEXT.split(f".Sh {title}\n", 1)[1].split("\n.Sh ", 1)[0]


def _entries() -> dict[str, str]:
    """The line that introduces each command."""
    lines = [line for line in _section("COMMANDS").splitlines() if line.startswith(".It Cm ")]
    return {re.match(r"\.It Cm ([a-z0-9 -]*[a-z0-9])", line)[1]: line for line in lines}


def _options_in(text: str) -> set[str]:
    return {f"--{name}" for name in re.findall(r"Fl Fl ([a-z0-9_-]+)", text)}


def _long(options: list[str]) -> set[str]:
    return {option for option in options if option.startswith("--")}


def test_every_command_and_no_other_is_described():
    assert set(_entries()) == set(build().commands)


def test_the_json_of_every_command_is_described():
    lines = re.findall(r"^\.It Cm (.*)$", _section("JSON"), re.MULTILINE)
    assert sorted(name for line in lines for name in line.split(" , ")) == sorted(build().commands)


def test_every_global_option_and_no_other_is_described():
    described = {line for line in _section("OPTIONS").splitlines() if line.startswith(".It ")}
    assert _options_in("\n".join(described)) == _long(build().parser.options)


@pytest.mark.parametrize("name", build().commands)
def test_every_option_of_a_command_and_no_other_is_described(name):
    program = build()
    own = _long(program.commands[name].options) - _long(program.parser.options)
    assert _options_in(_entries()[name]) == own


def test_every_exit_status_is_listed():
    listed = {int(number) for number in re.findall(r"^\.It (\d+)$", _section("EXIT STATUS"), re.MULTILINE)}
    assert listed == set(Status)


def test_every_simulated_hypervisor_is_named():
    assert set(re.findall(r"sim:[a-z0-9.-]*[a-z0-9]", _section("OPTIONS"))) == set(PROFILES)


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_well_formed(page):
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", str(page)], capture_output=True, text=True, check=False
    )
    # Which other pages there are depends on what is installed.
    assert [line for line in done.stdout.splitlines() if "referenced manual not found" not in line] == []
