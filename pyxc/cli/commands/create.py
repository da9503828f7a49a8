# SPDX-License-Identifier: MIT
"""`create`: a guest from a configuration file of xl's."""

from __future__ import annotations

import argparse
from typing import Any

from pyxc.cli import output
from pyxc.cli.parser import Parser, Program
from pyxc.cli.progress import building
from pyxc.cli.session import opened
from pyxc.cli.status import Status
from pyxc.guest.built import BuiltDomain
from pyxc.guest.config import GuestConfig
from pyxc.guest.images import Kernel
from pyxc.guest.launch import launch


def add(program: Program) -> None:
    parser = program.add("create", create, "build a guest from an xl configuration file, and start it")
    add_config(parser)
    parser.add_argument("-p", "--paused", action="store_true", help="leave it paused")
    parser.add_argument("-c", "--console", action="store_true", help="connect with its console")
    parser.add_argument("-n", "--dry-run", "--dryrun", action="store_true", help="show what would be built")
    parser.add_argument("-q", "--quiet", action="store_true", help="print no remarks and no progress")


def add_config(parser: Parser) -> None:
    """The file, and settings that count more."""
    parser.add_argument("file", metavar="FILE", help="its configuration, as in xl.cfg(5)")
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*", help="overrides the file")


def create(args: argparse.Namespace) -> int:
    config = read_config(args)
    if args.dry_run:
        return _show(args, config)
    with opened(args) as xen:
        quiet = args.json or args.quiet
        domain = launch(xen, config, progress=None if quiet else building())
        if not quiet:
            _say_what_nobody_does(config)
        if args.console and not args.json:
            _start_with_console(args, domain)
        else:
            _start(args, domain)
        if args.json:
            identity = {"domid": domain.domid, "uuid": str(domain.uuid), "name": config.name}
            output.report(args.json, **identity, kind=domain.kind)
    return Status.OK


def read_config(args: argparse.Namespace) -> GuestConfig:
    if not (args.json or args.quiet):
        output.remark(f"Parsing config from {args.file}")
    return GuestConfig.read(args.file, args.settings)


def _start(args: argparse.Namespace, domain: BuiltDomain) -> None:
    if not args.paused:
        domain.unpause()


def _start_with_console(args: argparse.Namespace, domain: BuiltDomain) -> None:
    from pyxc.cli.terminal import talk

    with domain.console as console:
        _start(args, domain)
        talk(console)


def _say_what_nobody_does(config: GuestConfig) -> None:
    """No process stays with the guest."""
    actions = config.actions._asdict()
    wanted = [f"on_{name}={action}" for name, action in actions.items() if action != "destroy"]
    if wanted:
        output.remark(f"{', '.join(wanted)}: only `pyxc run` stays to do that")


def _show(args: argparse.Namespace, config: GuestConfig) -> int:
    """What would be built, after a look at the kernel."""
    with open(config.kernel, "rb") as file:
        kernel = Kernel.decode(file.read(config.memory_kb << 10), config.memory_kb << 10)
    fields = {**_plain(config), "kind": kernel.kind(config.kind)}
    if args.json:
        output.report(args.json, config=fields)
    else:
        output.lines(f"{name:<20}: {value}" for name, value in fields.items() if value not in (None, []))
    return Status.OK


def _plain(config: GuestConfig) -> dict[str, Any]:
    """All that it says, as JSON has it."""
    fields: dict[str, Any] = config._asdict()
    fields |= {f"on_{name}": action for name, action in fields.pop("actions")._asdict().items()}
    fields["uuid"] = str(config.uuid) if config.uuid else None
    fields["disks"] = [disk._asdict() for disk in config.disks]
    fields["vifs"] = [vif._asdict() for vif in config.vifs]
    fields["cpus"], fields["cpus_soft"] = list(config.cpus), list(config.cpus_soft)
    return fields
