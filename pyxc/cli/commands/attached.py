# SPDX-License-Identifier: MIT
"""`channel-list`, `pci-list` and `pci-assignable-*`: what else guests are connected with."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyxc
from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt, find, opened

_PCI_HEADER = "Vdev Device"
_CHANNELS_HEADER = (
    f"{'Idx':<3} {'BE':<2} {'state':<5} {'evt-ch':<6} {'ring-ref':>8} {'connection':<10} {'':<30}"
)
_MOST = 256
"""Devices of a kind of one guest; libxl counts as far for PCI."""
_BDF = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def add(program: Program) -> None:
    channels = program.add("channel-list", list_channels, "list the channels of guests")
    functions = program.add("pci-list", list_functions, "list the PCI devices that guests have")
    for command in (channels, functions):
        command.add_argument("domains", metavar="DOMAIN", nargs="+", help="id, name or UUID")
    listing = program.add(
        "pci-assignable-list", list_assignable, "list the PCI devices that guests may be given"
    )
    listing.add_argument("-n", "--show-names", action="store_true", help="show the names of devices, too")
    adding = program.add(
        "pci-assignable-add", add_assignable, "take a PCI device from its driver, for guests"
    )
    adding.add_argument("-n", "--name", help="a name for the device")
    adding.add_argument("device", metavar="BDF", help="its address, as 0000:03:00.0 or 03:00.0")
    removing = program.add(
        "pci-assignable-remove", remove_assignable, "take back a PCI device that guests may be given"
    )
    removing.add_argument("-r", "--rebind", action="store_true", help="give it to its former driver")
    removing.add_argument("device", metavar="BDF", help="its address, or its name")
    for command in (adding, removing):
        command.add_argument("--dry-run", action="store_true", help="only print what would be written where")


def _text(store: pyxc.StoreClient, path: str) -> str:
    """A value, "" if there is none."""
    return (store.read(path) or b"").decode("utf-8", "backslashreplace")


def _number(store: pyxc.StoreClient, path: str) -> int | None:
    text = _text(store, path)
    return int(text, 0) if re.fullmatch(r"[0-9]{1,9}|0x[0-9a-f]{1,8}", text) else None


def list_channels(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        attempt = Attempt(args.domains, lambda text: list(_channels(find(xen, text))))
    channels = [channel for found in attempt.results for channel in found]
    if args.json:
        output.report(args.json, channels=channels, failed=attempt.failures)
        return attempt.status
    output.lines([_CHANNELS_HEADER.rstrip()])
    for one in channels:
        numbers = f"{one['channel']:<3} {one['backend_domid'] or 0:<2} {one['state'] or 0:<5}"
        refs = f"{one['event_channel'] or 0:<6} {one['ring_ref'] or 0:>8}"
        output.lines([f"{numbers} {refs} {one['connection']:<10} {one['path']:<30}".rstrip()])
    return attempt.status


def _channels(domain: pyxc.Domain) -> Iterator[dict[str, Any]]:
    """Consoles with a name, beside the first one of the guest."""
    store, home = domain.xen.store, f"/local/domain/{domain.domid}/device/console"
    for name in sorted((store.list(home) or [])[:_MOST], key=lambda name: (len(name), name)):
        place = f"{home}/{name}"
        label = _text(store, f"{place}/name") or _text(store, f"{_text(store, f'{place}/backend')}/name")
        if not name.isdigit() or not label:
            continue
        yield {
            "domid": domain.domid,
            "channel": int(name),
            "name": label,
            "backend_domid": _number(store, f"{place}/backend-id"),
            "state": _number(store, f"{place}/state"),
            "event_channel": _number(store, f"{place}/port"),
            "ring_ref": _number(store, f"{place}/ring-ref"),
            "connection": _text(store, f"{place}/connection") or "unknown",
            "path": _text(store, f"{place}/tty") or _text(store, f"{place}/path"),
        }


def list_functions(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        attempt = Attempt(args.domains, lambda text: list(_functions(find(xen, text))))
    devices = [device for found in attempt.results for device in found]
    if args.json:
        output.report(args.json, devices=devices, failed=attempt.failures)
        return attempt.status
    if devices:
        output.lines([_PCI_HEADER])
    for one in devices:
        slot = one["virtual_slot"]
        virtual = "00.0" if slot is None else f"{slot >> 3 & 0x1F:02x}.{slot & 7:x}"
        output.lines([f"{virtual} {one['device']}"])
    return attempt.status


def _functions(domain: pyxc.Domain) -> Iterator[dict[str, Any]]:
    store = domain.xen.store
    place = f"/local/domain/0/backend/pci/{domain.domid}/0"
    for index in range(min(_number(store, f"{place}/num_devs") or 0, _MOST)):
        device = _text(store, f"{place}/dev-{index}").lower()
        if _BDF.fullmatch(device):
            slot = _number(store, f"{place}/vdevfn-{index}")
            yield {"domid": domain.domid, "device": device, "virtual_slot": slot}


def list_assignable(args: argparse.Namespace) -> int:
    """Those that the kernel's driver holds, and no guest has."""
    with opened(args) as xen:
        given = {
            one["device"]
            for info in xen.domains.infos()
            for one in _functions(pyxc.Domain(xen, info.domid, info.uuid))
        }
        free = [address for address in xen.assignable_devices.all() if str(address) not in given]
        names = {address: xen.assignable_devices.name(address) for address in free} if args.show_names else {}
    if args.json:
        output.report(args.json, devices=[{"device": str(one), "name": names.get(one)} for one in free])
    else:
        output.lines(f"{address} {names.get(address) or ''}".rstrip() for address in free)
    return 0


def add_assignable(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        writes = xen.assignable_devices.plan_add(args.device)
        if not args.dry_run:
            xen.assignable_devices.add(args.device, args.name)
            if not writes:
                output.complain(f"warning: {args.device}: xen-pciback has this device already")
    return _report_writes(args, writes)


def remove_assignable(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        devices = xen.assignable_devices
        device = devices.named(args.device) or args.device
        writes = devices.plan_remove(device, args.rebind)
        if not args.dry_run:
            devices.remove(device, args.rebind)
            if not writes:
                output.complain(f"warning: {args.device}: xen-pciback does not have this device")
            elif args.rebind and not any(write.path.endswith("/bind") for write in writes):
                output.complain(f"warning: {args.device}: its former driver is not known")
    return _report_writes(args, writes)


def _report_writes(args: argparse.Namespace, writes: Sequence[NamedTuple]) -> int:
    """What was written to the kernel's files, or would be."""
    if args.json:
        output.report(args.json, dry_run=args.dry_run, writes=[write._asdict() for write in writes])
    elif args.dry_run:
        output.lines(map(str, writes))
    return 0
