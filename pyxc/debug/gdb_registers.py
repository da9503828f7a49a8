# SPDX-License-Identifier: MIT
"""The registers of a vcpu as GDB has them: names, order and widths (its target descriptions)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pyxc.domain.registers import VcpuContext, gs_base

_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
_X87 = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
_GENERAL_64 = (
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    *(f"r{n}" for n in range(8, 16)),
    "rip",
)
_GENERAL_32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip")
_WRITABLE = frozenset((*_GENERAL_64, *_GENERAL_32, "eflags"))
_POINTERS = {"rsp": "data_ptr", "rbp": "data_ptr", "esp": "data_ptr", "ebp": "data_ptr"}
_FXSAVE_CONTROL, _FXSAVE_STATUS, _FXSAVE_STACK = 0, 2, 32
_ST_BYTES, _ST_STRIDE = 10, 16


class Register(NamedTuple):
    """One of GDB's registers: its name, width and type."""

    name: str
    bits: int
    kind: str


class Registers(NamedTuple):
    """All of them, in the order of the packet `g`; `width` is 64 or 32."""

    width: int
    all: tuple[Register, ...]

    @classmethod
    def of(cls, width: int) -> Registers:
        return cls(width, tuple(_registers(width)))

    def description(self) -> bytes:
        """The target description, in XML."""
        architecture = "i386:x86-64" if self.width == 64 else "i386"
        core = [register for register in self.all if register.name not in ("fs_base", "gs_base")]
        apart = [register for register in self.all if register.name in ("fs_base", "gs_base")]
        lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>"]
        lines += [f"<architecture>{architecture}</architecture>", *_feature("core", core)]
        lines += _feature("segments", apart) if apart else []
        return "\n".join([*lines, "</target>", ""]).encode()

    def values(self, context: VcpuContext) -> Iterator[bytes | None]:
        """The bytes of each, None for what Xen does not tell."""
        fpu = context.block("fpu_ctxt")
        for register in self.all:
            yield _value(register, context, fpu)

    def changed(self, context: VcpuContext, number: int, data: bytes) -> dict[str, int]:
        """The register of a context to change, and its value, for GDB's number and bytes of one.

        ValueError for those that GDB cannot change here.
        """
        if number >= len(self.all) or self.all[number].name not in _WRITABLE:
            raise ValueError(
                "only the general registers, the instruction pointer and the flags can be written"
            )
        register = self.all[number]
        if len(data) != register.bits // 8:
            raise ValueError(f"{register.name} has {register.bits // 8} bytes, not {len(data)}")
        return {_place(register.name, context): int.from_bytes(data, "little")}

    def packed(self, context: VcpuContext) -> bytes:
        """The content of a reply to `g`, in hexadecimal digits."""
        return b"".join(
            b"xx" * (register.bits // 8) if value is None else value.hex().encode()
            for register, value in zip(self.all, self.values(context))
        )


def _registers(width: int) -> Iterator[Register]:
    for name in _GENERAL_64 if width == 64 else _GENERAL_32:
        yield Register(name, width, "code_ptr" if name[1:] == "ip" else _POINTERS.get(name, f"int{width}"))
    yield Register("eflags", 32, "int32")
    for name in _SEGMENTS:
        yield Register(name, 32, "int32")
    for number in range(8):
        yield Register(f"st{number}", 80, "i387_ext")
    for name in _X87:
        yield Register(name, 32, "int")
    if width == 64:
        yield Register("fs_base", 64, "int")
        yield Register("gs_base", 64, "int")


def _feature(name: str, registers: list[Register]) -> Iterator[str]:
    yield f'<feature name="org.gnu.gdb.i386.{name}">'
    for register in registers:
        yield f'<reg name="{register.name}" bitsize="{register.bits}" type="{register.kind}"/>'
    yield "</feature>"


def _value(register: Register, context: Mapping[str, int], fpu: bytes) -> bytes | None:
    name = register.name
    if name.startswith("st"):
        start = _FXSAVE_STACK + _ST_STRIDE * int(name[2:])
        return bytes(fpu[start : start + _ST_BYTES])
    if name in ("fctrl", "fstat"):
        start = _FXSAVE_CONTROL if name == "fctrl" else _FXSAVE_STATUS
        return bytes(fpu[start : start + 2]) + b"\0\0"
    if name in _X87:
        return None
    number = _number(name, context)
    return (number & (1 << register.bits) - 1).to_bytes(register.bits // 8, "little")


def _place(name: str, context: Mapping[str, int]) -> str:
    """The name in a context, also in a 64-bit one of a guest that runs in 32 bits."""
    found = next((found for found in (name, "r" + name[1:]) if found in context), None)
    if found is None:
        raise KeyError(name)
    return found


def _number(name: str, context: Mapping[str, int]) -> int:
    if name == "gs_base":
        return gs_base(context)
    return context[_place(name, context)]
