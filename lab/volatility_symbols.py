# SPDX-License-Identifier: MIT
"""python3 -m lab.volatility_symbols VMLINUX FILE: a kernel's types and symbols as volatility3 reads them.

Debian does not have dwarf2json, which volatility3's manual names; drgn, which must be importable, reads the
same debugging symbols. FILE is JSON in volatility3's Intermediate Symbol Format, with the types to which a
task leads.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import drgn

VERSION = "6.2.0"
# No field of a task leads to the others, but volatility3 asks each Linux for them.
SEEDS = """
in_device inet_sock kernfs_node module mount net_device task_struct unix_sock vm_area_struct xa_node
""".split()
TYPED = ("init_task", "init_mm", "init_files", "init_pid_ns", "linux_banner", "modules")
BANNER = re.compile(rb"Linux version [^\0]+\n\0")
KINDS = {
    drgn.TypeKind.INT: "int",
    drgn.TypeKind.BOOL: "bool",
    drgn.TypeKind.FLOAT: "float",
    drgn.TypeKind.STRUCT: "struct",
    drgn.TypeKind.UNION: "union",
}
COMPOUND = (drgn.TypeKind.STRUCT, drgn.TypeKind.UNION)


class Types:
    """The tables of types. One that is named for the first time waits until it is described."""

    def __init__(self) -> None:
        void = {"kind": "void", "size": 0, "signed": False, "endian": "little"}
        self.base: dict[str, Any] = {"void": void, "pointer": {**void, "kind": "int", "size": 8}}
        self.enums: dict[str, Any] = {}
        self.user: dict[str, Any] = {}
        self._numbers = itertools.count()
        self._named: set[str] = set()
        self._waiting: list[tuple[str, drgn.Type]] = []

    def describe_waiting(self) -> None:
        """Describe what was named, and all to which it leads."""
        while self._waiting:
            name, type_ = self._waiting.pop()
            fields = dict(self._field(member) for member in type_.members)
            self.user[name] = {"kind": KINDS[type_.kind], "size": type_.size, "fields": fields}

    def reference(self, type_: drgn.Type) -> dict[str, Any]:
        """What a field or a symbol says of its type."""
        while type_.kind == drgn.TypeKind.TYPEDEF:
            type_ = type_.type
        if type_.kind == drgn.TypeKind.POINTER:
            return {"kind": "pointer", "subtype": self.reference(type_.type)}
        if type_.kind == drgn.TypeKind.ARRAY:
            return {"kind": "array", "count": type_.length or 0, "subtype": self.reference(type_.type)}
        if type_.kind == drgn.TypeKind.FUNCTION:
            return {"kind": "function"}
        if not type_.is_complete():
            return {"kind": "base", "name": "void"}
        if type_.kind == drgn.TypeKind.ENUM:
            return {"kind": "enum", "name": self._enum(type_)}
        if type_.kind in COMPOUND:
            return {"kind": KINDS[type_.kind], "name": self._compound(type_)}
        return {"kind": "base", "name": self._base(type_)}

    def _field(self, member: drgn.TypeMember) -> tuple[str, dict[str, Any]]:
        name = member.name or f"unnamed_field_{next(self._numbers)}"
        of_name = {} if member.name else {"anonymous": True}
        type_ = self.reference(member.type)
        if not member.bit_field_size:
            return name, {"offset": member.offset, "type": type_, **of_name}
        # A bit field is counted from the start of the integer that holds it.
        integer, bit = divmod(member.bit_offset, 8 * drgn.sizeof(member.type))
        bits = {"kind": "bitfield", "bit_position": bit, "bit_length": member.bit_field_size, "type": type_}
        return name, {"offset": integer * drgn.sizeof(member.type), "type": bits, **of_name}

    def _compound(self, type_: drgn.Type) -> str:
        name = type_.tag or f"unnamed_{next(self._numbers)}"
        if name not in self._named:
            self._named.add(name)
            self._waiting.append((name, type_))
        return name

    def _enum(self, type_: drgn.Type) -> str:
        name = type_.tag or f"unnamed_{next(self._numbers)}"
        constants = {constant.name: constant.value for constant in type_.enumerators}
        self.enums[name] = {"size": type_.type.size, "base": self._base(type_.type), "constants": constants}
        return name

    def _base(self, type_: drgn.Type) -> str:
        signed = type_.kind == drgn.TypeKind.FLOAT or (type_.kind == drgn.TypeKind.INT and type_.is_signed)
        kind = KINDS[type_.kind]
        self.base[type_.name] = {"kind": kind, "size": type_.size, "signed": signed, "endian": "little"}
        return str(type_.name)


def tables(vmlinux: Path) -> dict[str, Any]:
    """The contents of the file."""
    program = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    program.extra_module("vmlinux", create=True).try_file(vmlinux, force=True)
    types = Types()
    for seed in SEEDS:
        types.reference(program.type(f"struct {seed}"))
    symbols: dict[str, Any] = {symbol.name: {"address": symbol.address} for symbol in program.symbols()}
    for typed in TYPED:
        symbols[typed]["type"] = types.reference(program[typed].type_)
    types.describe_waiting()
    banner = BANNER.search(vmlinux.read_bytes())
    assert banner, f"no Linux in {vmlinux}"
    symbols["linux_banner"]["constant_data"] = base64.b64encode(banner[0]).decode()
    producer = {"name": "pyxc lab.volatility_symbols", "version": "1.0.0"}
    return {
        "metadata": {"linux": {"symbols": [], "types": []}, "producer": producer, "format": VERSION},
        "base_types": types.base,
        "enums": types.enums,
        "user_types": types.user,
        "symbols": symbols,
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(tables(Path(sys.argv[1]))))
