# SPDX-License-Identifier: MIT
"""The configuration of a guest, from xl's configuration files (xl.cfg(5)). Nothing here touches a host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from pyxc import arguments, errors
from pyxc.domain import naming
from pyxc.domain.info import MOST_VCPUS
from pyxc.guest import config_syntax
from pyxc.guest.config_syntax import Setting, number, string, strings
from pyxc.guest.images import Kind

if TYPE_CHECKING:  # imported by what reads such a setting: few configurations have all
    import uuid as uuids

    from pyxc.abi.domctl_tsc import TscMode
    from pyxc.guest.config_devices import Disk, Vif
    from pyxc.guest.config_vnuma import VnumaNode

Action = Literal[
    "destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"
]  # fmt: skip
"""What happens to a domain that has shut down."""

_BYTES_MOST = 1 << 20
_MIB_MOST = 1 << 30
_DEFAULT_MIB = 32
_KINDS: dict[str, Kind] = {"pv": "pv", "generic": "pv", "pvh": "pvh"}
_TSC_MODES = {"default": 0, "always_emulate": 1, "native": 2}


class Actions(NamedTuple):
    """What to do when a guest has shut down, by its reason."""

    poweroff: Action = "destroy"
    reboot: Action = "restart"
    crash: Action = "destroy"
    watchdog: Action = "destroy"


class GuestConfig(NamedTuple):
    """A guest to be built. Memory is in KiB; None means the default of the builder.

    `kernel` and `ramdisk` are paths, or the bytes of the files.
    `cpus` and `cpus_soft` are lists of cpus as xl writes them, one for all vcpus or one for each.
    """

    name: str
    kernel: str | bytes
    kind: Kind | None = None
    uuid: uuids.UUID | None = None
    ramdisk: str | bytes | None = None
    command_line: str = ""
    memory_kb: int = _DEFAULT_MIB << 10
    max_memory_kb: int = _DEFAULT_MIB << 10
    vcpus: int = 1
    max_vcpus: int = 1
    cpus: tuple[str, ...] = ()
    cpus_soft: tuple[str, ...] = ()
    pool: str | None = None
    weight: int | None = None
    cap: int | None = None
    seclabel: str | None = None
    max_event_channels: int = 1023
    max_grant_frames: int = -1
    max_maptrack_frames: int = -1
    tsc_mode: TscMode | None = None
    shadow_memory_kb: int | None = None
    time_offset_seconds: int = 0
    actions: Actions = Actions()
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    vnuma: tuple[VnumaNode, ...] = ()

    @classmethod
    def parse(cls, text: str, overrides: Iterable[str] = (), name: str = "configuration") -> GuestConfig:
        """Parse the text of a file, and `key=value` settings that override it.

        ConfigError names the file and the line of a setting that is malformed, unsupported or inconsistent.

        >>> GuestConfig.parse('name="web"; kernel="/boot/vmlinuz"; memory=512', ["vcpus=2"]).vcpus
        2
        """
        settings = config_syntax.parse(text, name)
        for override in overrides:
            settings = config_syntax.with_override(settings, override)
        return _Reader(settings, name).config()

    @classmethod
    def read(cls, path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> GuestConfig:
        """Read a file in UTF-8. OSError, ConfigError."""
        with open(path, "rb") as file:
            data = file.read(_BYTES_MOST + 1)
        name = os.fspath(path)
        try:
            return cls.parse(data.decode(), overrides, name)
        except UnicodeDecodeError as error:
            raise errors.ConfigError(f"{name}: it is not text in UTF-8") from error


def _plain(setting: Setting) -> str:
    return string(setting)


def _cpu_lists(setting: Setting) -> tuple[str, ...]:
    return strings(setting) if isinstance(setting.value, list) else (string(setting),)


def _uuid(setting: Setting) -> uuids.UUID:
    return arguments.handle(string(setting))


def _tsc_mode(setting: Setting) -> TscMode:
    from pyxc.abi.domctl_tsc import TscMode

    text = string(setting)
    return TscMode(_TSC_MODES[text] if text in _TSC_MODES else number(setting, 2))


def _meant(key: str) -> str:
    """The key that comes nearest to one that is unknown."""
    from difflib import get_close_matches

    near = get_close_matches(key, _READERS, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _action(setting: Setting) -> Action:
    wanted = string(setting)
    actions: tuple[Action, ...] = get_args(Action)
    for action in actions:
        if action == wanted:
            return action
    raise ValueError(f"{wanted!r} is not supported: expected one of {', '.join(actions)}")


def _kind(setting: Setting) -> Kind:
    wanted = string(setting)
    if wanted not in _KINDS:
        raise ValueError(f"{wanted!r} guests are not supported: expected one of {', '.join(_KINDS)}")
    return _KINDS[wanted]


def _disks(setting: Setting) -> tuple[Disk, ...]:
    from pyxc.guest.config_devices import Disk

    return tuple(Disk.parse(text) for text in strings(setting))


def _vifs(setting: Setting) -> tuple[Vif, ...]:
    from pyxc.guest.config_devices import Vif

    return tuple(Vif.parse(text) for text in strings(setting))


def _vnuma(setting: Setting) -> tuple[VnumaNode, ...]:
    from pyxc.guest import config_vnuma

    return config_vnuma.nodes(setting)


def _count(most: int, least: int = 0, unit: int = 1) -> Callable[[Setting], int]:
    return lambda setting: number(setting, most, least) * unit


_READERS: dict[str, tuple[str, Callable[[Setting], Any]]] = {
    "name": ("name", lambda setting: naming.check(string(setting))),
    "type": ("kind", _kind),
    "builder": ("kind", _kind),
    "pvh": ("kind", lambda setting: "pvh" if number(setting, 1) else "pv"),
    "uuid": ("uuid", _uuid),
    "kernel": ("kernel", _plain),
    "ramdisk": ("ramdisk", _plain),
    "cmdline": ("command_line", _plain),
    "root": ("root", _plain),
    "extra": ("extra", _plain),
    "memory": ("memory_kb", _count(_MIB_MOST, 1, 1024)),
    "maxmem": ("max_memory_kb", _count(_MIB_MOST, 1, 1024)),
    "vcpus": ("vcpus", _count(MOST_VCPUS, 1)),
    "maxvcpus": ("max_vcpus", _count(MOST_VCPUS, 1)),
    "cpus": ("cpus", _cpu_lists),
    "cpus_soft": ("cpus_soft", _cpu_lists),
    "pool": ("pool", _plain),
    "cpu_weight": ("weight", _count(65535, 1)),
    "cap": ("cap", _count(65535)),
    "seclabel": ("seclabel", _plain),
    "max_event_channels": ("max_event_channels", _count(2**31 - 1, 1)),
    "max_grant_frames": ("max_grant_frames", _count(2**31 - 1, 1)),
    "max_maptrack_frames": ("max_maptrack_frames", _count(2**31 - 1)),
    "tsc_mode": ("tsc_mode", _tsc_mode),
    "shadow_memory": ("shadow_memory_kb", _count(_MIB_MOST, 1, 1024)),
    "rtc_timeoffset": ("time_offset_seconds", _count(2**31 - 1)),
    "on_poweroff": ("on_poweroff", _action),
    "on_reboot": ("on_reboot", _action),
    "on_crash": ("on_crash", _action),
    "on_watchdog": ("on_watchdog", _action),
    "disk": ("disks", _disks),
    "vnuma": ("vnuma", _vnuma),
    "vif": ("vifs", _vifs),
}
"""By key of the file: the name of its field here, and the function that reads it."""

_HINTS = {
    "bootloader": "name the kernel itself by kernel=",
    "firmware": "name the kernel itself by kernel=",
    "pci": "assign devices with domain.pci",
}


class _Reader:
    def __init__(self, settings: dict[str, Setting], name: str) -> None:
        self._settings = settings
        self._name = name
        self._fields: dict[str, Any] = {}

    def config(self) -> GuestConfig:
        for key, setting in self._settings.items():
            self._read(key, setting)
        fields = self._fields
        for needed in ("name", "kernel"):
            if not fields.get(needed):
                raise errors.ConfigError(f"{self._name}: {needed} is not given")
        self._add_actions()
        self._add_command_line()
        self._add_sizes()
        return GuestConfig(**fields)

    def _read(self, key: str, setting: Setting) -> None:
        if key not in _READERS:
            hint = f": {_HINTS[key]}" if key in _HINTS else _meant(key)
            raise errors.ConfigError(f"{setting.where}: {key} is not supported{hint}")
        field, read = _READERS[key]
        try:
            self._fields[field] = read(setting)
        except errors.ConfigError as error:
            placed = str(error).startswith(f"{setting.where}: ")
            raise errors.ConfigError(str(error) if placed else f"{setting.where}: {error}") from error
        except ValueError as error:
            raise errors.ConfigError(f"{setting.where}: {key}: {error}") from error

    def _add_actions(self) -> None:
        found = {name: self._fields.pop(f"on_{name}", None) for name in Actions._fields}
        self._fields["actions"] = Actions(**{name: action for name, action in found.items() if action})

    def _add_command_line(self) -> None:
        """cmdline overrides root and extra, as in xl."""
        root, extra = self._fields.pop("root", None), self._fields.pop("extra", None)
        parts = [f"root={root}" if root else "", extra or ""]
        self._fields.setdefault("command_line", " ".join(filter(None, parts)))

    def _add_sizes(self) -> None:
        """Each of memory and maxmem, vcpus and maxvcpus, is as large as the other unless given.

        With virtual NUMA nodes they are as large as all nodes together.
        """
        nodes: tuple[VnumaNode, ...] = self._fields.get("vnuma", ())
        if nodes:
            self._set_size(("memory_kb", "max_memory_kb"), sum(node.memory_kb for node in nodes))
            self._set_size(("max_vcpus",), sum(len(node.vcpus) for node in nodes))
            if self._fields.get("kind") is None:
                raise errors.ConfigError(f"{self._name}: vnuma needs type, pv or pvh")
        self._add_size("memory_kb", "max_memory_kb", _DEFAULT_MIB << 10, "memory is above maxmem")
        self._add_size("vcpus", "max_vcpus", 1, "vcpus is above maxvcpus")

    def _set_size(self, keys: tuple[str, ...], size: int) -> None:
        for key in keys:
            if self._fields.setdefault(key, size) != size:
                raise errors.ConfigError(f"{self._name}: memory or vcpus are not those of vnuma")

    def _add_size(self, least: str, most: str, default: int, otherwise: str) -> None:
        given = self._fields.get(least) or self._fields.get(most) or default
        self._fields.setdefault(least, given)
        self._fields.setdefault(most, given)
        if self._fields[least] > self._fields[most]:
            raise errors.ConfigError(f"{self._name}: {otherwise}")
