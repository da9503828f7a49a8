# SPDX-License-Identifier: MIT
"""The hypervisor's security policy: getenforce, setenforce, loadpolicy, get-bool, set-bool."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyxc
from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt, opened

_MODES = {"0": False, "permissive": False, "1": True, "enforcing": True}
_SWITCHES = {"0": False, "off": False, "false": False, "1": True, "on": True, "true": True}


def add(program: Program) -> None:
    program.add("getenforce", show_mode, "show whether the security policy is enforced")
    mode = program.add("setenforce", set_mode, "enforce the security policy, or only log what it forbids")
    mode.add_argument("mode", metavar="MODE", type=_mode, help="1 or Enforcing, 0 or Permissive")
    load = program.add("loadpolicy", load_policy, "replace the security policy")
    load.add_argument("file", metavar="FILE", type=Path, help="a policy compiled by checkpolicy")
    get = program.add("get-bool", show_booleans, "show booleans of the security policy")
    get.add_argument("booleans", metavar="BOOLEAN", nargs="*", help="name (default: all)")
    turn = program.add("set-bool", set_boolean, "turn a boolean of the security policy on or off")
    turn.add_argument("boolean", metavar="BOOLEAN", help="its name")
    turn.add_argument("value", metavar="VALUE", type=_switch, help="1, on or true; 0, off or false")


def _mode(text: str) -> bool:
    if text.lower() not in _MODES:
        raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected 0, 1, Permissive or Enforcing")
    return _MODES[text.lower()]


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCHES:
        raise argparse.ArgumentTypeError(f"{text!r} is invalid: expected one of {', '.join(_SWITCHES)}")
    return _SWITCHES[text.lower()]


def show_mode(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        mode = xen.flask.enforcing() if xen.flask.present else None
    if args.json:
        output.report(args.json, flask=mode is not None, enforcing=mode)
    else:
        output.lines(["Flask XSM Disabled" if mode is None else "Enforcing" if mode else "Permissive"])
    return 0


def set_mode(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        xen.flask.set_enforcing(args.mode)
    if args.json:
        output.report(args.json, enforcing=args.mode)
    return 0


def load_policy(args: argparse.Namespace) -> int:
    policy = args.file.read_bytes()
    with opened(args) as xen:
        xen.flask.load(policy)
    if args.json:
        output.report(args.json, file=str(args.file), size_bytes=len(policy))
    return 0


def show_booleans(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        attempt = Attempt(args.booleans or list(xen.flask.booleans), xen.flask.booleans.__getitem__)
    if args.json:
        found = [boolean._asdict() for boolean in attempt.results]
        output.report(args.json, booleans=found, failed=attempt.failures)
    else:
        output.lines(map(_line, attempt.results))
    return attempt.status


def _line(boolean: pyxc.FlaskBoolean) -> str:
    pending = "" if boolean.pending == boolean.value else f" (pending: {_word(boolean.pending)})"
    return f"{boolean.name}: {_word(boolean.value)}{pending}"


def _word(value: bool) -> str:
    return "on" if value else "off"


def set_boolean(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        boolean = xen.flask.booleans.set(args.boolean, args.value)
    if args.json:
        output.report(args.json, **boolean._asdict())
    return 0
