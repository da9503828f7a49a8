# SPDX-License-Identifier: MIT
"""Commands that ask guests: shutdown, reboot, sysrq, vcpu-set, mem-set; and names: domid, domname, rename."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import pyxc
from pyxc import errors
from pyxc.cli import output
from pyxc.cli.arguments import memory_kb, number, seconds
from pyxc.cli.parser import Parser, Program
from pyxc.cli.session import Attempt, find, opened, shown
from pyxc.cli.status import Failed, Status, UsageError

_WAIT_S = 10**6
_SUSPEND_S = 60.0
_PROGRESS_S = 0.5


def add(program: Program) -> None:
    _add_end(program, "shutdown", "poweroff", "ask guests to shut down and power off")
    _add_end(program, "reboot", "reboot", "ask guests to shut down and reboot")
    rest = program.add("suspend", suspend, "ask a guest to suspend; resume lets it continue")
    _add_domain(rest)
    rest.add_argument(
        "--timeout", type=seconds, default=_SUSPEND_S, metavar="SECONDS", help=f"default: {_SUSPEND_S:g}"
    )
    button = program.add("button-press", press_button, "press a button of an HVM guest, as trigger does")
    _add_domain(button)
    button.add_argument("button", metavar="BUTTON", choices=("power", "sleep"), help="power or sleep")
    key = program.add("sysrq", press_key, "send a magic SysRq key to a guest's kernel")
    _add_domain(key)
    key.add_argument("key", metavar="KEY", help="one letter or digit")
    plug = program.add("vcpu-set", set_vcpus, "ask a guest to use N of its vcpus")
    _add_domain(plug)
    plug.add_argument("vcpus", metavar="VCPUS", type=number, help="how many")
    plug.add_argument(
        "-i", "--ignore-host", action="store_true", help="allow more vcpus than the host has cpus"
    )
    memory = program.add("mem-set", set_memory, "ask a guest to change its memory to MEM")
    _add_domain(memory)
    memory.add_argument("memory_kb", metavar="MEM", type=memory_kb, help="MiB, or with b, k, m, g or t")
    memory.add_argument("-w", "--wait", action="store_true", help="wait until the guest has done so")
    memory.add_argument("--timeout", type=seconds, metavar="SECONDS", help="with --wait: the longest wait")
    domid = program.add("domid", show_domid, "print the id of a domain")
    domid.add_argument("domain", metavar="DOMAIN", help="name or UUID")
    domname = program.add("domname", show_name, "print the name of a domain")
    domname.add_argument("domain", metavar="DOMAIN", help="id or UUID")
    rename = program.add("rename", set_name, "rename a domain")
    _add_domain(rename)
    rename.add_argument("name", metavar="NAME", help="the new name; no other domain may have it")


def _add_domain(parser: Parser) -> None:
    parser.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")


def _add_end(program: Program, name: str, request: str, purpose: str) -> None:
    parser = program.add(name, ask_to_end, purpose)
    parser.add_argument("domains", metavar="DOMAIN", nargs="*", help="id, name or UUID")
    parser.add_argument("-a", "--all", action="store_true", help="all guests")
    parser.add_argument("-F", dest="fallback", action="store_true", help="fall back to the ACPI button")
    parser.add_argument("-w", "--wait", action="store_true", help="wait until they have shut down")
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="with --wait: the longest wait")
    parser.set_defaults(request=request)


def ask_to_end(args: argparse.Namespace) -> int:
    """Ask each domain first, then wait for those that could be asked."""
    if args.all == bool(args.domains):
        raise UsageError("expected either -a or domains")
    _check_wait(args)
    verb = "Shutting down" if args.request == "poweroff" else "Rebooting"
    with opened(args) as xen:

        def ask(text: str) -> pyxc.Domain:
            domain = find(xen, text)
            if not args.json:
                output.remark(f"{verb} domain {domain.domid}")
            _ask_one(args, domain)
            return domain

        asked = Attempt(args.domains or _guests(xen), ask)
        ended = Attempt(asked.results if args.wait else [], _waiter(args))
    failures = asked.failures + ended.failures
    if args.json:
        done = [_identity(domain) for domain in asked.results]
        for entry, (_, reason) in zip(done, ended.results):
            entry["shutdown_reason"] = _reason_name(reason)
        output.report(args.json, done=done, failed=failures)
    return max(asked.status, ended.status)


def _ask_one(args: argparse.Namespace, domain: pyxc.Domain) -> None:
    try:
        request = domain.ask.poweroff if args.request == "poweroff" else domain.ask.reboot
        request(fallback=args.fallback)
    except errors.GuestUnable as error:
        if args.fallback or not domain.info().is_hvm:
            raise
        raise Failed(f"{error}; -F falls back to the ACPI button") from error


def _guests(xen: pyxc.Xen) -> list[str]:
    """All domains but this one, by id."""
    return [str(info.domid) for info in xen.domains.infos() if info.domid != xen.own_domid]


def _waiter(
    args: argparse.Namespace,
) -> Callable[[pyxc.Domain], tuple[pyxc.Domain, pyxc.ShutdownReason | int | None]]:
    """Waits for one domain; all of them together have the time."""
    deadline = time.monotonic() + (args.timeout or _WAIT_S)

    def wait(domain: pyxc.Domain) -> tuple[pyxc.Domain, pyxc.ShutdownReason | int | None]:
        reason = domain.wait_shut_down(max(0.0, deadline - time.monotonic()))
        if not args.json:
            how = "destroyed" if reason is None else f"shut down, reason code {int(reason)}"
            output.lines([f"Domain {domain.domid} has been {how}"])
        return domain, reason

    return wait


def _reason_name(reason: pyxc.ShutdownReason | int | None) -> str | int | None:
    return reason.name.lower() if isinstance(reason, pyxc.ShutdownReason) else reason


def _check_wait(args: argparse.Namespace) -> None:
    if args.timeout is not None and not args.wait:
        raise UsageError("--timeout needs --wait")


def suspend(args: argparse.Namespace) -> int:
    """The domain stays, shut down, until `resume` or `destroy`."""
    with opened(args) as xen:
        domain = find(xen, args.domain)
        domain.ask.suspend(timeout=args.timeout)
    return _done(args, domain)


def press_button(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        domain.send_trigger(pyxc.Trigger[args.button.upper()])
    return _done(args, domain, trigger=args.button)


def press_key(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        domain.ask.sysrq(args.key)
    return _done(args, domain)


def set_vcpus(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        cpus, more = xen.physinfo().nr_cpus, args.vcpus > domain.info().nr_online_vcpus
        if args.vcpus > cpus and more and not args.ignore_host:
            raise Failed(f"the host has {cpus} cpus: more vcpus need --ignore-host")
        domain.ask.set_vcpus(args.vcpus)
    return _done(args, domain, vcpus=args.vcpus)


def set_memory(args: argparse.Namespace) -> int:
    _check_wait(args)
    timeout = (args.timeout or _WAIT_S) if args.wait else None
    with opened(args) as xen:
        domain = find(xen, args.domain)
        domain.ask.set_memory(args.memory_kb, timeout=timeout, progress=_progress(args))
    return _done(args, domain, target_kb=args.memory_kb)


def _progress(args: argparse.Namespace) -> Callable[[int, int], None] | None:
    """Shows on a terminal how far it is, twice a second."""
    if args.json or not sys.stderr.isatty():
        return None
    shown_at = 0.0

    def show(owned_kb: int, wanted_kb: int) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _PROGRESS_S:
            shown_at = time.monotonic()
            output.remark(f"{owned_kb >> 10} of {wanted_kb >> 10} MiB")

    return show


def show_domid(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
    return _done(args, domain, [str(domain.domid)])


def show_name(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        name = domain.name
    if name is None:
        raise Failed(f"domain {domain.domid} has no name")
    return _done(args, domain, [shown(name)], name=shown(name))


def set_name(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        domain.set_name(args.name)
    return _done(args, domain, name=args.name)


def _done(args: argparse.Namespace, domain: pyxc.Domain, lines: list[str] | None = None, **more: Any) -> int:
    """Say what was done: in JSON, or in lines where there are any."""
    if args.json:
        output.report(args.json, **_identity(domain), **more)
    else:
        output.lines(lines or [])
    return Status.OK


def _identity(domain: pyxc.Domain) -> dict[str, Any]:
    return {"domid": domain.domid, "uuid": str(domain.uuid)}
