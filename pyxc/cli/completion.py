# SPDX-License-Identifier: MIT
"""What the shell offers on TAB: the files in completions/ ask `pyxc __complete WORD...`."""

from __future__ import annotations

import argparse
import glob
import warnings
from collections import Counter
from collections.abc import Callable, Iterable

import pyxc
from pyxc.cli import output
from pyxc.cli.parser import Parser, Program

FILES = "__files__"
"""Offered alone where the shell itself has to complete the name of a file."""


def complete(program: Program, words: list[str]) -> int:
    """Print what the last word, which may be empty, can become after the words before it."""
    *before, current = words or [""]
    found = _candidates(program, before, current)
    output.lines(word for word in found if word.startswith(current) or word == FILES)
    return 0


def _candidates(program: Program, before: list[str], current: str) -> Iterable[str]:
    """Walks along the words, from the program's parser to that of the command."""
    parser, arguments, option = program.parser, 0, None
    for word in before:
        if option is not None:
            option = None
        elif word.startswith("-"):
            option = parser.value_of(word)
        elif not parser.commands:
            arguments += 1
        elif word in parser.commands:
            parser = parser.commands[word]
        else:
            return ()
    if option is not None:
        return _values(parser, option, before, current)
    name, equals, value = current.partition("=")
    if equals and (option := parser.value_of(name)):
        return [f"{name}={found}" for found in _values(parser, option, before, value) if found != FILES]
    if current.startswith("-"):
        return parser.options
    if parser.commands or not parser.arguments:
        return parser.commands
    # The last one may take several.
    return _values(parser, parser.arguments[min(arguments, len(parser.arguments) - 1)], before, current)


def _values(parser: Parser, wanted: argparse.Action, before: list[str], current: str) -> Iterable[str]:
    """What an option or a positional argument can be."""
    if wanted.choices is not None:
        return wanted.choices
    kind = wanted.metavar or wanted.dest.upper()
    if kind == "TARGET":
        return _targets(current)
    if kind in ("FILE", "DIRECTORY"):
        return (FILES,)
    if kind == "PATH" and "hypfs" in parser.prog.split():
        return _asked(_target(before), lambda xen: _entries(xen, current.rpartition("/")[0]))
    if kind == "PATH":
        return _nodes(_target(before), current.rpartition("/")[0])
    if kind == "VCPU":
        return _asked(_target(before), lambda xen: _vcpus(xen, before))
    question = {"DOMAIN": _domains, "CPUPOOL": _pools}.get(str(kind))
    return _asked(_target(before), question) if question else ()


def _targets(current: str) -> Iterable[str]:
    from pyxc.opening import REPLAYED

    if not current.startswith(REPLAYED):
        from pyxc.sim import PROFILES

        return (*PROFILES, REPLAYED)
    start = glob.escape(current.removeprefix(REPLAYED))
    return (f"{REPLAYED}{path}" for path in sorted(glob.glob(f"{start}*")))


def _target(words: list[str]) -> str | None:
    """What --target says among the words, in either of its spellings."""
    for option, value in zip(words, [*words[1:], ""]):
        if option == "--target":
            return value
        if option.startswith("--target="):
            return option.removeprefix("--target=")
    return None


def _nodes(target: str | None, top: str) -> list[str]:
    """Nodes of xenstore below one; none where it cannot be asked."""
    try:
        with pyxc.open_store(target, readonly=True) as store:
            return [f"{top}/{name}" for name in store.list(top or "/") or ()]
    except (pyxc.Error, OSError, ValueError):
        return []


def _entries(xen: pyxc.Xen, top: str) -> list[str]:
    """Entries of the hypervisor's file system below one."""
    return [entry.path for entry in xen.hypfs.entries(top or "/")]


def _vcpus(xen: pyxc.Xen, before: list[str]) -> list[str]:
    """The vcpus of the domain that the last word names."""
    return [str(index) for index in range(len(xen.domains[before[-1]].vcpus))]


def _domains(xen: pyxc.Xen) -> list[str]:
    return _unmistakable({i.domid: xen.names.domain_name(i.domid, i.uuid) for i in xen.domains.infos()})


def _pools(xen: pyxc.Xen) -> list[str]:
    return _unmistakable({pool_id: xen.names.pool_name(pool_id) for pool_id in xen.pools})


def _unmistakable(names: dict[int, str | None]) -> list[str]:
    """The name for each id; the id itself where another one has the name too, or it cannot be typed."""
    counts = Counter(names.values())
    return [
        name if name and counts[name] == 1 and name.isprintable() and not name.isdigit() else str(number)
        for number, name in names.items()
    ]


def _asked(target: str | None, question: Callable[[pyxc.Xen], list[str]]) -> list[str]:
    """Candidates from the hypervisor; none if it is not available."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pyxc.open(target, readonly=True) as xen:
                return question(xen)
    except (pyxc.Error, OSError, ValueError):
        return []
