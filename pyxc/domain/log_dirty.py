# SPDX-License-Identifier: MIT
"""Log-dirty mode: tracking the pages that a domain writes, as live migration does."""

from __future__ import annotations

import errno
from array import array
from contextlib import ExitStack
from types import TracebackType

from pyxc import arguments, errors, undoing
from pyxc.abi import domctl_paging as operations
from pyxc.abi import hvm
from pyxc.abi.domctl_paging import LOGDIRTY_FINAL
from pyxc.abi.hvm import MemType
from pyxc.abi.operation import Operation
from pyxc.domain import bounds
from pyxc.domain.identity import Identity
from pyxc.domain.mapping import Mapping
from pyxc.domain.numbers import Numbers

_WITHOUT_SHADOWS = (
    "this Xen has no shadow page tables, without which it cannot see what a PV guest writes: the guest must "
    "be stopped first (pyxc save without -l, pyxc migrate --stopped)"
)
_ON_ALREADY = (
    "it may be in log-dirty mode already: it is saved or migrated, or that program was killed (pyxc doctor)"
)
_LOW_MEMORY = (0x1, 0x2, 0x10, 0x40, 0x80)
"""Some gfns below 640 KiB."""
_NOT_IN_THAT_MODE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ESRCH)
_PAGES_MAX = 2**40
_BLOCK_BYTES = 128
_BITS_IN_BYTE = [[bit for bit in range(8) if byte >> bit & 1] for byte in range(256)]


class DirtyPages(Numbers):
    """Written pages, as a sequence of their numbers, sorted (domctl shadow_op, public/domctl.h).

    They are pfns of a PV domain, gfns of an HVM or PVH domain. `bitmap` has a bit for each of `pages` frames,
    sorted by number, the lowest bit of a byte first. `fault_count` and `dirty_count` are Xen's own statistics
    since the bits were last cleared. Threads: safe to share.

    Example:

    >>> with db1.log_dirty as log:
    ...     hypervisor.write_as_guest(db1.domid, 0x123, 0, b"what a guest would do")
    ...     pages = log.clean()
    >>> pages, list(pages)
    (<DirtyPages: 1 of 1044480>, [291])
    """

    __slots__ = ("_frames", "bitmap", "dirty_count", "fault_count", "pages")

    def __init__(self, bitmap: bytes, pages: int, fault_count: int, dirty_count: int) -> None:
        self.bitmap = bitmap
        self.pages = pages
        self.fault_count = fault_count
        self.dirty_count = dirty_count
        self._frames: array[int] | None = None

    @property
    def dirty(self) -> int:
        """The number of dirty pages."""
        return int.from_bytes(self.bitmap, "little").bit_count()

    def frames(self) -> array[int]:
        """The numbers of the dirty pages, as an array of u64."""
        if self._frames is None:
            self._frames = array("Q")
            for start in range(0, len(self.bitmap), _BLOCK_BYTES):
                block = self.bitmap[start : start + _BLOCK_BYTES]
                if block.count(0) < len(block):  # few have any dirty page
                    self._frames.extend(
                        8 * place + bit
                        for place, byte in enumerate(block, start)
                        if byte
                        for bit in _BITS_IN_BYTE[byte]
                    )
        return self._frames

    _listed = frames

    def __contains__(self, frame: object) -> bool:
        if not isinstance(frame, int) or not 0 <= frame < self.pages:
            return False
        return bool(self.bitmap[frame // 8] >> frame % 8 & 1)

    def __repr__(self) -> str:
        return f"<DirtyPages: {self.dirty} of {self.pages}>"


class LogDirty:
    """Log-dirty mode of one domain: `with domain.log_dirty as log: ... log.clean()`. Threads: one at a time.

    A PV domain needs shadow page tables for it, which Xen may be built without (Unsupported). The mode slows
    the domain down. Writes by dom0 through a mapping are not recorded.

    Example:

    >>> with db1.log_dirty as log:
    ...     log.clean().dirty
    0
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain
        self._xen = domain.xen
        self._block = ExitStack()

    def enable(self) -> None:
        """Enable the mode (ENABLE_LOGDIRTY); no page is dirty. EINVAL if it is on, or with a PCI device."""
        try:
            self._domain.change(operations.SHADOW_OP_ENABLE_LOGDIRTY)
        except errors.Unsupported as error:
            if self._xen.caller.supports(operations.SHADOW_OP_ENABLE_LOGDIRTY):
                error.hint = _WITHOUT_SHADOWS
            raise
        except errors.HypercallError as error:
            if error.errno == errno.EINVAL:
                error.hint = _ON_ALREADY
            raise

    def disable(self) -> None:
        """Disable the mode (OFF)."""
        self._domain.change(operations.SHADOW_OP_OFF)

    def seems_on(self) -> bool:
        """Whether the mode seems to be on, of which Xen reports only the effects.

        A page is dirty; or a PV domain has memory for shadow page tables, which it needs for this mode; or
        the memory of another domain is read-only. Without HAP it is not: then only dirty pages show the mode.
        """
        domain = self._domain
        try:
            if domain.info().is_hvm:
                return any(self.peek().bitmap) or self._is_read_only()
            if domain.call(operations.SHADOW_OP_GET_ALLOCATION).field("mb"):
                return True
            return any(self.peek().bitmap)
        except errors.DomainNotFound:
            raise
        except errors.HypercallError as error:
            if error.errno in _NOT_IN_THAT_MODE:
                return False
            raise

    def _is_read_only(self) -> bool:
        """Whether low memory, which is RAM in any guest, is read-only, although no page is dirty."""
        types = [self._domain.call(hvm.GET_MEM_TYPE, pfn=pfn).field("mem_type") for pfn in _LOW_MEMORY]
        return MemType.RAM_RO in types and MemType.RAM_RW not in types

    def peek(self, pages: int | None = None) -> DirtyPages:
        """The pages written since the last clean(); they remain dirty (PEEK).

        `pages` is the number of frames from 0, by default up to the highest of the domain; DecodeError if the
        domain claims a frame that no guest of its size has. While the mode is off no page is dirty.
        """
        return self._read(operations.SHADOW_OP_PEEK, pages, 0)

    def clean(self, pages: int | None = None, *, final: bool = False) -> DirtyPages:
        """The pages written since the last clean(), and clear them (CLEAN).

        `final` is for a domain that has stopped: it includes pages that its device model may write at any
        time (since Xen 4.7).
        """
        mode = LOGDIRTY_FINAL if final and self._xen.interface.xen >= (4, 7) else 0
        return self._read(operations.SHADOW_OP_CLEAN, pages, mode)

    def _read(self, operation: Operation, pages: int | None, mode: int) -> DirtyPages:
        if pages is None:
            pages = self._pages()
        arguments.natural("pages", pages, _PAGES_MAX, 1)
        size = (pages + 7) // 8
        reply = self._domain.change(operation, mode=mode, pages=pages, dirty_bitmap=size)
        told = min(reply.field("pages"), pages)
        bitmap = _first_bits(reply.buffers["dirty_bitmap"], told)
        return DirtyPages(bitmap, told, reply.field("stats.fault_count"), reply.field("stats.dirty_count"))

    def _pages(self) -> int:
        """The number of the domain's frames, if its highest frame is plausible."""
        pages = Mapping(self._domain).maximum_gpfn() + 1
        most = bounds.frame_numbers(self._domain.info().tot_pages)
        if pages > most:
            raise errors.DecodeError(
                f"domain {self._domain.domid} reports {pages} frames, but a guest of its size has at most "
                f"{most}: pass the number of `pages` to read"
            )
        return pages

    def __enter__(self) -> LogDirty:
        self._block.enter_context(
            undoing.during(
                self.enable,
                lambda: self._domain.undo(operations.SHADOW_OP_OFF),
                f"domain {self._domain.domid} is left in log-dirty mode",
            )
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<LogDirty of domain {self._domain.domid}>"


def _first_bits(bitmap: bytes, count: int) -> bytes:
    """Xen writes whole bytes: the last one may include more pages than requested."""
    whole, rest = divmod(count, 8)
    return bitmap[:whole] + (bytes((bitmap[whole] & (1 << rest) - 1,)) if rest else b"")
