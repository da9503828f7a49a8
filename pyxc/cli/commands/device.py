# SPDX-License-Identifier: MIT
"""Disks and network interfaces of guests: block-attach, -detach, -list; network-attach, -detach, -list."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import seconds
from pyxc.cli.parser import Parser, Program
from pyxc.cli.session import Attempt, find, opened
from pyxc.cli.status import Failed
from pyxc.errors import ConfigError
from pyxc.guest.config_devices import Disk, Vif, vdev_number
from pyxc.guest.devices import Device, Devices, Kind

_PATIENCE_S = 10.0


def add(program: Program) -> None:
    block = program.add("block-attach", attach_disk, "give a guest a disk")
    _add_domain(block)
    block.add_argument("disk", metavar="DISK", nargs="+", help="as in xl-disk-configuration(5)")
    _add_detach(program, "block-detach", detach_disk, "take a disk away from a guest", "its name or number")
    _add_list(program, "block-list", list_disks, "list the disks of guests")
    network = program.add("network-attach", attach_vif, "give a guest a network interface")
    _add_domain(network)
    network.add_argument("vif", metavar="KEY=VALUE", nargs="*", help="as in xl-network-configuration(5)")
    _add_detach(
        program, "network-detach", detach_vif, "take a network interface from a guest", "its number or MAC"
    )
    _add_list(program, "network-list", list_vifs, "list the network interfaces of guests")


def _add_domain(parser: Parser) -> None:
    parser.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")


def _add_detach(
    program: Program, name: str, run: Callable[[argparse.Namespace], int], purpose: str, which: str
) -> None:
    parser = program.add(name, run, purpose)
    _add_domain(parser)
    parser.add_argument("device", metavar="DEVICE", help=which)
    parser.add_argument("--force", action="store_true", help="also while the guest uses it")
    patience = parser.add_argument("--timeout", type=seconds, default=_PATIENCE_S, metavar="SECONDS")
    patience.help = "how long the guest may take to let it go; 10 without"


def _add_list(program: Program, name: str, run: Callable[[argparse.Namespace], int], purpose: str) -> None:
    parser = program.add(name, run, purpose)
    parser.add_argument("domains", metavar="DOMAIN", nargs="+", help="id, name or UUID")


def attach_disk(args: argparse.Namespace) -> int:
    disk = Disk.parse(",".join(args.disk))
    return _attach(args, "vbd", lambda devices: devices.attach_disk(disk))


def attach_vif(args: argparse.Namespace) -> int:
    vif = Vif.parse(",".join(args.vif))
    return _attach(args, "vif", lambda devices: devices.attach_vif(vif))


def _attach(args: argparse.Namespace, kind: Kind, attach: Callable[[Devices], int]) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        number = attach(Devices(domain))
    if args.json:
        output.report(args.json, domid=domain.domid, kind=kind, number=number)
    return 0


def detach_disk(args: argparse.Namespace) -> int:
    return _detach(args, "vbd", lambda devices: _disk_number(args.device))


def detach_vif(args: argparse.Namespace) -> int:
    return _detach(args, "vif", lambda devices: _vif_number(devices, args.device))


def _disk_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else vdev_number(text)


def _vif_number(devices: Devices, text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    for device in devices.list("vif"):
        if device.mac == text.lower():
            return device.number
    raise ConfigError(f"{text!r} is neither the number nor the MAC of a network interface of the guest")


def _detach(args: argparse.Namespace, kind: Kind, number_of: Callable[[Devices], int]) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        devices = Devices(domain)
        number = number_of(devices)
        try:
            devices.detach(kind, number, timeout=args.timeout, force=args.force)
        except KeyError as error:
            what = "disk" if kind == "vbd" else "network interface"
            raise Failed(f"domain {domain.domid} has no {what} {args.device}") from error
    if args.json:
        output.report(args.json, domid=domain.domid, kind=kind, number=number)
    return 0


def list_disks(args: argparse.Namespace) -> int:
    header = f"{'Vdev':<5} {'BE':<3} {'handle':<6} {'state':<5} {'evt-ch':<6} {'ring-ref':<8} {'BE-path':<30}"

    def row(domain: pyxc.Domain, device: Device) -> str:
        number, state = device.number, int(device.state)
        refs = "/".join(device.ring_refs)
        place = f"{number:<5} {0:<3} {domain.domid:<6} {state:<5} {device.event_channel:<6} {refs:<8}"
        return f"{place} {device.backend:<30}"

    return _list(args, "vbd", header, row)


def list_vifs(args: argparse.Namespace) -> int:
    header = (
        f"{'Idx':<3} {'BE':<2} {'Mac Addr.':<17} {'handle':<6} {'state':<5} {'evt-ch':<6} "
        f"{'tx-':>5}/{'rx-ring-ref':<5} {'BE-path':<30}"
    )

    def row(domain: pyxc.Domain, device: Device) -> str:
        tx, rx = device.ring_refs
        state = int(device.state)
        place = f"{device.number:<3} {0:<2} {device.mac:<17} {device.number:<6} {state:<5}"
        return f"{place} {device.event_channel:<6} {tx:>5}/{rx:<11} {device.backend:<30}"

    return _list(args, "vif", header, row)


def _list(
    args: argparse.Namespace, kind: Kind, header: str, row: Callable[[pyxc.Domain, Device], str]
) -> int:
    with opened(args) as xen:

        def listed(text: str) -> tuple[pyxc.Domain, list[Device]]:
            domain = find(xen, text)
            return domain, Devices(domain).list(kind)

        attempt = Attempt(args.domains, listed)
    listing = [(domain, device) for domain, found in attempt.results for device in found]
    if args.json:
        output.report(args.json, devices=[_as_json(*one) for one in listing], failed=attempt.failures)
    else:
        output.lines(line.rstrip() for line in [header, *(row(*one) for one in listing)])
    return attempt.status


def _as_json(domain: pyxc.Domain, device: Device) -> dict[str, Any]:
    fields = {**device._asdict(), "state": device.state.name.lower(), "ring_refs": list(device.ring_refs)}
    return {"domid": domain.domid, **fields}
