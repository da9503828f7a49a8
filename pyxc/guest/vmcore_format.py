# SPDX-License-Identifier: MIT
"""The file format that Linux's own crash dumps have, vmcore: ELF with segments by physical address.

A note of type NT_PRSTATUS has the registers of each vcpu (struct elf_prstatus of x86-64, linux/elfcore.h),
and a note VMCOREINFO what the kernel says of itself (Documentation/admin-guide/kdump/vmcoreinfo.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from pyxc._core import PAGE_SIZE
from pyxc.domain.registers import gs_base

_MARK = b"pyxc"
"""In the part of the file's first bytes that is not used: whether a file is one that may be replaced."""
_MARK_AT = 9
_IDENT = (b"\x7fELF" + bytes([2, 1, 1, 0, 0]) + _MARK).ljust(16, b"\0")
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_CORE, _X86_64, _VERSION = 4, 62, 1
_PT_LOAD, _PT_NOTE = 1, 4
_READ_WRITE_EXECUTE = 7
_AS_OF_LINUX = 0
"""The alignment of segments: by it crash recognizes dumps of Linux, which VMCOREINFO is evaluated for."""
_NT_PRSTATUS = 1
_REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
"""Their order in struct user_regs_struct (asm/user_64.h)."""
_BEFORE_REGISTERS, _PID_AT = 112, 32
_NO_SYSTEM_CALL = 2**64 - 1


def is_vmcore(head: bytes) -> bool:
    """Whether a file that begins like this is a vmcore written by pyxc."""
    return head[:16] == _IDENT


def note(owner: bytes, kind: int, content: bytes) -> bytes:
    name = owner + b"\0"
    header = struct.pack("<III", len(name), len(content), kind)
    return header + _padded(name) + _padded(content)


def prstatus(vcpu: int, context: Mapping[str, int]) -> bytes:
    """The registers of a 64-bit vcpu. Debuggers take each for a thread; none has the number 0."""
    values = {**context, "orig_rax": _NO_SYSTEM_CALL, "gs_base": gs_base(context)}
    head = bytearray(_BEFORE_REGISTERS)
    struct.pack_into("<I", head, _PID_AT, vcpu + 1)
    return (
        bytes(head) + struct.pack(f"<{len(_REGISTERS)}Q", *(values[name] for name in _REGISTERS)) + bytes(8)
    )


def notes(contexts: Iterable[Mapping[str, int]], vmcoreinfo: bytes | None) -> bytes:
    each = [note(b"CORE", _NT_PRSTATUS, prstatus(vcpu, one)) for vcpu, one in enumerate(contexts)]
    return b"".join(each) + (b"" if vmcoreinfo is None else note(b"VMCOREINFO", 0, vmcoreinfo))


def begin(frames: Sequence[range], contents: bytes) -> bytes:
    """What comes before the pages: headers and notes. The pages of `frames` follow, range by range."""
    count = 1 + len(frames)
    notes_at = _HEADER.size + count * _PROGRAM.size
    at = -(-(notes_at + len(contents)) // PAGE_SIZE) * PAGE_SIZE
    header = _HEADER.pack(
        _IDENT, _CORE, _X86_64, _VERSION, 0, _HEADER.size, 0, 0, _HEADER.size, _PROGRAM.size, count, 0, 0, 0
    )
    pieces = [header, _PROGRAM.pack(_PT_NOTE, 0, notes_at, 0, 0, len(contents), len(contents), 4)]
    end = at
    for run in frames:
        size = len(run) * PAGE_SIZE
        fields = (_PT_LOAD, _READ_WRITE_EXECUTE, end, 0, run.start * PAGE_SIZE, size, size, _AS_OF_LINUX)
        pieces.append(_PROGRAM.pack(*fields))
        end += size
    return (b"".join(pieces) + contents).ljust(at, b"\0")


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // 4) * 4, b"\0")
