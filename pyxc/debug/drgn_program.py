# SPDX-License-Identifier: MIT
"""A program of drgn on the kernel of a running guest: its memory, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pyxc import errors
from pyxc.debug.guest_memory import PHYSICAL, DomainMemory, GuestMemory
from pyxc.debug.live import LiveVirtual
from pyxc.domain.domain import Domain
from pyxc.domain.windows import WINDOW_BITS
from pyxc.guest import vmcoreinfo as texts

_KERNEL_HALF = 1 << 63
_OLDEST = "set_linux_kernel_custom"

_IN_WINDOW = (1 << WINDOW_BITS) - 1

Reader = Callable[[int, int, int, bool], "bytes | memoryview"]
"""Reads for drgn: an address, how many bytes, the offset in the segment, whether it is physical."""


def drgn_program(guest: Domain | GuestMemory, *, vmcoreinfo: bytes | None = None) -> Any:
    """A drgn.Program that debugs the Linux kernel of a 64-bit guest, which continues to run.

    `guest` is a domain, or the RemoteMemory of a memory server. drgn walks the page tables of an HVM or PVH
    guest itself; those of a PV guest name machine frames, so that pyxc walks them, from those of vcpu 0.
    `vmcoreinfo` is the kernel's description of itself, which is searched for in the guest's memory if it is
    None: LookupError if there is none. MissingLibrary without drgn 0.3 or newer. Symbols are
    loaded by Program.load_debug_info(). The memory remains mapped as long as the program exists.
    """
    drgn = _library()
    memory = DomainMemory(guest) if isinstance(guest, Domain) else guest
    text = memory.vmcoreinfo() if vmcoreinfo is None else texts.check(vmcoreinfo)
    program = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    program.set_linux_kernel_custom(text, True)
    if memory.facts.physical_bytes:
        program.add_memory_segment(0, memory.facts.physical_bytes, _physical_reader(drgn, memory), True)
    if not memory.facts.is_hvm:
        kernel = _reader(drgn, LiveVirtual(memory, 0).read)
        program.add_memory_segment(_KERNEL_HALF, _KERNEL_HALF, kernel, False)
    return program


def _reader(drgn: Any, read_at: Callable[[int, int], bytes]) -> Reader:
    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        try:
            return read_at(address, count)
        except (errors.NotMapped, errors.DecodeError, ValueError) as error:
            raise drgn.FaultError(str(error), address) from error

    return read


def _physical_reader(drgn: Any, memory: GuestMemory) -> Reader:
    """Without a copy where the memory is mapped: drgn makes some such reads for one of a virtual address."""
    slowly = _reader(drgn, partial(memory.read, PHYSICAL))
    if not isinstance(memory, DomainMemory):
        return slowly
    windows = memory.open_windows()

    def read(address: int, count: int, offset: int, physical: bool) -> bytes | memoryview:
        window = windows.get(address >> WINDOW_BITS)
        if window is not None:
            start = address & _IN_WINDOW
            if start + count <= len(window):
                return window[start : start + count]
        return slowly(address, count, offset, physical)

    return read


def _library() -> Any:
    try:
        import drgn
    except ModuleNotFoundError as error:
        raise errors.MissingLibrary("drgn is not installed: pip install drgn", name="drgn") from error
    except ImportError as error:
        raise errors.MissingLibrary(f"drgn cannot be loaded: {error}", name="drgn") from error
    if not hasattr(drgn.Program, _OLDEST):
        raise errors.MissingLibrary("drgn 0.3 or newer is needed: pip install drgn", name="drgn")
    return drgn
