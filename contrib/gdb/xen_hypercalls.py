# SPDX-License-Identifier: MIT
"""For GDB: backtraces of vcpus that are in a hypercall, as those of an idle PV guest are.

A kernel enters Xen in a few instructions of assembler, and no debugging symbols say where their caller is.
Load this before a backtrace:

    (gdb) source xen_hypercalls.py
"""

from __future__ import annotations

from typing import NamedTuple

import gdb
from gdb.unwinder import Unwinder, register_unwinder

WORD_BYTES = 8
SYSCALL, VMCALL, VMMCALL = b"\x0f\x05", b"\x0f\x01\xc1", b"\x0f\x01\xd9"
# pop %r11; pop %rcx: what a PV guest does next.
POPS, POPPED_BYTES = b"\x41\x5b\x59", 2 * WORD_BYTES
# Of the caller's registers, those that the instructions leave alone.
KEPT = ("rbx", "rbp", "r12", "r13", "r14", "r15")


class FrameId(NamedTuple):
    """How GDB recognises a frame."""

    sp: gdb.Value
    pc: gdb.Value


class Hypercall(Unwinder):
    """The caller of a hypercall that a vcpu is in."""

    def __init__(self) -> None:
        super().__init__("xen-hypercall")

    def __call__(self, frame: gdb.PendingFrame) -> gdb.UnwindInfo | None:
        pc, sp = (frame.read_register(name) for name in ("rip", "rsp"))
        saved = on_stack(int(pc))
        if saved is None:
            return None
        place = int(sp) + saved
        caller = int.from_bytes(gdb.selected_inferior().read_memory(place, WORD_BYTES), "little")
        found = frame.create_unwind_info(FrameId(sp, pc))
        found.add_saved_register("rip", gdb.Value(caller).cast(pc.type))
        found.add_saved_register("rsp", gdb.Value(place + WORD_BYTES).cast(sp.type))
        for name in KEPT:
            found.add_saved_register(name, frame.read_register(name))
        return found


def on_stack(pc: int) -> int | None:
    """How many bytes lie on the caller's address; None if the instruction before `pc` is not a hypercall."""
    if pc < len(VMCALL):
        return None
    try:
        code = bytes(gdb.selected_inferior().read_memory(pc - len(VMCALL), len(VMCALL) + len(POPS)))
    except gdb.MemoryError:
        return None
    before, after = code[: len(VMCALL)], code[len(VMCALL) :]
    if before.endswith(SYSCALL) and after == POPS:
        return POPPED_BYTES
    return 0 if before in (VMCALL, VMMCALL) else None


register_unwinder(None, Hypercall(), replace=True)
