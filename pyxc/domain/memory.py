# SPDX-License-Identifier: MIT
"""Memory of a domain: how much, mapping it, giving and taking it, and which frames it is."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from pyxc import answers, arguments, errors
from pyxc._core import PAGE_SIZE, ForeignMap
from pyxc.abi import domctl_paging, domctl_permissions, domctl_sharing, memory
from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.memory import MapSpace, MemoryType
from pyxc.abi.operation import Operation
from pyxc.call.caller import Reply
from pyxc.domain.frames import FrameList, list_frames
from pyxc.domain.p2m import P2m, read_p2m

if TYPE_CHECKING:
    from pyxc.domain.domain import Domain

_FRAME_MAX = 2**52 - 1
_ORDER_MAX = 18
_BATCH = 1 << 16


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


class Memory:
    """The memory of one domain. Threads: may be used by many.

    Frames are named as the domain's kind names them: machine frames (mfn) of a PV domain, guest frames (gfn)
    of an HVM or PVH domain.
    """

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._xen = domain.xen

    def info(self) -> MemoryInfo:
        info = self._domain.info()
        return MemoryInfo(
            info.tot_pages, info.max_pages, info.outstanding_pages, info.shr_pages, info.paged_pages
        )

    def map(self, frames: int | Iterable[int], writable: bool = False) -> ForeignMap:
        """Frames in this process's memory, one after the other, without a copy: memoryview(map).

        Close it, or use it in a `with`; an open mapping keeps a destroyed domain from going away. OSError
        names the first frame that could not be mapped. To map writable, the domain must still be the one it
        was (DomainGone).
        """
        wanted = _frames(frames)
        if not wanted:
            raise ValueError("no frame is given")
        if writable:
            self._xen.check_writable("mapping memory writable")
        self._check_same(writable)
        mapped = self._xen.link.map_frames(self._mapping_domid(), wanted, writable)
        for frame, number in zip(wanted, mapped.errors):
            if number:
                mapped.close()
                raise errors.from_errno(
                    abs(number),
                    "privcmd.mmapbatch",
                    self._domain.domid,
                    hint=f"frame {frame:#x} cannot be mapped",
                )
        return mapped

    def read(self, frame: int, offset: int = 0, size: int = PAGE_SIZE) -> bytes:
        """A copy of bytes that start in a frame; more than a page goes on in the next frames."""
        with self.map(_span(frame, offset, size)) as mapped:
            return bytes(memoryview(mapped)[offset : offset + size])

    def write(self, frame: int, data: bytes, offset: int = 0) -> None:
        """Write bytes that start in a frame; more than a page goes on in the next frames."""
        with self.map(_span(frame, offset, len(data)), writable=True) as mapped, memoryview(mapped) as view:
            view[offset : offset + len(data)] = data

    def populate(self, frames: Iterable[int], order: int = 0) -> array[int]:
        """Give the domain memory at guest frames (memory_op populate_physmap): one extent of 2**order pages
        each.

        The frames are pfns of a PV domain, gfns of an HVM or PVH domain. Answers the first machine frame of
        each extent of a PV domain, the gfns otherwise. All or an error: extents that were given are taken
        back.
        """
        wanted = _frames(frames)
        done = self._reserve(memory.POPULATE_PHYSMAP, wanted, order)
        if len(done) < len(wanted):
            if done:
                self._reserve(memory.DECREASE_RESERVATION, done, order)
            raise self._short(memory.POPULATE_PHYSMAP.full_name, len(done), len(wanted))
        return done

    def increase(self, count: int, order: int = 0) -> array[int]:
        """Give a PV domain `count` extents without a place (memory_op increase_reservation); answers them."""
        wanted = array("Q", bytes(8 * arguments.natural("count", count, 2**40)))
        done = self._reserve(memory.INCREASE_RESERVATION, wanted, order)
        if len(done) < count:
            if done:
                self._reserve(memory.DECREASE_RESERVATION, done, order)
            raise self._short(memory.INCREASE_RESERVATION.full_name, len(done), count)
        return done

    def decrease(self, frames: Iterable[int], order: int = 0) -> None:
        """Take extents away (memory_op decrease_reservation). The error tells how many were taken."""
        wanted = _frames(frames)
        self._domain.info()
        done = self._reserve(memory.DECREASE_RESERVATION, wanted, order)
        if len(done) < len(wanted):
            raise self._short(memory.DECREASE_RESERVATION.full_name, len(done), len(wanted))

    def claim(self, kb: int) -> None:
        """Set free memory of the host aside, until the domain owns `kb` KiB in all (memory_op claim_pages).

        What is claimed and not yet given is `info().outstanding_pages`. 0 gives up what is left of a claim;
        without that a second claim is EINVAL, as is one for less than it owns or more than its max_mem;
        ENOMEM: the host has not so much. Unsupported before Xen 4.3.
        """
        arguments.natural("kb", kb, 2**54)
        self._domain.info()
        self._xen.call(memory.CLAIM_PAGES, self._domain.domid, nr_extents=-(-kb // 4))

    def pod_target(self) -> PodTarget:
        """The populate-on-demand memory of an HVM domain (memory_op get_pod_target)."""
        return self._pod_target(self._xen.call(memory.GET_POD_TARGET, self._domain.domid))

    def set_pod_target(self, kb: int) -> PodTarget:
        """How much memory it shall have of what it believes to have (memory_op set_pod_target).

        For an HVM domain that was built with memory on demand; one that has none is left as it is.
        """
        arguments.natural("kb", kb, 2**54)
        self._domain.info()
        return self._pod_target(
            self._xen.call(memory.SET_POD_TARGET, self._domain.domid, target_pages=kb // 4)
        )

    def paging_pool_kb(self) -> int:
        """KiB for Xen's own page tables of an HVM domain (domctl get_paging_mempool_size).

        Before Xen 4.17 in whole MiB (domctl shadow_op GET_ALLOCATION).
        """
        if self._xen.caller.supports(domctl_paging.GET_PAGING_MEMPOOL_SIZE):
            reply = self._xen.call(domctl_paging.GET_PAGING_MEMPOOL_SIZE, self._domain.domid)
            return int(reply.field("size")) // 1024
        reply = self._xen.call(domctl_paging.SHADOW_OP_GET_ALLOCATION, self._domain.domid)
        return int(reply.field("mb")) * 1024

    def set_paging_pool(self, kb: int) -> None:
        """Change it, before the domain gets its memory (domctl set_paging_mempool_size).

        A multiple of 4; before Xen 4.17 rounded up to whole MiB (domctl shadow_op SET_ALLOCATION). ENOMEM:
        less than what is in use. xl gives 1 MiB for each vcpu and 8 KiB for each MiB of memory.
        """
        arguments.natural("kb", kb, 2**42)
        if kb % 4:
            raise ValueError(f"kb is {kb}: it must be a multiple of 4, which is a page")
        self._domain.info()
        if self._xen.caller.supports(domctl_paging.SET_PAGING_MEMPOOL_SIZE):
            self._xen.call(domctl_paging.SET_PAGING_MEMPOOL_SIZE, self._domain.domid, size=kb * 1024)
        else:
            self._xen.call(domctl_paging.SHADOW_OP_SET_ALLOCATION, self._domain.domid, mb=-(-kb // 1024))

    def set_e820(self, entries: Iterable[E820Entry]) -> None:
        """The memory map that the guest is told when it asks Xen (memory_op set_memory_map).

        At most 1024 entries (128 before Xen 4.9), else EINVAL. It is a word, no limit: that is
        Domain.set_max_memory().
        """
        layout = memory.MEMORY_MAP_ENTRY_STRUCT.at(self._xen.interface)
        packed = [layout.pack(_e820_fields(entry)) for entry in entries]
        self._domain.info()
        self._xen.call(
            memory.SET_MEMORY_MAP,
            self._domain.domid,
            **{"map.nr_entries": len(packed), "map.buffer": b"".join(packed) or layout.size},
        )

    def add_to_physmap(self, space: MapSpace, index: int, gfn: int) -> None:
        """Put a page that is not its own memory at a guest frame (memory_op add_to_physmap).

        Of an HVM or PVH domain: its shared_info or grant table frame `index`, or the page at its own frame
        `index` (GMFN), which moves. A PV domain gets such pages through its page tables.
        """
        fields = {"space": int(MapSpace(space)), "idx": arguments.natural("index", index, _FRAME_MAX)}
        arguments.natural("gfn", gfn, _FRAME_MAX)
        self._domain.info()
        self._xen.call(memory.ADD_TO_PHYSMAP, self._domain.domid, **fields, gpfn=gfn)

    def remove_from_physmap(self, gfn: int) -> None:
        """Take the page away that is at a guest frame (memory_op remove_from_physmap, Xen 4.2 on)."""
        arguments.natural("gfn", gfn, _FRAME_MAX)
        self._domain.info()
        self._xen.call(memory.REMOVE_FROM_PHYSMAP, self._domain.domid, gpfn=gfn)

    def map_mmio(self, gfn: int, mfn: int, count: int = 1) -> None:
        """Let guest frames be machine frames of a device (domctl memory_mapping).

        Permissions.allow_memory() comes first, else EPERM. Nothing happens to a PV domain.
        """
        self._memory_mapping(gfn, mfn, count, 1)

    def unmap_mmio(self, gfn: int, mfn: int, count: int = 1) -> None:
        """Undo map_mmio()."""
        self._memory_mapping(gfn, mfn, count, 0)

    def set_sharing(self, enabled: bool) -> None:
        """Whether its pages may be shared with other domains' (domctl mem_sharing_op CONTROL).

        HVM domains with hardware-assisted paging only. Unsupported by most builds of Xen.
        """
        self._domain.info()
        self._xen.call(
            domctl_sharing.MEM_SHARING_OP_CONTROL, self._domain.domid, **{"u.enable": bool(enabled)}
        )

    def maximum_gpfn(self) -> int:
        """The highest guest frame in use (memory_op maximum_gpfn); of a PV guest what it says of itself.

        0 where it says nothing; before Xen 4.3 the answer then was -1, which reads as EPERM.
        """
        try:
            highest = self._xen.call(memory.MAXIMUM_GPFN, self._domain.domid).result
        except errors.PermissionDenied:
            if self._xen.interface.xen >= (4, 3):
                raise
            return 0
        return answers.number("maximum_gpfn", highest, answers.MOST_FRAME)

    def frames(self, types: bool = False, force: bool = False, source: str | None = None) -> FrameList:
        """The frames that the domain owns; see FrameList. Pause it for a list that is of one moment.

        `source` takes them from there and nowhere else: one of pyxc.domain.frames.SOURCES, else ValueError;
        Unsupported where this hypervisor or guest does not have it.
        """
        return list_frames(self._domain, types, force, source)

    def p2m(self, source: str | None = None) -> P2m:
        """The map from pfn to machine frame of a PV domain, as the guest keeps it; see P2m.

        `source` forces one of its two forms, "p2m_vaddr" or "frame_list_list"; Unsupported where there is
        none.
        """
        return read_p2m(self._domain, source)

    def _pod_target(self, reply: Reply) -> PodTarget:
        return PodTarget(*(reply.field(name) for name in PodTarget._fields))

    def _memory_mapping(self, gfn: int, mfn: int, count: int, add: int) -> None:
        arguments.natural("gfn", gfn, _FRAME_MAX)
        arguments.natural("mfn", mfn, _FRAME_MAX)
        arguments.natural("count", count, _FRAME_MAX - max(gfn, mfn) + 1, 1)
        self._domain.info()
        self._xen.call(
            domctl_permissions.MEMORY_MAPPING,
            self._domain.domid,
            first_gfn=gfn,
            first_mfn=mfn,
            nr_mfns=count,
            add_mapping=add,
        )

    def _check_same(self, writable: bool) -> None:
        """Before a mapping. A restricted handle cannot ask which domain has the id, but may map only one."""
        only = self._xen.caller.restricted_to
        if only not in (None, self._domain.domid):
            hint = self._xen.caller.restriction
            raise errors.from_errno(errno.EPERM, "privcmd.mmapbatch", self._domain.domid, hint=hint)
        if only is None and writable:
            self._domain.info()

    def _mapping_domid(self) -> int:
        """Xen lets nobody name himself as foreign; dom0's own memory is mapped as DOMID_SELF."""
        return DOMID_SELF if self._domain.domid == self._xen.own_domid else self._domain.domid

    def _reserve(self, operation: Operation, frames: array[int], order: int) -> array[int]:
        """Run a reservation operation on extents, in batches; answers the extents that were done."""
        arguments.natural("order", order, _ORDER_MAX)
        done = array("Q")
        for start in range(0, len(frames), _BATCH):
            part = frames[start : start + _BATCH]
            extents = self._xen.words(part.tobytes()).tobytes()
            reply = self._xen.call(
                operation, self._domain.domid, extent_start=extents, nr_extents=len(part), extent_order=order
            )
            done.extend(self._xen.words(reply.buffers["extent_start"][: 8 * reply.result]))
            if reply.result < len(part):
                break
        return done

    def _short(self, operation: str, done: int, wanted: int) -> errors.HypercallError:
        hint = f"{done} of {wanted} extents were done: raise the domain's max_mem, or free memory on the host"
        return errors.from_errno(errno.ENOMEM, operation, self._domain.domid, hint=hint)

    def __repr__(self) -> str:
        return f"<Memory of domain {self._domain.domid}>"


def _e820_fields(entry: E820Entry) -> dict[str, int]:
    start, size, kind = entry
    arguments.natural("start", start, 2**64 - 1)
    arguments.natural("size", size, 2**64 - start)
    return {"addr": start, "size": min(size, 2**64 - 1), "type": int(MemoryType(kind))}


def _frames(frames: int | Iterable[int]) -> array[int]:
    """Frame numbers as u64. Those of an array of u64 are not looked at: what is none fails by itself."""
    if isinstance(frames, array) and frames.typecode == "Q":
        return frames
    if isinstance(frames, int):
        frames = (frames,)
    try:
        found = array("Q", frames)
    except OverflowError as error:
        raise ValueError(f"not a frame number: {error}") from error
    if found and max(found) > _FRAME_MAX:
        raise ValueError(f"{max(found):#x} is not a frame number")
    return found


def _span(frame: int, offset: int, size: int) -> range:
    """The frames that hold `size` bytes from an offset in the first."""
    arguments.natural("frame", frame, _FRAME_MAX)
    arguments.natural("offset", offset, PAGE_SIZE - 1)
    if arguments.natural("size", size, 2**40) == 0:
        raise ValueError("size is 0: there is nothing to read or write")
    return range(frame, frame + (offset + size + PAGE_SIZE - 1) // PAGE_SIZE)
