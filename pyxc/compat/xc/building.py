# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: building PV guests, as the original could until Xen 4.6, for xend and programs like it."""

from __future__ import annotations

from typing import Any, SupportsIndex

from pyxc.compat.xc import base as c
from pyxc.compat.xc.base import Handle, raises_error
from pyxc.guest.build import Ports, fill_pv
from pyxc.guest.contents import Contents
from pyxc.guest.images import Kernel, NoteType

_IMAGE_MOST = 1 << 30
_TYPES = {32: "xen-3.0-x86_32p", 64: "xen-3.0-x86_64"}
_PROTOCOLS = {32: "x86_32-abi", 64: "x86_64-abi"}
_TEXTS = frozenset(
    (
        NoteType.XEN_VERSION,
        NoteType.GUEST_OS,
        NoteType.GUEST_VERSION,
        NoteType.LOADER,
        NoteType.PAE_MODE,
        NoteType.FEATURES,
        NoteType.BSD_SYMTAB,
    )
)


@raises_error
class Building(Handle):
    """PV guests in domains that the program has created."""

    def linux_build(
        self,
        domid: SupportsIndex,
        store_evtchn: SupportsIndex,
        memsize: SupportsIndex,
        console_evtchn: SupportsIndex,
        image: str,
        ramdisk: str | None = None,
        cmdline: str = "",
        flags: SupportsIndex = 0,
        features: str | None = None,
        vhpt: SupportsIndex = 0,
        superpages: SupportsIndex = 0,
    ) -> dict[str, Any]:
        """Load a PV kernel into a new domain, whose vcpus and limit of memory are set. It stays paused.

         domid          [int]: the domain's id
         store_evtchn   [int]: its port for xenstore, see evtchn_alloc_unbound
         memsize        [int]: its memory in MiB
         console_evtchn [int]: its port for its console
         image          [str]: the path of the kernel
         ramdisk        [str, None]: the path of its ramdisk
         cmdline        [str, ""]: its command line
         flags, features, vhpt, superpages: without effect; the notes of the kernel say what it can

        Returns: [dict] 'store_mfn' and 'console_mfn', the frames of its rings, 'notes', the ELF notes of the
        kernel by name, and 'native_protocol' of its devices.
        """
        domain = self._domain(c.domid(domid))
        ports = Ports(c.unsigned(store_evtchn), c.unsigned(console_evtchn))
        memory_kb = c.size(memsize) << 10
        for unused in (flags, vhpt, superpages):
            c.integer(unused)
        kernel, rings = fill_pv(
            domain,
            c.text(image),
            memory_kb,
            b"" if ramdisk is None else c.text(ramdisk),
            c.text(cmdline),
            ports,
        )
        return {
            "store_mfn": rings.store_frame,
            "console_mfn": rings.console_frame,
            "notes": _notes(kernel),
            "native_protocol": _PROTOCOLS[kernel.bits],
        }

    def getBitSize(self, image: str, cmdline: str = "", features: str | None = None) -> dict[str, str]:
        """Tell which kind of PV guest a kernel is.

         image    [str]: the path of the kernel
         cmdline  [str, ""]: without effect
         features [str, None]: without effect

        Returns: [dict] 'type': xen-3.0-x86_64 or xen-3.0-x86_32p.
        """
        with Contents("kernel", c.text(image), _IMAGE_MOST) as content:
            kernel = Kernel.decode(bytes(content[:]), _IMAGE_MOST)
        kernel.kind("pv")
        return {"type": _TYPES[kernel.bits]}


def _notes(kernel: Kernel) -> dict[str, int | str]:
    """As the original has them: numbers and texts by the names of the notes."""
    found: dict[str, int | str] = {}
    for number, data in kernel.notes.items():
        if number in NoteType.__members__.values():
            note = NoteType(number)
            text = data.split(b"\0", 1)[0].decode("ascii", "replace")
            found[note.name] = text if note in _TEXTS else int.from_bytes(data[:8], "little")
    return found
