# SPDX-License-Identifier: MIT
"""The language of the command line: the program, its commands and the options that all of them take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from pyxc.cli import output
from pyxc.cli.status import UsageError

Run = Callable[[argparse.Namespace], int]

_DEFAULTS = {
    "target": None,
    "json": "",
    "color": "auto",
    "names": True,
    "read_only": False,
    "gate": "auto",
    "assume": None,
    "record": None,
    "provenance": "attributes",
}


_FORMS = {"json": "JSON", "jsonl": "JSON, an object on each line", "csv": "comma-separated values"}
_PROVENANCE = ("attributes", "required", "sidecar", "none")


class Parser(argparse.ArgumentParser):
    """One that raises UsageError where argparse would print its usage and exit."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_unmeasured, **settings)
        self.commands: dict[str, Parser] = {}
        """Those of a group, by the word that comes next."""
        self.ending: Callable[[], str] | None = None
        """Makes the end of its help."""

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """As argparse's, but what may be left out is never said to be required."""
        if settings.get("nargs") == "*":
            settings.setdefault("default", [])
        return super().add_argument(*names, **settings)

    def format_help(self) -> str:
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.epilog = self.ending() if self.ending else None
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    @property
    def options(self) -> list[str]:
        """All spellings of its options."""
        return list(self._option_string_actions)

    @property
    def arguments(self) -> list[argparse.Action]:
        """Its positional arguments."""
        return self._get_positional_actions()

    def value_of(self, option: str) -> argparse.Action | None:
        """An option that wants a value."""
        action = self._option_string_actions.get(option)
        return None if action is None or action.nargs == 0 else action


def _unmeasured(prog: str) -> argparse.HelpFormatter:
    """What checks arguments; argparse would look up the size of the terminal for each of them."""
    return argparse.HelpFormatter(prog, width=80)


class Program:
    """The whole command line: `commands` has the parser of each command by name, as "list", "label get"."""

    def __init__(self) -> None:
        usage = "pyxc [OPTION ...] COMMAND ..."
        self.parser = Parser(prog="pyxc", usage=usage, description="Manage a Xen host and its guests.")
        self.parser.add_argument("--version", action="version", version=output.VERSION)
        _add_global_options(self.parser)
        self._groups = {"": (self.parser, _adder(self.parser, help=argparse.SUPPRESS))}
        self.commands: dict[str, Parser] = {}

    def add_group(self, name: str, purpose: str) -> None:
        """A word that commands begin with."""
        parser = self._add_parser("", name, purpose)
        self._groups[name] = (parser, _adder(parser))

    def add(self, name: str, run: Run, purpose: str) -> Parser:
        """Add a command with its function `run`, which returns the exit status. "label get" is in a group."""
        group, _, word = name.rpartition(" ")
        parser = self._add_parser(group, word, purpose)
        parser.set_defaults(run=run)
        self.commands[name] = parser
        return parser

    def _add_parser(self, group: str, word: str, purpose: str) -> Parser:
        parent, adder = self._groups[group]
        sentence = f"{purpose[:1].upper()}{purpose[1:]}."
        listed = {"help": purpose} if group else {}  # --help of the program itself lists commands by topic
        parser: Parser = adder.add_parser(word, description=sentence, **listed)
        _add_global_options(parser)
        parent.commands[word] = parser
        return parser

    def command_of(self, words: Sequence[str]) -> str | None:
        """The first of the words that is neither an option nor its value."""
        return next((words[place] for place in self._plain(words)), None)

    def without_help(self, words: list[str]) -> list[str]:
        """`help COMMAND` as `COMMAND --help`; other words as they are."""
        place = next(self._plain(words), None)
        if place is None or words[place] != "help":
            return words
        return [*words[:place], *words[place + 1 :], "--help"]

    def _plain(self, words: Sequence[str]) -> Iterator[int]:
        """The places of the words that are neither options nor their values."""
        rest = iter(range(len(words)))
        for place in rest:
            if not words[place].startswith("-"):
                yield place
            elif self.parser.value_of(words[place]):
                next(rest, None)

    def parse(self, words: Sequence[str], known: Iterable[str] = ()) -> argparse.Namespace:
        """UsageError for words that are not understood; SystemExit after --help and --version, which print.

        `known` are all commands, also those that were not built for these words.
        """
        parser, known = self.parser, tuple(known) or tuple(self.parser.commands)
        for word in (words[place] for place in self._plain(words)):
            if not known:
                break
            if word not in known:
                from pyxc.cli import overview

                raise UsageError(overview.unknown(parser.prog, word, known))
            parser = parser.commands[word]
            known = tuple(parser.commands)
        found, rest = self.parser.parse_known_args(words, argparse.Namespace(**_DEFAULTS))
        if rest:
            from pyxc.cli import overview

            hint = overview.meant(rest[0], parser.options)
            if rest[0] in parser.options:
                hint = f"; it goes after '{parser.prog}'"
            parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return found


def _adder(parser: Parser, **settings: Any) -> Any:
    return parser.add_subparsers(
        metavar="COMMAND", required=True, parser_class=Parser, prog=parser.prog, **settings
    )


def _add_global_options(parser: Parser) -> None:
    """Those that stand before or after the command.

    They have no defaults here: a default of the command's would undo an option that stands before it.
    """
    group = parser.add_argument_group("options of every command", argument_default=argparse.SUPPRESS)
    group.add_argument("--target", help='"sim:xen-4.17": a simulated one; "replay:FILE": a recording')
    forms = group.add_mutually_exclusive_group()
    for form, printed in _FORMS.items():
        forms.add_argument(
            f"--{form}", dest="json", action="store_const", const=form, help=f"print {printed}"
        )
    group.add_argument("--color", choices=("auto", "always", "never"), help="whether tables have colours")
    group.add_argument(
        "--no-names", dest="names", action="store_false", help="do not look up names in xenstore"
    )
    group.add_argument("--read-only", action="store_true", help="refuse to change anything")
    group.add_argument(
        "--gate", choices=("auto", "never"), help="whether a 32-bit process may use 64-bit calls"
    )
    group.add_argument("--assume", metavar="RELEASE", help="use the structures of this release, such as 4.22")
    group.add_argument("--record", metavar="FILE", help="record all hypercalls and replies")
    group.add_argument("--provenance", choices=_PROVENANCE, help="how to record the provenance of files")
