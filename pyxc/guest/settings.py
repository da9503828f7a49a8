# SPDX-License-Identifier: MIT
"""The configuration in a saved guest: libxl's, in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

from pyxc import arguments, errors
from pyxc.abi.page import PAGE_KB
from pyxc.domain import naming
from pyxc.domain.identity import Identity
from pyxc.domain.info import MOST_VCPUS, DomainInfo
from pyxc.domain.memory import Memory
from pyxc.guest import saved_devices
from pyxc.guest.saved_devices import SavedDevices

_USERDATA = "/var/lib/xen/userdata-d.{domid}.{uuid}.libxl-json"
"""Where libxl keeps the configuration of a domain that it created."""
_FILE_MOST_BYTES = 1 << 20
_MEMORY_MOST_KB = 1 << 40
_DEFAULT_VCPUS = 1
"""libxl leaves out what has its default value."""
_UNLIMITED_PAGES = 1 << 30
_NODE_MOST = 16
"""Characters of a number or a word in xenstore."""
_SLACK_KB = 1024
"""What a domain may own beyond its memory: libxl's value."""


class Settings(NamedTuple):
    """What a restorer needs to know about a guest before its pages arrive. None: unknown.

    `memory_kb` is the most that it may own, `target_kb` the target of its balloon driver. Of its `vcpus` it
    uses `online_vcpus`.
    """

    kind: str | None = None
    name: str | None = None
    uuid: UUID | None = None
    vcpus: int | None = None
    memory_kb: int | None = None
    target_kb: int | None = None
    online_vcpus: int | None = None
    devices: SavedDevices = SavedDevices()


def encode(domain: Identity, info: DomainInfo, name: str | None) -> bytes:
    """The present configuration of a domain, ended by a NUL: libxl's own where libxl created the domain.

    Elsewhere it has only what `xl restore` requires.
    """
    kept = _kept_by_libxl(domain) or _derived(domain, info)
    common = kept.setdefault("c_info", {})
    if isinstance(common, dict):  # libxl keeps those of its creation
        common |= {"uuid": str(domain.uuid)} | ({"name": name} if name else {})
    build = kept.setdefault("b_info", {})
    if isinstance(build, dict):
        build |= _changed(domain, info)
    return json.dumps(kept, indent=4, ensure_ascii=False).encode(errors="surrogateescape") + b"\0"


def _derived(domain: Identity, info: DomainInfo) -> dict[str, Any]:
    """What Xen knows of it."""
    owned_kb = info.tot_pages * PAGE_KB
    most_kb = 0 if info.max_pages >= _UNLIMITED_PAGES else info.max_pages * PAGE_KB - _SLACK_KB
    kind = "pvh" if info.is_hvm else "pv"
    vcpus = info.max_vcpu_id + 1
    build = {
        "max_vcpus": vcpus,
        "avail_vcpus": list(range(vcpus)),
        "max_memkb": max(owned_kb, most_kb),
        "target_memkb": owned_kb,
        f"type.{kind}": {},
    }
    if info.is_hvm:
        build["shadow_memkb"] = Memory(domain).paging_pool_kb()
    return {"c_info": {"type": kind, "name": ""}, "b_info": build, **saved_devices.encode(domain)}


def _changed(domain: Identity, info: DomainInfo) -> dict[str, Any]:
    """What its toolstack may have changed since its creation: memory and vcpus that it is to use."""
    paths = ["memory/static-max", "memory/target"]
    paths += [f"cpu/{index}/availability" for index in range(info.max_vcpu_id + 1)]
    most, target, *offered = [_text_of(value) for value in _read(domain, paths)]
    found: dict[str, Any] = {}
    online = [index for index, word in enumerate(offered) if word == "online"]
    if online:
        found["avail_vcpus"] = online
    owned_kb = info.tot_pages * PAGE_KB
    if most.isdigit() and owned_kb <= int(most) <= _MEMORY_MOST_KB:
        found["max_memkb"] = int(most)
    # A guest that has more than it should cannot be restored with less.
    if target.isdigit() and owned_kb - _SLACK_KB <= int(target) <= _MEMORY_MOST_KB:
        found["target_memkb"] = int(target)
    return found


def _read(domain: Identity, paths: list[str]) -> list[bytes | errors.StoreError | None]:
    """Values of nodes below a domain's home; none without a xenstore."""
    with suppress(errors.StoreError):
        return domain.xen.store.read_many(f"/local/domain/{domain.domid}/{path}" for path in paths)
    return [None] * len(paths)


def _text_of(value: bytes | errors.StoreError | None) -> str:
    return value.decode("ascii", "replace")[:_NODE_MOST] if isinstance(value, bytes) else ""


def _kept_by_libxl(domain: Identity) -> dict[str, Any] | None:
    path = _USERDATA.format(domid=domain.domid, uuid=domain.uuid)
    with suppress(OSError, ValueError, RecursionError), open(path, "rb") as file:
        found = json.loads(file.read(_FILE_MOST_BYTES).rstrip(b"\0"))
        if isinstance(found, dict):
            return found
    return None


def decode(settings: Mapping[str, Any] | None) -> Settings:
    """Decode the configuration in a stream. DecodeError if it is invalid."""
    if settings is None:
        return Settings()
    common, build = _part(settings, "c_info"), _part(settings, "b_info")
    name, uuid, kind = (_text(common, key) for key in ("name", "uuid", "type"))
    try:
        return Settings(
            kind,
            naming.check(name) if name else None,
            arguments.handle(uuid) if uuid else None,
            _number(build, "max_vcpus", MOST_VCPUS) or _DEFAULT_VCPUS,
            _number(build, "max_memkb", _MEMORY_MOST_KB),
            _number(build, "target_memkb", _MEMORY_MOST_KB),
            _online(build),
            saved_devices.decode(settings),
        )
    except ValueError as error:
        raise errors.DecodeError(f"the guest's configuration: {error}") from error


def _part(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = settings.get(key, {})
    if not isinstance(found, dict):
        raise errors.DecodeError(f"{key} of the guest's configuration is a {type(found).__name__}")
    return found


def _text(part: Mapping[str, Any], key: str) -> str | None:
    found = part.get(key)
    if not isinstance(found, str | None):
        raise errors.DecodeError(f"{key} of the guest's configuration is a {type(found).__name__}")
    return found


def _number(part: Mapping[str, Any], key: str, most: int) -> int | None:
    found = part.get(key)
    if found is None:
        return None
    if type(found) is not int or not 0 < found <= most:
        raise errors.DecodeError(f"{key} of the guest's configuration is {found!r:.40}: expected 1 to {most}")
    return found


def _online(part: Mapping[str, Any]) -> int | None:
    """How many vcpus are listed; guests are offered the first ones."""
    found = part.get("avail_vcpus")
    if found is None:
        return None
    if not isinstance(found, list) or any(
        type(index) is not int or not 0 <= index < MOST_VCPUS for index in found
    ):
        raise errors.DecodeError(f"avail_vcpus of the guest's configuration is {found!r:.40}")
    return len(set(found)) or None
