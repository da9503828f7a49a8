# SPDX-License-Identifier: MIT
"""The registers of a vcpu, by name, in the width of the guest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyxc import errors
from pyxc.abi.arch import ppc64, x86
from pyxc.abi.layout import Interface, Layout, Table

_TABLES: dict[tuple[str, int], Table] = {
    ("x86_64", 64): x86.VCPU_GUEST_CONTEXT_STRUCT,
    ("x86_64", 32): x86.VCPU_GUEST_CONTEXT_32_STRUCT,
    ("ppc64", 64): ppc64.VCPU_GUEST_CONTEXT_STRUCT,
}
_ARRAYS = {"ctrlreg": "cr", "debugreg": "dr", "gprs": "gpr"}
_IN_KERNEL = 1 << 2
"""Of `flags` (VGCF_in_kernel)."""
_GENERAL = "user_regs."
_BLOCKS = ("fpu_ctxt", "trap_ctxt", "gdt_frames")


class VcpuContext(Mapping[str, int]):
    """All registers of a vcpu (struct vcpu_guest_context, public/arch-x86/xen.h and arch-powerpc.h).

    `context["rip"]`: the names depend on the guest's width: rax, rip, rflags, cs, cr3, dr7, fs_base ... or
    eax, eip, eflags ...; on PowerPC gpr0 to gpr31, lr, ctr, pc, msr ... `block(NAME)` returns data other than
    registers: "fpu_ctxt" and "trap_ctxt" as bytes, "gdt_frames" as a tuple. It is immutable; `replace()`
    returns a changed copy. Threads: safe to share.

    Example:

    >>> context = web.vcpu(0).context()
    >>> context.width, hex(context["rip"])
    (64, '0xffffffff810003aa')
    >>> context.replace(rip=0)["rip"]
    0
    """

    def __init__(self, width: int, layout: Layout, fields: Mapping[str, Any]) -> None:
        self.width = width
        self._layout = layout
        self._fields = fields
        self._places = dict(_places(layout))

    @staticmethod
    def size(width: int, interface: Interface) -> int:
        """Bytes of the structure: on x86 5168 for 64-bit guests, 2800 for 32-bit ones."""
        return _TABLES[interface.arch, width].at(interface).size

    @classmethod
    def decode(cls, data: bytes, width: int, interface: Interface) -> VcpuContext:
        layout = _TABLES[interface.arch, width].at(interface)
        if len(data) < layout.size:
            raise errors.DecodeError(f"a {width}-bit vcpu context has {layout.size} bytes, not {len(data)}")
        return cls(width, layout, layout.unpack(data))

    @classmethod
    def zero(cls, width: int, interface: Interface) -> VcpuContext:
        """A context with all registers 0."""
        return cls.decode(bytes(cls.size(width, interface)), width, interface)

    def encode(self) -> bytes:
        return self._layout.pack(self._fields)

    def block(self, name: str) -> Any:
        if name not in _BLOCKS:
            raise KeyError(name)
        return self._fields[name]

    def replace(self, **registers: int) -> VcpuContext:
        """A copy with some registers changed. KeyError for an unknown name, ValueError for a bad value."""
        fields = dict(self._fields)
        for name, value in registers.items():
            field, position = self._places[name]
            if position is None:
                fields[field] = value
            else:
                items = list(fields[field])
                items[position] = value
                fields[field] = tuple(items)
            self._check_fits(name, field, value)
        return VcpuContext(self.width, self._layout, fields)

    def with_gdt_frames(self, frames: Iterable[int]) -> VcpuContext:
        """A copy with other frames of its descriptor table."""
        return VcpuContext(self.width, self._layout, {**self._fields, "gdt_frames": tuple(frames)})

    def _check_fits(self, name: str, field: str, value: int) -> None:
        size = self._layout.sizes[field] // self._layout.places[field][2]
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{name} is {value:#x}, which does not fit in {8 * size} bits")

    def __getitem__(self, name: str) -> int:
        field, position = self._places[name]
        value = self._fields[field]
        return int(value if position is None else value[position])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _repr_html_(self) -> str:
        from pyxc.call import notebook

        return notebook.of_registers(self)

    def __repr__(self) -> str:
        registers = ", ".join(f"{name}={value:#x}" for name, value in self.items())
        return f"VcpuContext({self.width}-bit, {registers})"


def gs_base(context: Mapping[str, int]) -> int:
    """The base of gs in the mode in which a 64-bit vcpu is. A PV kernel runs at the level of its programs."""
    in_program = context["cs"] & 3 == 3 and not context["flags"] & _IN_KERNEL
    return context["gs_base_user" if in_program else "gs_base_kernel"]


def _places(layout: Layout) -> Iterator[tuple[str, tuple[str, int | None]]]:
    """The place of each register: (name, (field, index in an array))."""
    for field in layout.names:
        register = field.removeprefix(_GENERAL)
        if register in _ARRAYS:
            for position in range(layout.places[field][2]):
                yield f"{_ARRAYS[register]}{position}", (field, position)
        elif field not in _BLOCKS:
            yield register, (field, None)
