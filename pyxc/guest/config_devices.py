# SPDX-License-Identifier: MIT
"""Disks and network interfaces in xl's syntax: xl-disk-configuration(5), xl-network-configuration(5)."""

from __future__ import annotations

import re
from typing import NamedTuple

from pyxc import errors

_PREFIXES = frozenset(("phy", "file", "raw"))
_OTHER_PREFIXES = frozenset(
    ("tap", "tap2", "aio", "vdi", "qcow", "qcow2", "vhd", "qed", "drbd", "iscsi", "nbd")
)
_VDEV = r"(?:/dev/)?(xvd|hd|sd)([a-z]{1,2})([0-9]{0,2})|d([0-9]{1,5})(?:p([0-9]{1,3}))?"
_ACCESS = {"r": False, "ro": False, "w": True, "rw": True}
_DISK_KEYS = frozenset(("target", "format", "vdev", "access", "backendtype", "devtype", "backend", "script"))
_DISK_FLAGS = frozenset(("direct-io-safe", "discard", "no-discard", "cdrom"))
_FREE = ("target", "vdev", "access", "no-discard", "direct-io-safe")
_ALLOWED = {
    "format": ("", "raw"),
    "backendtype": ("phy",),
    "backend": ("0", "Domain-0"),
    "devtype": ("disk",),
}
_UNSUPPORTED = "is not supported"
_EXTENDED = 1 << 28
_EXTENDED_DISKS = 1 << 20
_MAC = r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}"
_IFNAME = r"[^\s/:]{1,15}"
_BRIDGE = _IFNAME
_VIF_FORMS = {
    "mac": "a unicast address such as 00:16:3e:01:02:03",
    "bridge": "the name of a bridge",
    "vifname": "a name of at most 15 characters",
}


class Disk(NamedTuple):
    """A disk of a guest: a block device of the host, or a raw image file.

    `vdev` is its name in the guest, as "xvda", and `number` that of xenbus for it.
    """

    target: str
    vdev: str
    number: int
    writable: bool

    @classmethod
    def parse(cls, text: str) -> Disk:
        """One of xl's `disk` list: 'phy:/dev/vg/web,xvda,w', '/srv/web.img,raw,xvda,rw', 'vdev=xvda,...'.

        ConfigError for malformed text, and for what is not supported: other formats, other back ends.
        """
        fields = _disk_fields(text)
        for key, value in fields.items():
            _check_disk_field(text, key, value)
        target, vdev = fields.get("target", ""), fields.get("vdev", "")
        if not target.startswith("/"):
            raise _wrong("disk", text, f"its target {target!r} is not an absolute path")
        access = fields.get("access") or "rw"
        if access not in _ACCESS:
            raise _wrong("disk", text, f"its access is {access!r}: expected one of {', '.join(_ACCESS)}")
        return cls(target, vdev, vdev_number(vdev), _ACCESS[access])


def _disk_fields(text: str) -> dict[str, str]:
    """Values by key. Positions mean target, format, vdev and access; after a prefix there is no format."""
    fields: dict[str, str] = {}
    places = ["target", "format", "vdev", "access"]
    rest = text
    if _prefix(rest) in _PREFIXES:
        places.remove("format")
        rest = rest.partition(":")[2]
    if _prefix(rest) in _OTHER_PREFIXES:
        raise _wrong("disk", text, f"{_prefix(rest)}: {_UNSUPPORTED}; raw files and devices are")
    while rest:
        if rest.lstrip().startswith("target="):  # target= is the last one, and may contain anything
            fields["target"] = rest.lstrip().removeprefix("target=")
            break
        word, _, rest = rest.partition(",")
        key, equals, value = word.partition("=")
        if equals and key.strip() in _DISK_KEYS:
            fields[key.strip()] = value.strip()
        elif word.strip() in _DISK_FLAGS:
            fields[word.strip()] = ""
        elif places:
            fields[places.pop(0)] = word.strip()
        else:
            raise _wrong("disk", text, f"{word!r} is one value too many")
    return fields


def _prefix(text: str) -> str:
    word, colon, _ = text.partition(":")
    return word if colon else ""


def _check_disk_field(text: str, key: str, value: str) -> None:
    if key not in _FREE and value not in _ALLOWED.get(key, ()):
        raise _wrong("disk", text, f"{f'{key}={value}' if value else key} {_UNSUPPORTED}")


def vdev_number(vdev: str) -> int:
    """The number that xenbus has for a device by name (xen-vbd-interface(7)). ConfigError."""
    match = re.fullmatch(_VDEV, vdev)
    if match is None:
        raise errors.ConfigError(f"{vdev!r} is not the name of a disk in a guest, as xvda")
    if match[4] is not None:
        disk, part = int(match[4]), int(match[5] or 0)
        kind = "xvd"
    else:
        kind, letters, part = match[1], match[2], int(match[3] or 0)
        disk = 0
        for letter in letters:
            disk = disk * 26 + ord(letter) - ord("a") + 1
        disk -= 1
    if kind == "hd" and disk < 4 and part < 64:
        return (3 if disk < 2 else 22) << 8 | (disk & 1) << 6 | part
    if kind == "sd" and disk < 16 and part < 16:
        return 8 << 8 | disk << 4 | part
    if kind == "xvd" and disk < 16 and part < 16:
        return 202 << 8 | disk << 4 | part
    if kind == "xvd" and disk < _EXTENDED_DISKS and part < 256:
        return _EXTENDED | disk << 8 | part
    raise errors.ConfigError(f"{vdev!r} is beyond the disks that a guest can have")


class Vif(NamedTuple):
    """A network interface of a guest. `mac` None: an address is generated. dom0's end joins `bridge`.

    `vifname` is the name of dom0's end; None: the name that the kernel gives it, such as "vif3.0".
    """

    mac: str | None = None
    bridge: str = "xenbr0"
    vifname: str | None = None

    @classmethod
    def parse(cls, text: str) -> Vif:
        """One of xl's `vif` list: 'mac=00:16:3e:01:02:03,bridge=xenbr0'; '' is the default. ConfigError."""
        mac, bridge, vifname = None, "xenbr0", None
        for word in filter(None, (word.strip() for word in text.split(","))):
            key, equals, value = (part.strip() for part in word.partition("="))
            if key == "mac" and _is_mac(value):
                mac = value.lower()
            elif key == "bridge" and re.fullmatch(_BRIDGE, value):
                bridge = value
            elif key == "vifname" and re.fullmatch(_IFNAME, value):
                vifname = value
            elif (key, value) not in (("type", "vif"), ("backend", "0"), ("backend", "Domain-0")):
                why = f"is not {_VIF_FORMS[key]}" if key in _VIF_FORMS and equals else _UNSUPPORTED
                raise _wrong("vif", text, f"{word} {why}")
        return cls(mac, bridge, vifname)


def _is_mac(text: str) -> bool:
    """A MAC address that is not a multicast address."""
    return bool(re.fullmatch(_MAC, text.lower())) and not int(text[:2], 16) & 1


def _wrong(kind: str, text: str, why: str) -> errors.ConfigError:
    return errors.ConfigError(f"{kind} {text[:200]!r}: {why}")
