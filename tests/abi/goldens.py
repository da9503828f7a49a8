# SPDX-License-Identifier: MIT
"""What the headers of each Xen release say, as a C compiler sees them, and what pyxc.abi says."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pyxc.abi
from pyxc.abi.layout import Interface, Release, Table
from pyxc.abi.operation import Operation
from pyxc.abi.releases import RELEASES, UNRELEASED

HERE = Path(__file__).parent


class Field(NamedTuple):
    name: str
    offset: int
    size: int
    ctype: str

    @property
    def end(self) -> int:
        return self.offset + self.size


class Struct(NamedTuple):
    size: int
    fields: list[Field]


def _load(name: str) -> Any:
    return json.loads((HERE / name).read_text())


@cache
def golden(name: str) -> Any:
    """The layouts of one release: "4.17-x86_64". One that is `as` another has the same, but for some."""
    found = _load(f"layouts/xen-{name}.json")
    if "as" in found:
        found["structs"] = golden(f"{found['as']}-x86_64")["structs"] | found["structs"]
        return found
    if name.endswith("x86_64"):
        found["structs"].update(_more_structs(_release(name.partition("-")[0])))
    return found


def _more_structs(release: Release) -> dict[str, Any]:
    return {
        name: layout
        for name, ranges in _load("layouts-more.json")["structs"].items()
        for first, last, layout in ranges
        if _release(first) <= release <= _release(last)
    }


def golden_name(interface: Interface) -> str:
    """Which file holds the layouts of an interface; 4.10 has two, and 3.0 one for each number of dom0_op."""
    if interface.dom0_op:
        return DOM0_OPS[interface.dom0_op]
    patched = ".4" if interface.domctl == 0xF else ""
    return f"{interface.xen[0]}.{interface.xen[1]}{patched}-x86_64"


def i386_name(interface: Interface) -> str:
    """Which file holds the structures of 32-bit guests: they changed four times."""
    since = max(release for release in I386 if release <= interface.xen)
    return f"{since[0]}.{since[1]}-i386"


I386: tuple[Release, ...] = ((3, 1), (3, 4), (4, 6), (4, 7), (4, 10))
DOM0_OPS = {0x03000000: "2006-04-dom0_op", 0x03000001: "2006-06-dom0_op", 0x13000001: "2006-08-dom0_op"}


def struct_of(name: str, path: str) -> Struct | None:
    """A structure of a release, or, by a dotted path, a part of one; None where the release has none."""
    outer, _, inner = path.partition(".")
    found = golden(name)["structs"].get(outer)
    if found is None:
        return None
    # Members of anonymous unions and structures have an empty name in their path.
    fields = [Field(re.sub(r"\.+", ".", f[0]).strip("."), *f[1:]) for f in found["fields"]]
    return _part(fields, inner) if inner else Struct(found["size"], fields)


def _part(fields: list[Field], path: str) -> Struct | None:
    whole = next((field for field in fields if field.name == path), None)
    if whole is None:
        return None
    inside = [f for f in fields if f.name.startswith(f"{path}.")] or [
        whole._replace(name=f"{path}.{path.rpartition('.')[2]}")
    ]
    return Struct(
        whole.size,
        [f._replace(name=f.name[len(path) + 1 :], offset=f.offset - whole.offset) for f in inside],
    )


@cache
def constants() -> dict[str, list[tuple[Release, Release, int]]]:
    """Constants of the public headers: name -> (first release, last release, value)."""
    everything = {**_load("constants.json")["constants"], **_load("constants-more.json")["constants"]}
    return {
        name: [(_release(first), _release(last), value) for first, last, value in ranges]
        for name, ranges in everything.items()
    }


def _release(text: str) -> Release:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def constant(name: str, release: Release) -> int | None:
    """The value of a constant in one release; None where it has none."""
    if release == UNRELEASED:
        changed = _unreleased()["constants"]
        return changed[name] if name in changed else constant(name, _release(_unreleased()["as"]))
    return next((value for first, last, value in constants().get(name, []) if first <= release <= last), None)


def _unreleased() -> Any:
    return golden("{}.{}-x86_64".format(*UNRELEASED))


def newest(name: str) -> int | None:
    """The value of a constant in the newest release that has it; None where none that pyxc knows does."""
    found = [constant(name, interface.xen) for interface in reversed(RELEASES)]
    return next((value for value in found if value is not None), None)


def modules() -> Iterator[ModuleType]:
    for info in sorted(pkgutil.walk_packages(pyxc.abi.__path__, "pyxc.abi."), key=lambda info: info.ispkg):
        yield importlib.import_module(info.name)


def _defined(kind: type) -> dict[str, Any]:
    """Every object of a kind in pyxc.abi, once, by the module and name that define it."""
    found: dict[int, tuple[str, Any]] = {}
    for module in modules():
        for name, value in vars(module).items():
            if isinstance(value, kind):
                found.setdefault(id(value), (f"{module.__name__.rpartition('.')[2]}.{name}", value))
    return dict(found.values())


def tables() -> dict[str, Table]:
    return _defined(Table)


def operations() -> dict[str, Operation]:
    return _defined(Operation)


def enums() -> dict[str, type[Enum]]:
    """Every enum with members that a module of pyxc.abi defines itself."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Enum) and value.__module__ == module.__name__
        if value.__members__
    }


def numbers() -> dict[str, int]:
    """Every public plain number, by module and name."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": value
        for module in modules()
        for name, value in vars(module).items()
        if name.isupper() and not name.startswith("_") and type(value) is int
    }
