# SPDX-License-Identifier: MIT
"""Disks and network interfaces in the configuration of a saved guest, which is libxl's, in JSON."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from pyxc import errors
from pyxc.domain.identity import Identity
from pyxc.guest.config_devices import Disk, Vif, vdev_number
from pyxc.guest.remains import BACKEND
from pyxc.store.nodes import Nodes

_MOST = 256
_OTHERS = ("p9s", "pcidevs", "pvcallsifs", "usbctrls", "vtpms")
"""What a guest may need to continue, and pyxc has no back end for."""
_DISK_ALLOWED = {
    "format": (None, "raw", "unknown"),
    "backend": (None, "phy", "qdisk", "tap", "unknown"),
    "is_cdrom": (None, 0, False),
    "backend_domid": (None, 0),
    "backend_domname": (None, "", "0", "Domain-0"),
}
_VIF_ALLOWED = {
    "nictype": (None, "vif", "unknown"),
    "backend_domid": (None, 0),
    "backend_domname": (None, "", "0", "Domain-0"),
}
_DISK_BACK_ENDS = ("vbd", "qdisk")
"""In dom0's kernel, and in qemu, where xl has it serve disks."""
_SCRIPTS = {"disk": ("", "block"), "vif": ("", "true", "vif-bridge")}


class SavedDevices(NamedTuple):
    """The devices of a saved guest. `others` says of those that pyxc cannot attach what they are."""

    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    others: tuple[str, ...] = ()


def decode(config: Mapping[str, Any]) -> SavedDevices:
    """DecodeError if the lists are not lists of objects."""
    disks: list[Disk] = []
    vifs: list[Vif] = []
    others = [name for name in _OTHERS if _listed(config, name)]
    for found in _listed(config, "disks"):
        if found.get("format") == "empty" or not found.get("pdev_path"):  # a drive without a medium
            continue
        try:
            disks.append(_disk(found))
        except errors.ConfigError as error:
            others.append(str(error))
    for found in _listed(config, "nics"):
        try:
            vifs.append(_vif(found))
        except errors.ConfigError as error:
            others.append(str(error))
    return SavedDevices(tuple(disks), tuple(vifs), tuple(others))


def _listed(config: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = config.get(name, [])
    if not isinstance(found, list) or len(found) > _MOST or not all(isinstance(one, dict) for one in found):
        raise errors.DecodeError(f"{name} of the guest's configuration is not a list of objects")
    return found


def _disk(found: Mapping[str, Any]) -> Disk:
    vdev, target = found.get("vdev"), found.get("pdev_path")
    _check("disk", vdev, found, _DISK_ALLOWED)
    if not isinstance(vdev, str) or not isinstance(target, str):
        raise errors.ConfigError(f"disk {vdev!r:.80}: it has no name or no target")
    if not os.path.isabs(target) or not target.isprintable():
        raise errors.ConfigError(f"disk {vdev!r:.80}: its target {target!r:.80} is not an absolute path")
    return Disk(target, vdev, vdev_number(vdev), bool(found.get("readwrite")))


def _vif(found: Mapping[str, Any]) -> Vif:
    names = {"mac": "mac", "bridge": "bridge", "ifname": "vifname"}
    _check("vif", found.get("mac"), found, _VIF_ALLOWED)
    given = {ours: found[name] for name, ours in names.items() if found.get(name)}
    if not all(isinstance(value, str) and "," not in value for value in given.values()):
        raise errors.ConfigError(f"vif {given!r:.80}: these are not the names of one")
    return Vif.parse(",".join(f"{name}={value}" for name, value in given.items()))


def _check(kind: str, name: object, found: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    for key, values in allowed.items():
        if found.get(key) not in values:
            raise errors.ConfigError(f"{kind} {name!r:.80}: {key} {found[key]!r:.80} is not supported")
    script = found.get("script") or ""
    if not isinstance(script, str) or os.path.basename(script) not in _SCRIPTS[kind]:
        raise errors.ConfigError(f"{kind} {name!r:.80}: script {script!r:.80} is not supported")


def encode(domain: Identity) -> dict[str, list[dict[str, Any]]]:
    """Those that a guest has now. None without a xenstore."""
    store = domain.xen.store
    with suppress(errors.StoreError):
        disks = [
            {"pdev_path": params, "vdev": vdev, "format": "raw", "readwrite": int(mode == "w")}
            for _, (params, vdev, mode) in _nodes(store, domain.domid, "vbd", ("params", "dev", "mode"))
        ]
        vifs = [
            {"devid": number, "mac": mac, "bridge": bridge, **({"ifname": vifname} if vifname else {})}
            for number, (mac, bridge, vifname) in _nodes(
                store, domain.domid, "vif", ("mac", "bridge", "vifname")
            )
        ]
        return {name: found for name, found in (("disks", disks), ("nics", vifs)) if found}
    return {}


def _nodes(
    store: Nodes, domid: int, kind: str, names: Sequence[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The devices of a kind, as back ends have them, which the guest cannot change."""
    top = f"{BACKEND}/{kind}/{domid}"
    for number in sorted(int(name) for name in store.list(top) or [] if name.isdigit()):
        values = store.read_many(f"{top}/{number}/{name}" for name in names)
        yield number, tuple(os.fsdecode(value) if isinstance(value, bytes) else "" for value in values)


def check_unused(store: Nodes, disks: Sequence[Disk], domids: Iterable[int]) -> None:
    """ValueError if one of these domains writes to one of the disks, or reads what would be written."""
    for domid in domids:
        for kind in _DISK_BACK_ENDS:
            for _, (params, mode) in _nodes(store, domid, kind, ("params", "mode")):
                target = params[params.find("/") :]  # behind qemu's "aio:"
                if any(disk.target == target and (disk.writable or mode == "w") for disk in disks):
                    raise ValueError(
                        f"domain {domid} uses the disk {target}, too: restore this guest without its"
                        " devices (--no-devices, devices=False)"
                    )
