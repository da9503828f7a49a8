# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: memory of domains, and settings of theirs that a number says."""

from __future__ import annotations

from typing import SupportsIndex

from pyxc.abi import domctl, domctl_paging, domctl_sharing, hvm, memory
from pyxc.abi.memory import MemoryType
from pyxc.compat.xc import base as c
from pyxc.compat.xc.base import Handle, raises_error

_PAGE_KB = 4
_U64_MASK = 2**64 - 1


@raises_error
class Memory(Handle):
    """Memory of domains."""

    def domain_setmaxmem(self, dom: SupportsIndex, maxmem_kb: SupportsIndex, /) -> int:
        """Limit how much memory a domain may have.

         dom       [int]: the domain's id
         maxmem_kb [int]: KiB; more than 2 TiB, too

        Returns: [int] 0.
        """
        self._open.call(domctl.MAX_MEM, c.domid(dom), max_memkb=c.size(maxmem_kb))
        return 0

    def domain_set_target_mem(self, dom: SupportsIndex, mem_kb: SupportsIndex, /) -> int:
        """Set the memory of a populate-on-demand domain. Another domain is not changed.

         dom    [int]: the domain's id
         mem_kb [int]: KiB; more than 2 TiB, too

        Returns: [int] 0.
        """
        self._open.call(memory.SET_POD_TARGET, c.domid(dom), target_pages=c.size(mem_kb) // _PAGE_KB)
        return 0

    def domain_set_memmap_limit(self, dom: SupportsIndex, map_limitkb: SupportsIndex, /) -> int:
        """Tell a PV domain that its memory map is one range of RAM.

         dom         [int]: the domain's id
         map_limitkb [int]: where it ends, in KiB

        Returns: [int] 0.
        """
        layout = memory.MEMORY_MAP_ENTRY_STRUCT.at(self._open.interface)
        entry = layout.pack({"addr": 0, "size": c.size(map_limitkb) << 10, "type": MemoryType.RAM})
        self._open.call(memory.SET_MEMORY_MAP, c.domid(dom), **{"map.nr_entries": 1, "map.buffer": entry})
        return 0

    def pages_to_kib(self, pages: SupportsIndex, /) -> int:
        """Count in KiB.

         pages [int]: how many pages

        Returns: [int] as KiB.
        """
        return c.wide(pages) * _PAGE_KB & _U64_MASK

    def shadow_control(self, dom: SupportsIndex, op: SupportsIndex = 0) -> int:
        """Change the mode of Xen's own page tables for a domain.

         dom [int]:    the domain's id
         op  [int, 0]: 0: no shadow, 2: log which pages are written, ... (XEN_DOMCTL_SHADOW_OP_*)

        Returns: [int] 0.
        """
        self._open.call(domctl_paging.SHADOW_OP, c.domid(dom), op=c.unsigned(op))
        return 0

    def shadow_mem_control(self, dom: SupportsIndex, mb: SupportsIndex = -1) -> int:
        """Read or set how much memory Xen may use for the page tables of a domain.

         dom [int]:     the domain's id
         mb  [int, -1]: MiB; -1 only reads

        Returns: [int] MiB.
        """
        wanted = c.integer(mb)
        if wanted < 0:
            reply = self._open.call(domctl_paging.SHADOW_OP_GET_ALLOCATION, c.domid(dom))
        else:
            reply = self._open.call(domctl_paging.SHADOW_OP_SET_ALLOCATION, c.domid(dom), mb=wanted)
        return int(reply.field("mb"))

    def dom_set_memshr(self, dom: SupportsIndex, enable: SupportsIndex, /) -> int:
        """Let an HVM domain share pages with others, or not.

         dom    [int]:      the domain's id
         enable [int, 0|1]: whether it may

        Returns: [int] 0.
        """
        wanted = bool(c.integer(enable))
        self._open.call(domctl_sharing.MEM_SHARING_OP_CONTROL, c.domid(dom), **{"u.enable": wanted})
        return 0

    def hvm_get_param(self, domid: SupportsIndex, param: SupportsIndex) -> int:
        """Read a parameter of an HVM or PVH domain.

         domid [int]: the domain's id
         param [int]: its number (HVM_PARAM_*)

        Returns: [int] its value.
        """
        reply = self._open.call(hvm.GET_PARAM, c.domid(domid), index=c.unsigned(param))
        return int(reply.field("value"))

    def hvm_set_param(self, domid: SupportsIndex, param: SupportsIndex, value: SupportsIndex) -> int:
        """Set a parameter of an HVM or PVH domain.

         domid [int]: the domain's id
         param [int]: its number (HVM_PARAM_*)
         value [int]: its value, of 64 bits

        Returns: [int] 0.
        """
        dom, index = c.domid(domid), c.unsigned(param)
        self._open.call(hvm.SET_PARAM, dom, index=index, value=c.wide(value))
        return 0

    def gnttab_hvm_seed(
        self,
        domid: SupportsIndex,
        console_gmfn: SupportsIndex,
        xenstore_gmfn: SupportsIndex,
        console_domid: SupportsIndex,
        xenstore_domid: SupportsIndex,
    ) -> None:
        """Lend the rings of a new domain's console and xenstore to those that serve them. From Xen 4.12 on.

         domid          [int]: the domain's id
         console_gmfn   [int]: the frame of its console's ring, -1: none
         xenstore_gmfn  [int]: the frame of its xenstore's ring, -1: none
         console_domid  [int]: the domain that serves the console
         xenstore_domid [int]: the domain that serves xenstore

        Returns: None.
        """
        dom = c.domid(domid)
        servers = c.domid(console_domid), c.domid(xenstore_domid)
        frames = c.integer(console_gmfn, c.U32_MOST), c.integer(xenstore_gmfn, c.U32_MOST)
        console, store = (
            None if frame == -1 or server == dom else frame for frame, server in zip(frames, servers)
        )
        self._domain(dom).grants.seed(console, store, *servers)
