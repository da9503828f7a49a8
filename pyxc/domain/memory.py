# SPDX-License-Identifier: MIT
"""Memory of a domain: its size, mapping it, adding and removing it, and its frames."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pyxc import arguments, errors, undoing
from pyxc.abi import domctl_paging, memory
from pyxc.abi.errno import XenErrno
from pyxc.abi.memory import MapSpace, MemoryType
from pyxc.abi.operation import Operation
from pyxc.abi.page import PAGE_KB
from pyxc.call.reply import Reply
from pyxc.domain.extents import Extents
from pyxc.domain.info import MOST_VCPUS
from pyxc.domain.mapping import Mapping, frame_numbers

if TYPE_CHECKING:  # imported on first use: a domain that is built needs none of them
    from pyxc.domain.address_space import Physical, Virtual
    from pyxc.domain.frame_runs import FrameRun, Progress
    from pyxc.domain.frames import FrameList, Source
    from pyxc.domain.p2m import Form, P2m
    from pyxc.domain.vcpus import Vcpu

_BATCH = 1 << 16
"""Extents in one hypercall."""
_PAGING_LEAST_KB = 4096
_SPACES = (MapSpace.SHARED_INFO, MapSpace.GRANT_TABLE, MapSpace.GMFN)
"""The spaces in which one index identifies a page."""


class MemoryInfo(NamedTuple):
    """The memory of a domain, in pages of 4096 bytes (domctl getdomaininfo). None: not reported.

    Example:

    >>> web.memory.info()
    MemoryInfo(tot_pages=16384, max_pages=16640, outstanding_pages=0, shr_pages=0, paged_pages=0)
    """

    tot_pages: int
    max_pages: int
    outstanding_pages: int | None
    shr_pages: int | None
    paged_pages: int | None


class PodTarget(NamedTuple):
    """Memory that is populated on demand, in pages of 4096 bytes (memory_op get_pod_target).

    The domain owns `tot_pages`, of which `pod_cache_pages` are still unused; `pod_entries` pages of its
    address space have no memory yet. Threads: safe to share.

    Example:

    >>> db1.memory.pod_target()
    PodTarget(tot_pages=32776, pod_cache_pages=0, pod_entries=0)
    """

    tot_pages: int
    pod_cache_pages: int
    pod_entries: int


class E820Entry(NamedTuple):
    """A range of a guest's address space: its first address, its size in bytes, and its type.

    Example:

    >>> guest = xen.domains.create(hvm=True, hap=True)
    >>> guest.memory.set_e820([pyxc.E820Entry(0, 8 << 20)])
    """

    start: int
    size: int
    type: MemoryType = MemoryType.RAM


class Memory(Mapping):
    """The memory of one domain. Threads: safe to share.

    Frame numbers are machine frames (mfn) for a PV domain, guest frames (gfn) for an HVM or PVH domain.

    Example:

    >>> web.memory.info().tot_pages
    16384
    """

    def info(self) -> MemoryInfo:
        info = self.domain.info()
        return MemoryInfo(
            info.tot_pages, info.max_pages, info.outstanding_pages, info.shr_pages, info.paged_pages
        )

    def populate(self, frames: Iterable[int], order: int = 0) -> array[int]:
        """Add memory to the domain at guest frames: an extent of 2**order pages at each (memory_op
        populate_physmap).

        The frames are pfns of a PV domain, gfns of an HVM or PVH domain. Returns the first machine frame of
        each extent for a PV domain, the gfns otherwise. All or nothing: after an error or an interrupt the
        new extents are removed again.

        Example:

        >>> guest = xen.domains.create(hvm=True, hap=True)
        >>> guest.set_max_memory(1 << 10)
        >>> guest.memory.set_paging_pool(1 << 10)
        >>> len(guest.memory.populate(range(64))), guest.info().memory_kb
        (64, 256)
        """
        wanted = frame_numbers(frames)
        return self._all_or_none(memory.POPULATE_PHYSMAP, wanted, order)

    def increase(self, count: int, order: int = 0) -> array[int]:
        """Add `count` extents without pfns to a PV domain (memory_op increase_reservation); returns them."""
        wanted = array("Q", bytes(8 * arguments.natural("count", count, 2**40)))
        return self._all_or_none(memory.INCREASE_RESERVATION, wanted, order)

    def decrease(self, frames: Iterable[int], order: int = 0) -> None:
        """Remove extents (memory_op decrease_reservation).

        This cannot be undone: an error has a note with the number of extents that were already removed.
        """
        wanted = frame_numbers(frames)
        self.domain.look()
        given = Extents(self, order, _BATCH)
        with given.counted(len(wanted)):
            given.reserve(memory.DECREASE_RESERVATION, wanted)

    def _all_or_none(self, operation: Operation, wanted: array[int], order: int) -> array[int]:
        """Add extents to the domain, all or none."""
        given = Extents(self, order, _BATCH)
        with undoing.on_failure(given.take_back, f"domain {self.domain.domid} keeps some of the new memory"):
            given.reserve(operation, wanted)
        return given.done

    def claim(self, kb: int) -> None:
        """Reserve free memory of the host for the domain, up to `kb` KiB in total (memory_op claim_pages).

        `info().outstanding_pages` is the claimed memory that the domain has not received yet. 0 ends the
        claim. EINVAL if the domain already has a claim, or for less than it owns or more than its max_mem;
        ENOMEM: the host has not enough free memory. Unsupported before Xen 4.3.
        """
        arguments.natural("kb", kb, 2**54)
        try:
            self.domain.change(memory.CLAIM_PAGES, nr_extents=-(-kb // PAGE_KB))
        except errors.HypercallError as error:
            if error.errno == XenErrno.ENOMEM:
                error.hint = f"{kb >> 10} MiB are claimed{self._free()}"
            raise

    def _free(self) -> str:
        """How much the host has, as the end of a message; "" if this handle may not ask."""
        with suppress(errors.Error):
            host = self.domain.xen.physinfo()
            unclaimed = host.free_pages - (host.outstanding_pages or 0)
            return f", and the host has {unclaimed * PAGE_KB >> 10} MiB that are free"
        return ""

    def pod_target(self) -> PodTarget:
        """The populate-on-demand memory of an HVM domain (memory_op get_pod_target)."""
        return self._pod_target(self.domain.call(memory.GET_POD_TARGET))

    def set_pod_target(self, kb: int) -> PodTarget:
        """Set the memory of an HVM domain that was built with memory on demand (memory_op set_pod_target).

        A domain without memory on demand is not changed.
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
        """Set this pool, before the domain gets its memory (domctl set_paging_mempool_size).

        `kb` is a multiple of 4; before Xen 4.17 it is rounded up to whole MiB (domctl shadow_op
        SET_ALLOCATION). ENOMEM: less than is in use. default_paging_kb() is the size that xl uses.
        """
        arguments.natural("kb", kb, 2**42)
        if kb % PAGE_KB:
            raise ValueError(f"kb is {kb}: it must be a multiple of {PAGE_KB}, the size of a page")
        if self.xen.caller.supports(domctl_paging.SET_PAGING_MEMPOOL_SIZE):
            self.domain.change(domctl_paging.SET_PAGING_MEMPOOL_SIZE, size=kb * 1024)
        else:
            self.domain.change(domctl_paging.SHADOW_OP_SET_ALLOCATION, mb=-(-kb // 1024))

    def set_e820(self, entries: Iterable[E820Entry]) -> None:
        """Set the memory map that the guest reads from Xen (memory_op set_memory_map).

        At most 1024 entries (128 before Xen 4.9), else EINVAL. It does not limit the domain's memory;
        Domain.set_max_memory() does.
        """
        layout = memory.MEMORY_MAP_ENTRY_STRUCT.at(self.xen.interface)
        packed = [layout.pack(_e820_fields(entry)) for entry in entries]
        self.domain.change(
            memory.SET_MEMORY_MAP,
            **{"map.nr_entries": len(packed), "map.buffer": b"".join(packed) or layout.size},
        )

    def add_to_physmap(self, space: MapSpace, index: int, gfn: int) -> None:
        """Map a special page at a guest frame of an HVM or PVH domain (memory_op add_to_physmap).

        The page is its shared_info or its grant table frame `index`, or (GMFN) the page at its own frame
        `index`, which moves. ValueError for the other spaces, which need more than an index. A PV domain
        gets such pages through its page tables.
        """
        if space not in _SPACES:
            raise ValueError(f"space is {space!r}: expected {' or '.join(one.name for one in _SPACES)}")
        fields = {"space": int(space), "idx": arguments.frame("index", index)}
        arguments.frame("gfn", gfn)
        self.domain.change(memory.ADD_TO_PHYSMAP, **fields, gpfn=gfn)

    def remove_from_physmap(self, gfn: int) -> None:
        """Remove the page at a guest frame (memory_op remove_from_physmap, since Xen 4.2)."""
        arguments.frame("gfn", gfn)
        self.domain.change(memory.REMOVE_FROM_PHYSMAP, gpfn=gfn)

    def map_mmio(self, gfn: int, mfn: int, count: int = 1) -> None:
        """Map machine frames of a device at guest frames (domctl memory_mapping): all or none.

        EPERM without Permissions.allow_memory(). This has no effect on a PV domain.
        """
        from pyxc.domain import mmio

        mmio.change(self.domain, gfn, mfn, count, add=True)

    def unmap_mmio(self, gfn: int, mfn: int, count: int = 1) -> None:
        """Undo map_mmio(): all or none. EINVAL if a frame is not mapped like this."""
        from pyxc.domain import mmio

        mmio.change(self.domain, gfn, mfn, count, add=False)

    def set_sharing(self, enabled: bool) -> None:
        """Set whether its pages may be shared with other domains (domctl mem_sharing_op CONTROL).

        HVM domains with hardware-assisted paging only. Unsupported by most builds of Xen.
        """
        from pyxc.abi import domctl_sharing

        self.domain.change(domctl_sharing.MEM_SHARING_OP_CONTROL, **{"u.enable": bool(enabled)})

    def frames(self, types: bool = False, force: bool = False, source: Source | None = None) -> FrameList:
        """The frames that the domain owns; see FrameList. Pause it to get a consistent list.

        `source` selects the only source: one of FrameList.sources(), else ValueError; Unsupported if this
        hypervisor or guest does not have it. `types` adds the type of each frame. `force` continues where
        the query populates memory on demand, or takes long: see pyxc.domain.frames.list_frames().

        Example:

        >>> db1.memory.frames()
        <FrameList of 32776 gfns from getpageframeinfo3>
        """
        from pyxc.domain.frames import list_frames

        return list_frames(self, types, force, source)

    def runs(self, force: bool = False, progress: Progress | None = None) -> Iterator[FrameRun]:
        """What the address space consists of, from frame 0 on: memory, page tables, holes; see FrameRun.

        The frames are gfns, or pfns of a PV domain, which publishes its p2m, else Unsupported. They are asked
        for while the runs are taken; pause the domain for a consistent picture. `force` as for frames().
        `progress` is called with the pages found so far and those that the domain owns.

        Example:

        >>> sum(run.nr_frames for run in web.memory.runs() if run.kind == "l1tab")
        1
        """
        from pyxc.domain.frame_runs import frame_runs

        return frame_runs(self, force, progress)

    def p2m(self, source: Form | None = None) -> P2m:
        """The map from pfns to machine frames of a PV domain, as published by the guest; see P2m.

        `source` selects one of its two forms, "p2m_vaddr" or "frame_list_list"; Unsupported if there is none.

        Example:

        >>> web.memory.p2m()
        <P2m of 16494 pfns from p2m_vaddr>
        """
        from pyxc.domain.p2m import read_p2m

        return read_p2m(self, source)

    @property
    def physical(self) -> Physical:
        """What the guest regards as its physical memory, by address; see AddressSpace.

        Gfns of an HVM or PVH domain, pfns of a PV domain, whose p2m is read for it (Unsupported for a 32-bit
        one). `physical(writable=True)` can be written, too.

        Example:

        >>> db1.memory.physical.c_string(0x100000)
        b'db1: simulated PVH kernel'
        """
        from pyxc.domain.address_space import Physical

        return Physical(self)

    def virtual(self, source: Vcpu | int = 0, *, writable: bool = False) -> Virtual:
        """Memory by virtual address, through the page tables that a vcpu uses now; see AddressSpace.

        `source` is a vcpu, its number, or a value of cr3, as of another process: then the mode is that of
        vcpu 0. Unsupported for HVM before Xen 4.10.

        Example:

        >>> hex(web.memory.virtual(web.vcpu(0)).u64(0xFFFF_C900_0000_1000))
        '0x4b804'
        """
        from pyxc.domain import paging
        from pyxc.domain.address_space import Virtual

        number = source if isinstance(source, int) else source.index
        if number < MOST_VCPUS:
            how = paging.of_vcpu(self.domain, arguments.natural("vcpu", number, MOST_VCPUS - 1))
        else:
            how = paging.of_vcpu(self.domain, 0).with_root(arguments.natural("cr3", number, 2**64 - 1))
        return Virtual(self, how, writable)

    def _pod_target(self, reply: Reply) -> PodTarget:
        return PodTarget(*(reply.field(name) for name in PodTarget._fields))

    def __repr__(self) -> str:
        return f"<Memory of domain {self.domain.domid}>"


def default_paging_kb(vcpus: int, memory_kb: int) -> int:
    """What xl gives a guest for Xen's own page tables: 1 MiB for each vcpu, 8 KiB for each MiB of memory.

    At least 4 MiB: enough for the tables of a guest so small that the formula gives it too little.
    """
    return max(_PAGING_LEAST_KB, PAGE_KB * (256 * vcpus + 2 * -(-memory_kb // 1024)))


def _e820_fields(entry: E820Entry) -> dict[str, int]:
    start, size, kind = entry
    arguments.natural("start", start, 2**64 - 1)
    arguments.natural("size", size, 2**64 - start)
    return {"addr": start, "size": min(size, 2**64 - 1), "type": int(MemoryType(kind))}
