# SPDX-License-Identifier: MIT
"""Commands on domains: pause, unpause, resume, destroy, trigger, create-empty, mem-max."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import memory_kb, number
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt, agrees, find, limit_kb, opened, shown
from pyxc.cli.status import Failed

_RESUME = "s3resume"
_TRIGGERS = (*(trigger.name.lower() for trigger in pyxc.Trigger), _RESUME)


def add(program: Program) -> None:
    _add_for_several(program, "pause", pyxc.Domain.pause, "pause domains; pauses nest")
    _add_for_several(program, "unpause", pyxc.Domain.unpause, "undo one pause of each domain")
    _add_for_several(program, "resume", _resume, "let suspended guests continue here, as xl resume does")
    _add_destroy(program)
    _add_trigger(program)
    _add_create_empty(program)
    limit = program.add("mem-max", set_max_memory, "set the most memory that a domain may own")
    limit.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    limit.add_argument("memory_kb", metavar="MEM", type=memory_kb, help="MiB, or with b, k, m, g or t")


def _add_for_several(
    program: Program, name: str, action: Callable[[pyxc.Domain], None], purpose: str
) -> None:
    parser = program.add(name, change, purpose)
    parser.add_argument("domains", metavar="DOMAIN", nargs="+", help="id, name or UUID")
    parser.set_defaults(action=action)


def _add_destroy(program: Program) -> None:
    parser = program.add("destroy", destroy, "destroy domains at once and wait until they have gone")
    parser.add_argument("domains", metavar="DOMAIN", nargs="+", help="id, name or UUID")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-f", "--force", action="store_true", help="do not ask, as it does on a terminal")
    how.add_argument("-n", "--dry-run", action="store_true", help="only say what would be destroyed")


def _add_trigger(program: Program) -> None:
    parser = program.add("trigger", trigger, "send a trigger, such as a button press, to a domain")
    parser.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    parser.add_argument("trigger", metavar="TRIGGER", choices=_TRIGGERS, help=", ".join(_TRIGGERS))
    parser.add_argument(
        "vcpu", metavar="VCPU", nargs="?", type=number, default=0, help="number of the vcpu (default: 0)"
    )


def _add_create_empty(program: Program) -> None:
    parser = program.add(
        "create-empty", create_empty, "create a paused domain without memory, and print its id"
    )
    parser.add_argument("--hvm", action="store_true", help="make an HVM domain (default: PV)")
    parser.add_argument("--hap", action="store_true", help="with --hvm: hardware-assisted paging, as for PVH")
    parser.add_argument("--uuid", help="its UUID (default: random)")
    parser.add_argument("--vcpus", type=number, default=1, metavar="N", help="number of vcpus (default: 1)")
    parser.add_argument("--seclabel", metavar="LABEL", help="its security label (default: the guests' one)")


def change(args: argparse.Namespace) -> int:
    """Do args.action to every domain that is named."""
    with opened(args) as xen:

        def change_one(text: str) -> pyxc.Domain:
            domain = find(xen, text)
            args.action(domain)
            return domain

        attempt = Attempt(args.domains, change_one)
    if args.json:
        output.report(
            args.json, done=[_identity(domain) for domain in attempt.results], failed=attempt.failures
        )
    return attempt.status


def _resume(domain: pyxc.Domain) -> None:
    """For the guest the suspend was cancelled, as after a save that failed, or was killed."""
    if domain.info().shutdown_reason != pyxc.ShutdownReason.SUSPEND:
        raise Failed(f"domain {domain.domid} has not suspended")
    if domain.log_dirty.seems_on():
        domain.log_dirty.disable()
    domain.resume(fast=True)


def destroy(args: argparse.Namespace) -> int:
    act = _would_destroy if args.dry_run else _destroy
    with opened(args) as xen:

        def destroy_one(text: str) -> pyxc.Domain:
            domain = find(xen, text)
            if domain.domid == xen.own_domid:
                raise Failed(f"domain {domain.domid} runs this host and this program: it cannot be destroyed")
            act(domain, args)
            return domain

        attempt = Attempt(args.domains, destroy_one)
    if args.json:
        done = [_identity(domain) for domain in attempt.results]
        output.report(
            args.json, **{"would_destroy" if args.dry_run else "done": done}, failed=attempt.failures
        )
    return attempt.status


def _would_destroy(domain: pyxc.Domain, args: argparse.Namespace) -> None:
    if not args.json:
        output.lines([f"would destroy {_called(domain)}"])


def _called(domain: pyxc.Domain) -> str:
    return f"domain {domain.domid}, {shown(domain.name)}, of {domain.info().memory_kb >> 10} MiB"


def _destroy(domain: pyxc.Domain, args: argparse.Namespace) -> None:
    """Remark that another toolstack must remove its own nodes."""
    asked = not (args.force or args.json or args.read_only)
    if asked and not agrees(f"Destroy {_called(domain)}?"):
        raise Failed("was not destroyed")
    from pyxc.guest import remains

    others = remains.of_others(domain)
    domain.destroy()
    if others:
        output.remark(f"Domain {domain.domid} was xl's: its nodes in xenstore stay")


def trigger(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        if args.trigger == _RESUME:
            domain.hvm_params.write(pyxc.HvmParam.ACPI_S_STATE, 0)
        else:
            if args.vcpu >= (count := len(domain.vcpus)):
                raise Failed(f"domain {domain.domid} has no vcpu {args.vcpu}; it has {count}")
            domain.send_trigger(pyxc.Trigger[args.trigger.upper()], args.vcpu)
    if args.json:
        output.report(args.json, **_identity(domain), trigger=args.trigger, vcpu=args.vcpu)
    return 0


def create_empty(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        ssidref = xen.flask.sid(args.seclabel) if args.seclabel else None
        domain = xen.domains.create(
            hvm=args.hvm, hap=args.hap, uuid=args.uuid, max_vcpus=args.vcpus, ssidref=ssidref
        )
    if args.json:
        output.report(args.json, **_identity(domain))
    else:
        output.lines([str(domain.domid)])
    return 0


def set_max_memory(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        _check_limit(domain, args.memory_kb)
        domain.set_max_memory(args.memory_kb)
        if args.json:
            output.report(args.json, **_identity(domain), max_memory_kb=limit_kb(domain.info()))
    return 0


def _check_limit(domain: pyxc.Domain, limit_kb: int) -> None:
    """Failed for less than the domain is meant to have, as in xl: a guest that balloons up would fail."""
    target = domain.xen.store.read(f"/local/domain/{domain.domid}/memory/target")
    if target and target.isdigit() and limit_kb < (target_kb := int(target)):
        raise Failed(f"the limit must not be below the domain's target, which is {target_kb} KiB")


def _identity(domain: pyxc.Domain) -> dict[str, Any]:
    return {"domid": domain.domid, "uuid": str(domain.uuid)}
