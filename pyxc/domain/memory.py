# SPDX-License-Identifier: MIT
"""Memory of a domain: how much, mapping it, giving and taking it, and which frames it is."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from pyxc import answers, arguments, errors, undoing
from pyxc.abi import domctl_paging, domctl_permissions, domctl_sharing, memory
from pyxc.abi.memory import MapSpace, MemoryType
from pyxc.abi.operation import Operation
from pyxc.abi.page import MOST_FRAME, PAGE_KB
from pyxc.call.caller import Reply
from pyxc.domain.extents import Extents
from pyxc.domain.frames import FrameList, Source, list_frames
from pyxc.domain.mapping import Mapping, frame_numbers
from pyxc.domain.p2m import Form, P2m, read_p2m

_BATCH = 1 << 16
"""Extents in one hypercall."""
_PAGING_LEAST_KB = 4096
_MMIO_AT_ONCE = 64
_SPACES = (MapSpace.SHARED_INFO, MapSpace.GRANT_TABLE, MapSpace.GMFN)
"""What one index names a page in."""


class MemoryInfo(NamedTuple):
    """How much memory a domain has, in pages of 4096 bytes (domctl getdomaininfo). None: not told."""

    tot_pages: int
    max_pages: int
    outstanding_pages: int | None
    shr_pages: int | None
    paged_pages: int | None


class PodTarget(NamedTuple):
    """Memory that is populated on demand, in pages of 4096 bytes (memory_op get_pod_target). Frozen.

    The domain owns `tot_pages`, of which `pod_cache_pages` wait to be needed; `pod_entries` pages of its
    address space have none yet.
    """

    tot_pages: int
    pod_cache_pages: int
    pod_entries: int


class E820Entry(NamedTuple):
    """A range of a guest's address space: its first address and its size in bytes, and what it is."""

    start: int
    size: int
    type: MemoryType = MemoryType.RAM


class Memory(Mapping):
    """The memory of one domain. Threads: may be shared.

    Frames are named as the domain's kind names them: machine frames (mfn) of a PV domain, guest frames (gfn)
    of an HVM or PVH domain.
    """

    def info(self) -> MemoryInfo:
        info = self.domain.info()
        return MemoryInfo(
            info.tot_pages, info.max_pages, info.outstanding_pages, info.shr_pages, info.paged_pages
        )

    def populate(self, frames: Iterable[int], order: int = 0) -> array[int]:
        """Give the domain memory at guest frames (memory_op populate_physmap): one extent of 2**order pages
        each.

        The frames are pfns of a PV domain, gfns of an HVM or PVH domain. Returns the first machine frame of
        each extent of a PV domain, the gfns otherwise. All or an error: extents that were given are taken
        back, also when it is interrupted.
        """
        wanted = frame_numbers(frames)
        return self._all_or_none(memory.POPULATE_PHYSMAP, wanted, order)

    def increase(self, count: int, order: int = 0) -> array[int]:
        """Give a PV domain `count` extents without a place (memory_op increase_reservation); returns them."""
        wanted = array("Q", bytes(8 * arguments.natural("count", count, 2**40)))
        return self._all_or_none(memory.INCREASE_RESERVATION, wanted, order)

    def decrease(self, frames: Iterable[int], order: int = 0) -> None:
        """Take extents away (memory_op decrease_reservation).

        What is taken is gone: an error has a note of how many extents were taken before it.
        """
        wanted = frame_numbers(frames)
        self.domain.look()
        given = Extents(self, order, _BATCH)
        with given.counted(len(wanted)):
            given.reserve(memory.DECREASE_RESERVATION, wanted)

    def _all_or_none(self, operation: Operation, wanted: array[int], order: int) -> array[int]:
        """Give the domain extents; take back what was given when not all can be."""
        given = Extents(self, order, _BATCH)
        with undoing.on_failure(given.take_back, f"domain {self.domain.domid} keeps some of the new memory"):
            given.reserve(operation, wanted)
        return given.done

    def claim(self, kb: int) -> None:
        """Set free memory of the host aside, until the domain owns `kb` KiB in all (memory_op claim_pages).

        What is claimed and not yet given is `info().outstanding_pages`. 0 gives up what is left of a claim;
        without that a second claim is EINVAL, as is one for less than it owns or more than its max_mem;
        ENOMEM: the host has not so much. Unsupported before Xen 4.3.
        """
        arguments.natural("kb", kb, 2**54)
        self.domain.change(memory.CLAIM_PAGES, nr_extents=-(-kb // PAGE_KB))

    def pod_target(self) -> PodTarget:
        """The populate-on-demand memory of an HVM domain (memory_op get_pod_target)."""
        return self._pod_target(self.domain.call(memory.GET_POD_TARGET))

    def set_pod_target(self, kb: int) -> PodTarget:
        """How much memory it shall have of what it believes to have (memory_op set_pod_target).

        For an HVM domain that was built with memory on demand; one that has none is left as it is.
        """
        arguments.natural("kb", kb, 2**54)
        self.domain.look()
        return self._pod_target(self.domain.change(memory.SET_POD_TARGET, target_pages=kb // PAGE_KB))

    def paging_pool_kb(self) -> int:
        """KiB for Xen's own page tables of an HVM domain (domctl get_paging_mempool_size).

        Before Xen 4.17 in whole MiB (domctl shadow_op GET_ALLOCATION).
        """
        if self.xen.caller.supports(domctl_paging.GET_PAGING_MEMPOOL_SIZE):
            reply = self.domain.call(domctl_paging.GET_PAGING_MEMPOOL_SIZE)
            return int(reply.field("size")) // 1024
        reply = self.domain.call(domctl_paging.SHADOW_OP_GET_ALLOCATION)
        return int(reply.field("mb")) * 1024

    def set_paging_pool(self, kb: int) -> None:
        """Change it, before the domain gets its memory (domctl set_paging_mempool_size).

        A multiple of 4; before Xen 4.17 rounded up to whole MiB (domctl shadow_op SET_ALLOCATION). ENOMEM:
        less than what is in use. default_paging_kb() is what xl gives.
        """
        arguments.natural("kb", kb, 2**42)
        if kb % PAGE_KB:
            raise ValueError(f"kb is {kb}: it must be a multiple of {PAGE_KB}, the size of a page")
        if self.xen.caller.supports(domctl_paging.SET_PAGING_MEMPOOL_SIZE):
            self.domain.change(domctl_paging.SET_PAGING_MEMPOOL_SIZE, size=kb * 1024)
        else:
            self.domain.change(domctl_paging.SHADOW_OP_SET_ALLOCATION, mb=-(-kb // 1024))

    def set_e820(self, entries: Iterable[E820Entry]) -> None:
        """The memory map that the guest is told when it asks Xen (memory_op set_memory_map).

        At most 1024 entries (128 before Xen 4.9), else EINVAL. It is a word, no limit: that is
        Domain.set_max_memory().
        """
        layout = memory.MEMORY_MAP_ENTRY_STRUCT.at(self.xen.interface)
        packed = [layout.pack(_e820_fields(entry)) for entry in entries]
        self.domain.change(
            memory.SET_MEMORY_MAP,
            **{"map.nr_entries": len(packed), "map.buffer": b"".join(packed) or layout.size},
        )

    def add_to_physmap(self, space: MapSpace, index: int, gfn: int) -> None:
        """Put a page that is not its own memory at a guest frame (memory_op add_to_physmap).

        Of an HVM or PVH domain: its shared_info or grant table frame `index`, or the page at its own frame
        `index` (GMFN), which moves. ValueError for the other spaces, which take more than an index. A PV
        domain gets such pages through its page tables.
        """
        if space not in _SPACES:
            raise ValueError(f"space is {space!r}: expected {' or '.join(one.name for one in _SPACES)}")
        fields = {"space": int(space), "idx": arguments.frame("index", index)}
        arguments.frame("gfn", gfn)
        self.domain.change(memory.ADD_TO_PHYSMAP, **fields, gpfn=gfn)

    def remove_from_physmap(self, gfn: int) -> None:
        """Take the page away that is at a guest frame (memory_op remove_from_physmap, Xen 4.2 on)."""
        arguments.frame("gfn", gfn)
        self.domain.change(memory.REMOVE_FROM_PHYSMAP, gpfn=gfn)

    def map_mmio(self, gfn: int, mfn: int, count: int = 1) -> None:
        """Let guest frames be machine frames of a device (domctl memory_mapping): all, or none and an error.

        Permissions.allow_memory() comes first, else EPERM. Nothing happens to a PV domain.
        """
        _check_mmio(gfn, mfn, count)
        try:
            self._memory_mapping(gfn, mfn, count, 1)
        except BaseException:
            with suppress(errors.Error):  # it ends at the first frame that was not mapped
                self._memory_mapping(gfn, mfn, count, 0)
            raise

    def unmap_mmio(self, gfn: int, mfn: int, count: int = 1) -> None:
        """Undo map_mmio(). EINVAL when a frame was not so mapped; others may be unmapped then."""
        _check_mmio(gfn, mfn, count)
        self._memory_mapping(gfn, mfn, count, 0)

    def set_sharing(self, enabled: bool) -> None:
        """Whether its pages may be shared with other domains' (domctl mem_sharing_op CONTROL).

        HVM domains with hardware-assisted paging only. Unsupported by most builds of Xen.
        """
        self.domain.change(domctl_sharing.MEM_SHARING_OP_CONTROL, **{"u.enable": bool(enabled)})

    def frames(self, types: bool = False, force: bool = False, source: Source | None = None) -> FrameList:
        """The frames that the domain owns; see FrameList. Pause it for a list that is of one moment.

        `source` takes them from there and nowhere else: one of pyxc.domain.frames.SOURCES, else ValueError;
        Unsupported where this hypervisor or guest does not have it.
        """
        return list_frames(self, types, force, source)

    def p2m(self, source: Form | None = None) -> P2m:
        """The map from pfn to machine frame of a PV domain, as the guest keeps it; see P2m.

        `source` forces one of its two forms, "p2m_vaddr" or "frame_list_list"; Unsupported where there is
        none.
        """
        return read_p2m(self, source)

    def _pod_target(self, reply: Reply) -> PodTarget:
        return PodTarget(*(reply.field(name) for name in PodTarget._fields))

    def _memory_mapping(self, gfn: int, mfn: int, count: int, add: int) -> None:
        """In pieces: since Xen 4.7 it says how many frames it has done, 4.6 refuses more than 64."""
        done, most = 0, count
        while done < count:
            some = min(most, count - done)
            fields = {"first_gfn": gfn + done, "first_mfn": mfn + done, "nr_mfns": some}
            try:
                reply = self.domain.change(domctl_permissions.MEMORY_MAPPING, **fields, add_mapping=add)
            except errors.HypercallError as error:
                if error.errno != errno.E2BIG or some <= _MMIO_AT_ONCE:
                    raise
                most = _MMIO_AT_ONCE
            else:
                done += answers.number("number of frames done", reply.result, some) or some

    def __repr__(self) -> str:
        return f"<Memory of domain {self.domain.domid}>"


def default_paging_kb(vcpus: int, memory_kb: int) -> int:
    """What xl gives a guest for Xen's own page tables: 1 MiB for each vcpu, 8 KiB for each MiB of memory.

    At least 4 MiB: enough for the tables of a guest so small that the formula gives it too little.
    """
    return max(_PAGING_LEAST_KB, PAGE_KB * (256 * vcpus + 2 * -(-memory_kb // 1024)))


def _check_mmio(gfn: int, mfn: int, count: int) -> None:
    arguments.frame("gfn", gfn)
    arguments.frame("mfn", mfn)
    arguments.natural("count", count, MOST_FRAME - max(gfn, mfn) + 1, 1)


def _e820_fields(entry: E820Entry) -> dict[str, int]:
    start, size, kind = entry
    arguments.natural("start", start, 2**64 - 1)
    arguments.natural("size", size, 2**64 - start)
    return {"addr": start, "size": min(size, 2**64 - 1), "type": int(MemoryType(kind))}
