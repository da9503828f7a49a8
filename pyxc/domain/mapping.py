# SPDX-License-Identifier: MIT
"""A domain's frames in this process's memory."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable

from pyxc import answers, arguments, errors
from pyxc._core import PAGE_SIZE, ForeignMap
from pyxc.abi import memory
from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.page import MOST_FRAME
from pyxc.domain.identity import Identity


class Mapping:
    """Access to the frames of one domain. Threads: safe to share.

    Frame numbers are machine frames (mfn) for a PV domain, guest frames (gfn) for an HVM or PVH domain.
    """

    def __init__(self, domain: Identity) -> None:
        self.domain = domain
        self.xen = domain.xen

    def map(self, frames: int | Iterable[int], writable: bool = False) -> ForeignMap:
        """Map frames into this process's memory, contiguously and without a copy: memoryview(map).

        Close the mapping, or use it in a `with` statement; an open mapping keeps a destroyed domain from
        disappearing. OSError names the first frame that could not be mapped. DomainGone: another domain has
        the id.

        Example:

        >>> with db1.memory.map([0x100, 0x101]) as pages, memoryview(pages) as view:
        ...     len(view), bytes(view[:3])
        (8192, b'db1')
        """
        wanted = frame_numbers(frames)
        if not wanted:
            raise ValueError("frames is empty: expected at least one frame")
        if writable:
            self.xen.check_writable("mapping memory writable")
        mapped = self._mapped(wanted, writable)
        for frame, number in zip(wanted, mapped.errors):
            if number:
                mapped.close()
                raise errors.from_errno(
                    abs(number),
                    "privcmd.mmapbatch",
                    self.domain.domid,
                    hint=f"frame {frame:#x} cannot be mapped",
                )
        return mapped

    def map_present(self, frames: array[int]) -> ForeignMap:
        """Map frames, some of which may not exist: `errors` says which. Such a map hands out no memory.

        DomainGone as for map().
        """
        return self._mapped(frames, writable=False)

    def _mapped(self, frames: array[int], writable: bool) -> ForeignMap:
        self._check_allowed()
        return self.domain.confirm(self.xen.link.map_frames(self._mapping_domid(), frames, writable))

    def read(self, frame: int, offset: int = 0, size: int = PAGE_SIZE) -> bytes:
        """A copy of bytes that start in a frame and may continue in the next frames.

        Example:

        >>> db1.memory.read(0x100, size=25)
        b'db1: simulated PVH kernel'
        """
        with self.map(_span(frame, offset, size)) as mapped:
            return bytes(memoryview(mapped)[offset : offset + size])

    def write(self, frame: int, data: bytes, offset: int = 0) -> None:
        """Write bytes that start in a frame and may continue in the next frames.

        Example:

        >>> db1.memory.write(0x123, b"hello", offset=8)
        >>> db1.memory.read(0x123, offset=8, size=5)
        b'hello'
        """
        with self.map(_span(frame, offset, len(data)), writable=True) as mapped, memoryview(mapped) as view:
            view[offset : offset + len(data)] = data

    def maximum_gpfn(self) -> int:
        """The highest guest frame in use (memory_op maximum_gpfn); a PV guest reports its own.

        0 if a PV guest has not reported it; before Xen 4.3 that is -1, which reads as EPERM.
        """
        try:
            highest = self.domain.call(memory.MAXIMUM_GPFN).result
        except errors.PermissionDenied:
            if self.xen.interface.xen >= (4, 3):
                raise
            return 0
        return answers.frame("maximum_gpfn", highest)

    def _check_allowed(self) -> None:
        """Check before a mapping that this handle may map the domain, and would not change it if
        read-only."""
        only = self.xen.caller.restricted_to
        if only not in (None, self.domain.domid):
            hint = self.xen.caller.restriction
            raise errors.from_errno(errno.EPERM, "privcmd.mmapbatch", self.domain.domid, hint=hint)
        if only is None and self.xen.readonly:
            self.refuse_to_populate()

    def refuse_to_populate(self) -> None:
        """ReadOnlyError on a read-only handle if the mapping would change the domain.

        That is so if it has memory that is populated on demand, or paged out.
        """
        if not self.xen.readonly:
            return
        info = self.domain.info()
        if info.is_hvm:
            self.xen.caller.refuse_to_populate("mapping", self.domain.domid)
        if info.paged_pages:
            text = f"mapping can page memory of domain {self.domain.domid} in"
            raise errors.ReadOnlyError(f"{text}, and this handle is read-only")

    def _mapping_domid(self) -> int:
        """A domain cannot map itself as a foreign domain; dom0's own memory is mapped as DOMID_SELF."""
        return DOMID_SELF if self.domain.domid == self.xen.own_domid else self.domain.domid


def frame_numbers(frames: int | Iterable[int]) -> array[int]:
    """Frame numbers as u64. An array of u64 is not checked: Xen refuses invalid numbers."""
    if isinstance(frames, array) and frames.typecode == "Q":
        return frames
    if isinstance(frames, int):
        frames = (frames,)
    try:
        found = array("Q", frames)
    except OverflowError as error:
        raise ValueError(f"not a frame number: {error}") from error
    if found and max(found) > MOST_FRAME:
        raise ValueError(f"{max(found):#x} is too large for a frame number")
    return found


def _span(frame: int, offset: int, size: int) -> range:
    """The frames that hold `size` bytes from an offset in the first."""
    arguments.frame("frame", frame)
    arguments.natural("offset", offset, PAGE_SIZE - 1)
    if arguments.natural("size", size, 2**40) == 0:
        raise ValueError("size is 0: there is nothing to read or write")
    return range(frame, frame + (offset + size + PAGE_SIZE - 1) // PAGE_SIZE)
