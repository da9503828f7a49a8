# SPDX-License-Identifier: MIT
"""The language of the command line: the program, its commands and the options that all of them take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import pyxc
from pyxc.cli.status import UsageError

Run = Callable[[argparse.Namespace], int]

_DEFAULTS = {"target": None, "json": False, "names": True, "read_only": False, "gate": "auto"}


class Parser(argparse.ArgumentParser):
    """One that raises UsageError where argparse would print its usage and exit."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    @property
    def options(self) -> list[str]:
        """All spellings of its options."""
        return list(self._option_string_actions)

    @property
    def arguments(self) -> list[str]:
        """What its positional arguments are called."""
        return [str(action.metavar or action.dest) for action in self._get_positional_actions()]


class Program:
    """The whole command line: `commands` has the parser of each command by name."""

    def __init__(self) -> None:
        self.parser = Parser(prog="pyxc", description="Manage the domains of a Xen hypervisor.")
        self.parser.add_argument("--version", action="version", version=f"pyxc {pyxc.__version__}")
        _add_global_options(self.parser)
        self._adder = self.parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
        self.commands: dict[str, Parser] = {}

    def add(self, name: str, run: Run, purpose: str) -> Parser:
        """A new command that `run` carries out; it answers the exit status."""
        sentence = f"{purpose[:1].upper()}{purpose[1:]}."
        parser = self._adder.add_parser(name, help=purpose, description=sentence)
        _add_global_options(parser)
        parser.set_defaults(run=run)
        self.commands[name] = parser
        return parser

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """UsageError for what makes no sense; SystemExit after --help and --version, which print."""
        return self.parser.parse_args(words, argparse.Namespace(**_DEFAULTS))


def _add_global_options(parser: Parser) -> None:
    """Those that stand before or after the command.

    They have no defaults here: a default of the command's would undo an option that stands before it.
    """
    group = parser.add_argument_group("options of every command", argument_default=argparse.SUPPRESS)
    group.add_argument("--target", help='"sim:xen-4.17" and the like: a simulated hypervisor')
    group.add_argument("--json", action="store_true", help="print JSON")
    group.add_argument("--no-names", dest="names", action="store_false", help="do not ask xenstore for names")
    group.add_argument("--read-only", action="store_true", help="refuse to change anything")
    group.add_argument("--gate", choices=("auto", "never"), help="may 32-bit processes use 64-bit calls?")
