# SPDX-License-Identifier: MIT
"""A guest's memory by address: what it regards as its physical memory, and what its page tables map."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from array import array
from collections import abc
from collections.abc import Iterator
from types import TracebackType
from typing import Self, overload

from pyxc import arguments, errors
from pyxc._core import PAGE_SIZE, consecutive_words
from pyxc.abi import memory
from pyxc.domain import bounds, paging
from pyxc.domain.mapping import Mapping
from pyxc.domain.p2m import read_p2m
from pyxc.domain.paging import Hole, Paging, Translation
from pyxc.domain.windows import ABSENT, PAGE_BITS, WINDOW_BITS, Windows

_MOST_READ = 1 << 30
"""Bytes that one call reads or writes: page tables can show a small guest's memory many times."""
SEARCHED = 1 << 32
"""Bytes that one search examines by default."""
_PIECE = 1 << WINDOW_BITS
_TRANSLATIONS = 1 << 14
"""Pages whose translation is kept."""
_STRING = 4096
_SLOT_BITS, _SLOTS = 39, 511
_XENS_SLOTS = range(256, 272)
"""Entries of the top table of a 64-bit PV guest that are Xen's own."""


class AddressSpace(ABC):
    """The memory of a domain by address, of `size` bytes: `space[0x1000:0x1010]`, `space.u64(0x1000)`.

    Read-only unless it was opened with `writable`. Memory is mapped when it is first read, and remains mapped
    until close(), refresh(), the end of a `with` block, or until the object is collected; a mapping keeps a
    destroyed domain from disappearing. Bytes are always the present ones. Which frames belong to an address
    is kept from the first access until refresh(). Pause the domain to read what is consistent.

    NotMapped for an address without memory, ValueError for one outside the space. Threads: one at a time.

    Example:

    >>> with db1.memory.physical as space:
    ...     space.read(0x100000, 3), space[0x100005:0x10000E], space.c_string(0x100000)
    (b'db1', b'simulated', b'db1: simulated PVH kernel')
    """

    size: int
    """In bytes: addresses are below."""

    def __init__(self, mapping: Mapping, writable: bool) -> None:
        self._mapping = mapping
        self.domain = mapping.domain
        self.writable = writable
        if writable:
            mapping.xen.check_writable("writing to a guest's memory")
        self._order = mapping.xen.interface.byteorder
        self._checked = False

    @abstractmethod
    def _locate(self, address: int, most: int) -> bytes | None:
        """A copy of the contiguous bytes from an address on, at most `most` and 2 MiB; None for no memory."""

    @abstractmethod
    def _frame(self, address: int) -> int | None:
        """The frame of an address."""

    @abstractmethod
    def _hole(self, address: int) -> tuple[int, int]:
        """For an address without memory: the next one that may have some, and the bytes that a search
        counts up to there."""

    @abstractmethod
    def refresh(self) -> None:
        """Forget which frames belong to which address; the next access looks again."""

    @abstractmethod
    def _why(self, address: int) -> str: ...

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from an address on, across pages; all or none."""
        self._check(address, size)
        piece = self._locate(address, size)
        if piece is not None and len(piece) == size:
            return piece
        return b"".join(self._pieces(address, size))

    def _pieces(self, address: int, size: int) -> Iterator[bytes]:
        stop = address + size
        while address < stop:
            piece = self._locate(address, stop - address)
            if piece is None:
                raise errors.NotMapped(address, self._why(address))
            yield piece
            address += len(piece)

    def write(self, address: int, data: bytes) -> None:
        """Write bytes from an address on. All pages must exist, else none is written (NotMapped, OSError).

        ReadOnlyError unless the space was opened with `writable`. DomainGone if the domain has gone.
        """
        if not self.writable:
            raise errors.ReadOnlyError("this address space is read-only: open it with writable=True")
        self._check(address, len(data))
        first = address // PAGE_SIZE
        stop = -(-(address + len(data)) // PAGE_SIZE)
        frames = array("Q")
        for page in range(first, stop):
            frame = self._frame(page * PAGE_SIZE)
            if frame is None:
                raise errors.NotMapped(page * PAGE_SIZE, self._why(page * PAGE_SIZE))
            frames.append(frame)
        if frames:
            with self._mapping.map(frames, writable=True) as mapped, memoryview(mapped) as view:
                offset = address % PAGE_SIZE
                view[offset : offset + len(data)] = data

    def u8(self, address: int) -> int:
        return self._number(address, 1)

    def u16(self, address: int) -> int:
        return self._number(address, 2)

    def u32(self, address: int) -> int:
        return self._number(address, 4)

    def u64(self, address: int) -> int:
        return self._number(address, 8)

    def _number(self, address: int, size: int) -> int:
        return int.from_bytes(self.read(address, size), self._order)

    def c_string(self, address: int, most: int = _STRING) -> bytes:
        """The bytes up to a NUL. DecodeError if there is none among the first `most` bytes."""
        arguments.natural("most", most, _MOST_READ, 1)
        found = b""
        while len(found) < most:
            self._check(address + len(found), 1)
            piece = self._locate(address + len(found), min(PAGE_SIZE, most - len(found)))
            if piece is None:
                raise errors.NotMapped(address + len(found), self._why(address + len(found)))
            text, nul, _ = piece.partition(b"\0")
            found += text
            if nul:
                return found
        raise errors.DecodeError(f"there is no NUL in {most} bytes from {address:#x} on")

    def search(
        self, pattern: bytes, start: int = 0, stop: int | None = None, *, limit: int = SEARCHED
    ) -> Iterator[int]:
        """The addresses from `start` up to `stop` where some bytes are, in order; holes are skipped.

        It ends after `limit` bytes; a hole in physical memory counts in full, one in page tables as a page.
        """
        if not pattern or len(pattern) > _PIECE:
            raise ValueError(f"pattern has {len(pattern)} bytes: expected 1 to {_PIECE}")
        stop = self.size if stop is None else arguments.natural("stop", stop, self.size)
        arguments.natural("start", start, self.size)
        arguments.natural("limit", limit, 2**64)
        return self._found(pattern, start, stop, limit)

    def _found(self, pattern: bytes, start: int, stop: int, limit: int) -> Iterator[int]:
        tail, expected = b"", start
        for address, data in self._runs(start, stop, limit):
            joined = (tail if address == expected else b"") + data
            base = address + len(data) - len(joined)
            place = joined.find(pattern)
            while place >= 0:
                yield base + place
                place = joined.find(pattern, place + 1)
            expected = address + len(data)
            tail = joined[len(joined) - len(pattern) + 1 :] if len(joined) >= len(pattern) else joined

    def _runs(self, address: int, stop: int, left: int) -> Iterator[tuple[int, bytes]]:
        """Copies of the memory in a range, in pieces."""
        while address < stop and left > 0:
            try:
                piece = self._locate(address, min(stop - address, left))
            except errors.DecodeError:  # a search goes on behind a bad table
                piece = None
            if piece is None:
                stop_of_hole, counted = self._hole(address)
                address, left = max(address + 1, stop_of_hole), left - counted
                continue
            yield address, piece
            address, left = address + len(piece), left - len(piece)

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> int | bytes:
        if not isinstance(key, slice):
            return self.u8(key)
        if key.start is None or key.stop is None or key.step not in (None, 1):
            raise ValueError("a slice of memory needs its first address and the one behind its end")
        return self.read(key.start, max(0, key.stop - key.start))

    def _check(self, address: int, size: int) -> None:
        if not (0 <= size <= _MOST_READ and 0 <= address <= self.size - size):
            arguments.natural("size", size, _MOST_READ)
            arguments.natural("address", address, self.size - size)
        if not self._checked:
            refuse_on_demand(self._mapping)
            self._checked = True

    def close(self) -> None:
        """Unmap its memory. The next access maps it again."""
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Pfns:
    """The frames of a PV domain by pfn, which it publishes; read once."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._entries: array[int] | None = None

    def entries(self) -> array[int]:
        if self._entries is None:
            self._entries = read_p2m(self._mapping).entries
        return self._entries

    def frames(self, first: int, count: int) -> array[int]:
        found = self.entries()[first : first + count]
        found.extend([ABSENT] * (count - len(found)))
        return found

    def forget(self) -> None:
        self._entries = None


class Physical(AddressSpace):
    """What a guest regards as its physical memory: gfns of an HVM or PVH domain, pfns of a PV domain."""

    def __init__(self, mapping: Mapping, writable: bool = False) -> None:
        super().__init__(mapping, writable)
        info = mapping.domain.info()
        self._pfns = None if info.is_hvm else _Pfns(mapping)
        if self._pfns is None:
            pages = min(mapping.maximum_gpfn() + 1, bounds.frame_numbers(info.tot_pages))
        else:
            pages = len(self._pfns.entries())
        self.size = pages * PAGE_SIZE
        self._frames = _by_number if self._pfns is None else self._pfns.frames
        # Not a method of this object: then it, with its mappings, would live until the next collection.
        self._windows = Windows(mapping, self._frames)
        self._whole = self._windows.whole

    @property
    def open_windows(self) -> abc.Mapping[int, memoryview]:
        """The memory that is mapped now, where all of 2 MiB is, by address >> 21."""
        return self._whole

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from an address on, across pages; all or none."""
        # Most reads are within a window that is open: debuggers make millions of them.
        view = self._whole.get(address >> WINDOW_BITS)
        if view is not None:
            start = address & _PIECE - 1
            if 0 <= size <= _PIECE - start:
                return bytes(view[start : start + size])
        return super().read(address, size)

    def __call__(self, *, writable: bool) -> Physical:
        """The same memory, to be written if `writable`."""
        return Physical(self._mapping, writable)

    def _locate(self, address: int, most: int) -> bytes | None:
        return self._windows.piece(address, most)

    def _frame(self, address: int) -> int | None:
        frame = self._frames(address // PAGE_SIZE, 1)[0]
        return None if frame == ABSENT else frame

    def _hole(self, address: int) -> tuple[int, int]:
        after = self._windows.after(address)
        return after, after - address

    def _why(self, address: int) -> str:
        return "the guest has no memory there"

    def refresh(self) -> None:
        self._windows.close()
        if self._pfns is not None:
            self._pfns.forget()

    def __repr__(self) -> str:
        return f"<physical memory of domain {self.domain.domid}, {self.size} bytes>"


class Virtual(AddressSpace):
    """What the page tables of a guest map: virtual addresses as one of its vcpus, or one process, sees them.

    `paging` says how addresses are translated.
    """

    def __init__(self, mapping: Mapping, how: Paging, writable: bool = False) -> None:
        super().__init__(mapping, writable)
        self.paging = how
        self.size = 1 << (64 if how.levels in (4, 5) else 32)
        self._windows = Windows(mapping, _by_number, PAGE_BITS if how.pv else WINDOW_BITS)
        self._whole = self._windows.whole
        self._bits = PAGE_BITS if how.pv else WINDOW_BITS
        self._known: dict[int, int] = {}
        self._large: dict[int, int] = {}
        """Addresses by page, and by 2 MiB of larger pages."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from an address on, across pages; all or none."""
        place = self._place(address)
        if place is not None and 0 <= size <= PAGE_SIZE - (place & PAGE_SIZE - 1):
            view = self._whole.get(place >> self._bits)
            if view is not None:
                start = place & (1 << self._bits) - 1
                return bytes(view[start : start + size])
        return super().read(address, size)

    def _place(self, address: int) -> int | None:
        """The address in memory, if it is known."""
        start = self._large.get(address >> WINDOW_BITS)
        if start is not None:
            return start + (address & _PIECE - 1)
        start = self._known.get(address >> PAGE_BITS)
        return None if start is None else start + (address & PAGE_SIZE - 1)

    def translate(self, address: int) -> Translation:
        """What an address means. NotMapped; DecodeError for page tables that no processor accepts."""
        self._check(address, 1)
        found = self._walk(address)
        if isinstance(found, Hole):
            raise errors.NotMapped(address, self._why(address))
        return found

    def _walk(self, address: int) -> Translation | Hole:
        if not self._canonical(address):
            return Hole(address, self.paging.bits - 1)
        if self.paging.pv and address >> _SLOT_BITS & _SLOTS in _XENS_SLOTS and self.paging.levels == 4:
            return Hole(address, _SLOT_BITS)
        return paging.walk(self.paging, address, self._word)

    def _canonical(self, address: int) -> bool:
        if self.paging.levels not in (4, 5):
            return True
        return address >> self.paging.bits - 1 in (0, (1 << 65 - self.paging.bits) - 1)

    def _word(self, frame: int, offset: int, size: int) -> int:
        piece = self._windows.piece(frame * PAGE_SIZE + offset, size)
        if piece is None:
            raise errors.DecodeError(
                f"the page tables of domain {self.domain.domid} name frame {frame:#x}, which it does not have"
            )
        return int.from_bytes(piece, "little")

    def _locate(self, address: int, most: int) -> bytes | None:
        frame = self._frame(address)
        if frame is None:
            return None
        size = _PIECE if address >> WINDOW_BITS in self._large else PAGE_SIZE
        left = size - (address & size - 1)
        return self._windows.piece(frame * PAGE_SIZE + (address & PAGE_SIZE - 1), min(most, left))

    def _frame(self, address: int) -> int | None:
        place = self._place(address)
        if place is None:
            found = self._walk(address)
            if isinstance(found, Hole):
                return None
            self._keep(found)
            return found.frame
        return place // PAGE_SIZE

    def _keep(self, found: Translation) -> None:
        large = found.page_bits >= WINDOW_BITS
        known, bits = (self._large, WINDOW_BITS) if large else (self._known, PAGE_BITS)
        if len(known) >= _TRANSLATIONS:
            known.clear()
        number = found.address >> bits
        known[number] = found.frame * PAGE_SIZE - (found.address - (number << bits) & -PAGE_SIZE)

    def _hole(self, address: int) -> tuple[int, int]:
        try:
            found = self._walk(address)
        except errors.DecodeError:
            return (address // PAGE_SIZE + 1) * PAGE_SIZE, PAGE_SIZE
        bits = found.bits if isinstance(found, Hole) else PAGE_BITS
        return (address >> bits) + 1 << bits, PAGE_SIZE

    def _why(self, address: int) -> str:
        found = self._walk(address)
        if not isinstance(found, Hole):
            return f"its frame {found.frame:#x} is not memory of the guest"
        return "no page table entry is present" if self._canonical(address) else "it is not canonical"

    def refresh(self) -> None:
        self._windows.close()
        self._known.clear()
        self._large.clear()

    def __repr__(self) -> str:
        levels, root = self.paging.levels, self.paging.root
        return f"<virtual memory of domain {self.domain.domid}, {levels} levels from {root:#x}>"


def _by_number(first: int, count: int) -> array[int]:
    return array("Q", consecutive_words(first, count))


def refuse_on_demand(mapping: Mapping) -> None:
    """Mapping memory that is populated on demand populates it, and a window is more than was asked for."""
    if not mapping.domain.info().is_hvm or not mapping.xen.caller.supports(memory.GET_POD_TARGET):
        return
    entries = mapping.domain.call(memory.GET_POD_TARGET).field("pod_entries")
    if entries:
        hint = f"reading its memory would populate {entries} pages on demand"
        raise errors.Unsupported(errno.EOPNOTSUPP, "reading memory", mapping.domain.domid, hint=hint)
