# SPDX-License-Identifier: MIT
"""Kernels for guests: ELF files, perhaps compressed or in a bzImage, whose notes say how they start."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Literal, NamedTuple

from pyxc import errors
from pyxc.guest import elf
from pyxc.guest.elf import Elf

Kind = Literal["pv", "pvh"]
KINDS: tuple[Kind, ...] = ("pvh", "pv")
"""In order of preference."""

_XEN = b"Xen\0"
_MACHINE_386, _MACHINE_X86_64 = 3, 62
_ADDRESS_MOST = 1 << 64
_BOOT_FLAG_AT, _BOOT_FLAG = 0x1FE, b"\x55\xaa"
_SETUP_MAGIC_AT, _SETUP_MAGIC = 0x202, b"HdrS"
_SETUP_SECTORS_AT, _SETUP_VERSION_AT, _PAYLOAD_AT = 0x1F1, 0x206, 0x248
_SETUP_END = 0x250
_PAYLOAD_SINCE = 0x0208
_SECTOR = 512


class NoteType(IntEnum):
    """Xen's notes in a kernel (XEN_ELFNOTE_*, public/elfnote.h)."""

    INFO = 0
    ENTRY = 1
    HYPERCALL_PAGE = 2
    VIRT_BASE = 3
    PADDR_OFFSET = 4
    XEN_VERSION = 5
    GUEST_OS = 6
    GUEST_VERSION = 7
    LOADER = 8
    PAE_MODE = 9
    FEATURES = 10
    BSD_SYMTAB = 11
    HV_START_LOW = 12
    L1_MFN_VALID = 13
    SUSPEND_CANCEL = 14
    INIT_P2M = 15
    MOD_START_PFN = 16
    SUPPORTED_FEATURES = 17
    PHYS32_ENTRY = 18
    PHYS32_RELOC = 19


class Kernel(NamedTuple):
    """A kernel that a guest can be started with.

    `bits` are those of its code as a PV guest, 32 or 64. `kinds` are the kinds of guests that it can be, the
    preferred one first: not empty.

    >>> kernel = Kernel.decode(pyxc.sim.kernel("pvh"))   # or the bytes of a file
    >>> kernel.kinds
    ('pvh',)
    """

    elf: Elf
    notes: dict[int, bytes]
    kinds: tuple[Kind, ...]

    @classmethod
    def decode(cls, data: bytes, most: int = 1 << 30) -> Kernel:
        """Decode the bytes of a kernel file; decompressed, it may have up to `most` bytes.

        DecodeError for a file that Xen cannot start; MissingLibrary for one that is compressed with zstd or
        lz4 if the Python package for that is not installed; Unsupported for LZO.
        """
        image = Elf.decode(_expanded(_payload(data), most))
        notes = {note.type: note.data for note in image.notes if note.name == _XEN}
        kinds = tuple(kind for kind in KINDS if (_is_pvh if kind == "pvh" else _is_pv)(image, notes))
        if not kinds:
            raise errors.DecodeError(
                "the kernel has no ELF notes by which Xen starts it: neither PHYS32_ENTRY for PVH, nor "
                'XEN_VERSION "xen-3.0" with LOADER "generic" or GUEST_OS "linux" for PV'
            )
        return cls(image, notes, kinds)

    @property
    def bits(self) -> int:
        return 64 if self.elf.machine == _MACHINE_X86_64 else 32

    def number(self, note: NoteType, default: int = 0) -> int:
        """The number in a note, of 4 or 8 bytes. DecodeError for another size."""
        data = self.notes.get(note)
        if data is None:
            return default
        if len(data) not in (4, 8):
            raise errors.DecodeError(f"the kernel's note {note.name} has {len(data)} bytes instead of 4 or 8")
        return int.from_bytes(data, "little")

    def kind(self, wanted: Kind | None) -> Kind:
        """The kind of guest to build: the wanted, else the preferred one. ValueError: it cannot be that."""
        if wanted is None:
            return self.kinds[0]
        if wanted not in KINDS:
            raise ValueError(f"kind is {wanted!r}: expected one of {', '.join(KINDS)}")
        if wanted not in self.kinds:
            raise ValueError(f"this kernel cannot start as {wanted}: its ELF notes are for {self.kinds[0]}")
        return wanted


def _payload(data: bytes) -> bytes:
    """The payload of a bzImage (Linux: Documentation/arch/x86/boot.rst); other files unchanged."""
    if data[_SETUP_MAGIC_AT : _SETUP_MAGIC_AT + 4] != _SETUP_MAGIC or len(data) < _SETUP_END:
        return data
    if data[_BOOT_FLAG_AT : _BOOT_FLAG_AT + 2] != _BOOT_FLAG:
        return data
    (version,) = struct.unpack_from("<H", data, _SETUP_VERSION_AT)
    if version < _PAYLOAD_SINCE:
        raise errors.DecodeError(
            f"the bzImage has boot protocol {version >> 8}.{version & 255:02}: Xen guests begin with 2.08"
        )
    offset, size = struct.unpack_from("<II", data, _PAYLOAD_AT)
    start = (1 + (data[_SETUP_SECTORS_AT] or 4)) * _SECTOR + offset
    if start + size > len(data):
        raise errors.DecodeError("the payload of the bzImage reaches beyond the end of the file")
    return data[start : start + size]


def _expanded(data: bytes, most: int) -> bytes:
    if data.startswith(elf.MAGIC):
        return data
    from pyxc.guest import compression

    return compression.expand(data, most)


def _text(notes: dict[int, bytes], note: NoteType) -> bytes:
    return notes.get(note, b"").split(b"\0", 1)[0]


def _is_pvh(elf: Elf, notes: dict[int, bytes]) -> bool:
    return NoteType.PHYS32_ENTRY in notes and elf.machine in (_MACHINE_386, _MACHINE_X86_64)


def _is_pv(elf: Elf, notes: dict[int, bytes]) -> bool:
    generic = _text(notes, NoteType.LOADER).startswith(b"generic")
    linux = _text(notes, NoteType.GUEST_OS).startswith(b"linux")
    if not (_text(notes, NoteType.XEN_VERSION).startswith(b"xen-3.0") and (generic or linux)):
        return False
    # No Xen since 2009 runs a 32-bit kernel without PAE.
    pae = _text(notes, NoteType.PAE_MODE) not in (b"", b"no")
    return elf.machine == _MACHINE_X86_64 or (elf.machine == _MACHINE_386 and pae)
