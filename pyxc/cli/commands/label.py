# SPDX-License-Identifier: MIT
"""`label`: security labels of the files that domains are made of."""

from __future__ import annotations

import argparse
from typing import Any

from pyxc import errors
from pyxc.cli import output
from pyxc.cli.parser import Parser, Program
from pyxc.cli.session import Attempt, find, opened, worst
from pyxc.cli.status import Status, UsageError
from pyxc.files import labels

_NONE = "-"


def add(program: Program) -> None:
    program.add_group("label", "show, set and check the security labels of files")
    _add_files(program.add("label get", get_labels, "show the security labels of files"))
    put = program.add("label set", set_label, "give files a security label")
    _add_expectation(put)
    put.add_argument(
        "--no-validate",
        dest="validate",
        action="store_false",
        help="do not check the label against the policy",
    )
    put.add_argument("label", metavar="LABEL", help="as tenant1:vm_r:disk_t, with or without an MLS range")
    _add_files(put)
    remove = program.add("label rm", remove_labels, "remove the security labels of files")
    remove.add_argument("--expect", metavar="OLD", help="only if the file has this label")
    _add_files(remove)
    check = program.add("label check", check_files, "check whether a domain may use files, and why")
    subject = check.add_mutually_exclusive_group(required=True)
    subject.add_argument("--domain", metavar="DOMAIN", help="a domain: id, name or UUID")
    subject.add_argument("--seclabel", metavar="LABEL", help="a label instead of a domain")
    check.add_argument("--class", dest="tclass", metavar="CLASS", help="ask the policy: the object class")
    check.add_argument("--permission", metavar="PERMISSION", help="ask the policy: the permission")
    _add_files(check)


def _add_files(parser: Parser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="files or block devices")


def _add_expectation(parser: Parser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--expect", metavar="OLD", help="only if the file has this label")
    presence = {"--new": labels.Presence.ABSENT, "--existing": labels.Presence.PRESENT}
    for option, expected in presence.items():
        text = f"only if the file has {expected.value}"
        group.add_argument(option, dest="expect", action="store_const", const=expected, help=text)


def get_labels(args: argparse.Namespace) -> int:
    attempt = Attempt(args.files, lambda file: (file, labels.get(file)))
    if args.json:
        found = [{"file": file, "label": label} for file, label in attempt.results]
        output.report(args.json, files=found, failed=attempt.failures)
    else:
        output.lines(f"{label or _NONE} {file}" for file, label in attempt.results)
    return attempt.status


def set_label(args: argparse.Namespace) -> int:
    labels.Context.parse(args.label)
    if args.validate:
        _ask_policy_for(args)

    def put(file: str) -> dict[str, Any]:
        _check_writable(args)
        labels.put(file, args.label, expect=_expectation(args))
        return {"file": file, "label": args.label}

    return _changed(args, Attempt(args.files, put))


def _ask_policy_for(args: argparse.Namespace) -> None:
    """Raise unless the hypervisor's policy knows the label; one without a policy knows none."""
    try:
        with opened(args) as xen:
            xen.flask.sid(args.label)
    except errors.Unsupported:
        output.complain("warning: this hypervisor has no policy to check the label against")
    except errors.NotXenError as error:
        text = f"{error.strerror}: the label cannot be checked; --no-validate skips the check"
        raise errors.NotXenError(error.errno, text, error.filename) from error


def remove_labels(args: argparse.Namespace) -> int:
    def remove(file: str) -> dict[str, Any]:
        _check_writable(args)
        return {"file": file, "removed": labels.remove(file, expect=_expectation(args))}

    return _changed(args, Attempt(args.files, remove))


def _expectation(args: argparse.Namespace) -> str | labels.Presence:
    return labels.Presence.ANY if args.expect is None else args.expect


def _check_writable(args: argparse.Namespace) -> None:
    if args.read_only:
        raise errors.ReadOnlyError("a label would change, which --read-only forbids")


def _changed(args: argparse.Namespace, attempt: Attempt[str, dict[str, Any]]) -> int:
    if args.json:
        output.report(args.json, files=attempt.results, failed=attempt.failures)
    return attempt.status


def check_files(args: argparse.Namespace) -> int:
    if (args.tclass is None) != (args.permission is None):
        raise UsageError("--class and --permission need each other")
    if args.domain is None and args.tclass is None:
        return _decide(args, args.seclabel, None)
    with opened(args) as xen:
        subject = find(xen, args.domain).label() if args.domain is not None else args.seclabel
        if args.tclass is None:
            return _decide(args, subject, None)
        xen.flask.sid(subject)
        return _decide(args, subject, labels.policy_access(xen.flask, args.tclass, args.permission))


def _decide(args: argparse.Namespace, subject: str, access: labels.Access | None) -> int:
    labels.Context.parse(subject)
    attempt = Attempt(args.files, lambda file: labels.decide(subject, file, access))
    if args.json:
        decisions = [decision._asdict() | {"source": decision.source.value} for decision in attempt.results]
        output.report(args.json, seclabel=subject, decisions=decisions, failed=attempt.failures)
    else:
        words = {True: "allowed", False: "denied", None: "unknown"}
        output.lines(
            f"{found.path}: {words[found.allowed]} ({found.source.value}): {found.reason}"
            for found in attempt.results
        )
    meanings = {True: Status.OK, False: Status.DENIED, None: Status.UNKNOWN}
    return worst((meanings[decision.allowed] for decision in attempt.results), attempt.status)
