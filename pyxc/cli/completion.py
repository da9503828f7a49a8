# SPDX-License-Identifier: MIT
"""What the shell offers on TAB: completions/pyxc.bash asks `pyxc __complete WORD...`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import pyxc
from pyxc.cli import output
from pyxc.cli.parser import Parser, Program

HOOK = "__complete"
_WITH_VALUE = ("--target", "--gate")


def complete(program: Program, words: list[str]) -> int:
    """Print what the last word, which may be empty, can become after the words before it."""
    *before, current = words or [""]
    output.lines(word for word in _candidates(program, before, current) if word.startswith(current))
    return 0


def _candidates(program: Program, before: list[str], current: str) -> Iterable[str]:
    if before and before[-1] in _WITH_VALUE:
        return _values(before[-1])
    plain = [word for index, word in enumerate(before) if not _belongs_to_option(before, index)]
    command = program.commands.get(plain[0]) if plain else None
    if current.startswith("-"):
        return (command or program.parser).options
    if not plain:
        return program.commands
    return _domains(_target(before)) if command and _wants_domain(command, len(plain) - 1) else ()


def _belongs_to_option(words: list[str], index: int) -> bool:
    return words[index].startswith("-") or (index > 0 and words[index - 1] in _WITH_VALUE)


def _values(option: str) -> Iterable[str]:
    if option == "--gate":
        return ("auto", "never")
    from pyxc.sim import PROFILES

    return PROFILES


def _target(words: list[str]) -> str | None:
    """What --target says among the words, in either of its spellings."""
    for option, value in zip(words, [*words[1:], ""]):
        if option == "--target":
            return value
        if option.startswith("--target="):
            return option.removeprefix("--target=")
    return None


def _wants_domain(command: Parser, position: int) -> bool:
    """Whether the positional argument at this place is a domain; the last one may take several."""
    arguments = command.arguments
    return bool(arguments) and arguments[min(position, len(arguments) - 1)] == "DOMAIN"


def _domains(target: str | None) -> list[str]:
    """Names and ids; none where no hypervisor can be asked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pyxc.open(target, readonly=True) as xen:
                domids = list(xen.domains)
                return [xen.store.domain_name(domid) or str(domid) for domid in domids]
    except (pyxc.Error, OSError, ValueError):
        return []
