# SPDX-License-Identifier: MIT
"""`shell`: a Python prompt with an open hypervisor."""

from __future__ import annotations

import argparse
import builtins
import keyword
from contextlib import suppress
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.session import name_of, opened


def add(program: Program) -> None:
    shell = program.add("shell", run, "open a Python prompt with xen, dom0 and the domains by their names")
    shell.add_argument("-c", metavar="CODE", help="run this Python code instead, as python3 -c does")


def run(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        names = _names(xen)
        if args.json:
            output.report(args.json, names=sorted(names))
        elif args.c is not None:
            exec(compile(args.c, "-c", "exec"), names)
        else:
            banner = f"{xen!r}\nNames: {', '.join(sorted(names))}. help(xen) describes what there is."
            _prompt(names, output.harmless(banner, "\n"))
    return 0


def _names(xen: pyxc.Xen) -> dict[str, Any]:
    """The names that the prompt starts with, among them each domain whose name can be typed."""
    names: dict[str, Any] = {}
    for info in xen.domains.infos():
        name = name_of(xen, info)
        if name and _is_free(name):
            names[name] = pyxc.Domain(xen, info.domid, info.uuid)
    with suppress(pyxc.Error):
        names["dom0"] = xen.domains[0]
    return {**names, "pyxc": pyxc, "xen": xen}


def _is_free(name: str) -> bool:
    """Whether it is a Python identifier without a meaning of its own, such as print or __builtins__."""
    return name.isidentifier() and not (keyword.iskeyword(name) or name[0] == "_" or hasattr(builtins, name))


def _prompt(names: dict[str, Any], banner: str) -> None:
    """IPython if it is installed, otherwise Python's own prompt with completion."""
    try:
        from IPython.terminal.embed import InteractiveShellEmbed
    except ImportError:
        _plain_prompt(names, banner)
    else:
        InteractiveShellEmbed(banner1=banner, user_ns=names)()


def _plain_prompt(names: dict[str, Any], banner: str) -> None:
    import code

    with suppress(ImportError):
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    code.interact(banner, local=names, exitmsg="")
