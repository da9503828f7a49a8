# SPDX-License-Identifier: MIT
"""Small core dumps in Xen's format, made without a host, for what reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from pyxc.abi.layout import Interface
from pyxc.domain.registers import VcpuContext
from pyxc.guest import core_format
from pyxc.guest.core_format import Section

PAGE = 4096
LAYOUTS = Interface((4, 17))
VERSION = struct.pack(
    "<2Q16s144s1024s64s2Q", 4, 17, b".6", b"gcc", b"xen-3.0-x86_64 hvm-3.0-x86_64", b"abc", 1 << 47, PAGE
)


def context(bits: int = 64, **registers: int) -> bytes:
    """The registers of a vcpu, in the space that those of any guest have."""
    made = VcpuContext.zero(bits, LAYOUTS).replace(**registers)
    return made.encode().ljust(VcpuContext.size(64, LAYOUTS), b"\0")


def core(
    pages: Mapping[int, bytes],
    contexts: list[bytes],
    frames: Mapping[int, int] | None = None,
    missing: int = 0,
) -> bytes:
    """A dump with these pages by guest frame; `frames` are the machine frames of a PV domain."""
    total = len(pages) + missing
    header = (core_format.MAGIC_HVM if frames is None else core_format.MAGIC_PV, len(contexts), total, PAGE)
    notes = core_format.note("<", core_format.NONE) + core_format.note(
        "<", core_format.HEADER, struct.pack("<4Q", *header)
    )
    notes += core_format.note("<", core_format.XEN_VERSION, VERSION)
    listed = [[gfn] if frames is None else [gfn, frames[gfn]] for gfn in sorted(pages)]
    listed += [[core_format.INVALID] * (1 if frames is None else 2)] * missing
    words = [word for row in listed for word in row]
    size = VcpuContext.size(64, LAYOUTS)
    sections = [
        core_format.note_section(notes),
        Section(".xen_prstatus", size * len(contexts), 8, size),
        Section(".xen_pages", PAGE * total, PAGE, PAGE),
        Section(".xen_pfn" if frames is None else ".xen_p2m", 8 * len(words), 8, 8 if frames is None else 16),
    ]
    head = core_format.begin("<", "x86_64", sections) + notes + b"".join(contexts)
    head += bytes(core_format.padding(len(head), sections[2]))
    contents = b"".join(pages[gfn].ljust(PAGE, b"\0") for gfn in sorted(pages)) + bytes(PAGE * missing)
    return head + contents + struct.pack(f"<{len(words)}Q", *words) + core_format.names(sections)
