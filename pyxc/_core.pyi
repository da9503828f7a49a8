# SPDX-License-Identifier: MIT
"""The native core: devices, ioctls, hypercall-safe memory, foreign mappings and lists of u64.

Nothing here knows a structure of Xen. Addresses and lengths are plain ints; results are >= 0, or a
negative errno in Xen's numbering, and only misuse raises: ValueError for what was closed or released, and for
a size, place or number of values that is out of range; OverflowError for a number that does not fit its
field; MemoryError for more bytes than can be mapped; TypeError; RuntimeError for what was opened before a
fork. Whatever the arguments are, no memory but that of the call is read or written.

No memory of this module is inherited by a forked child. There, a memoryview taken before the fork must not be
touched: the process dies of it.

Mappings and descriptors belong to the whole process, so the module works in the main interpreter only: the
import in a sub-interpreter raises ImportError. The GIL orders its threads. It is not marked as able to do
without: a free-threaded Python enables the GIL when the module is imported, and warns that it did (unless
PYTHON_GIL=0 forbids it, under which pyxc must not be used).
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, NoReturn, Self, final, overload

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

PAGE_SIZE: Final[int]
"""4096: the page of every Xen that this library manages."""

POINTER_BITS: Final[int]
"""32 or 64: the width of this process."""

IOCTL: Final[dict[str, int]]
"""Numbers of the ioctls of privcmd, evtchn, gntdev and gntalloc of a 64-bit kernel, by this architecture's
rules, from structures of explicit 64-bit members: "privcmd_hypercall", "privcmd_mmapbatch_v2",
"privcmd_mmap_resource", "privcmd_dm_op", "privcmd_restrict", "privcmd_unimplemented", "evtchn_bind_virq",
"evtchn_bind_interdomain", "evtchn_bind_unbound_port", "evtchn_unbind", "evtchn_notify", "evtchn_reset",
"evtchn_restrict_domid", "gntdev_map_grant_ref", "gntalloc_alloc_gref"."""

def environment(name: str) -> str | None:
    """An environment variable, None if it is not set. os.environ has the same, but takes much longer where a
    variable is not set: it raises and catches two exceptions.
    """

def has_64bit_code_segment() -> bool:
    """Whether a 32-bit x86 process can enter 64-bit code (`lar` on selector 0x33); False elsewhere."""

def fork_count() -> int:
    """The number of forks between the process that loaded this module and this one."""

def device_ioctl(fd: int, request: int, argument: Buffer, gate: bool = False) -> int:
    """One ioctl on any of Xen's devices, the GIL released; through the 64-bit gate where asked.

    `argument` is the structure, writable, read and written in place. Returns the result, or -errno. Raises
    ValueError if it is shorter than the request requires, or if the gate is requested but not available. The
    descriptor must remain open until this returns: see Privcmd.ioctl().
    """

def byteswap64(words: Buffer) -> None:
    """Swap the bytes of every u64 of a writable buffer, of any alignment, in place."""

def consecutive_words(first: int, count: int) -> bytes:
    """`count` consecutive numbers as a list of u64 (native order), for array.frombytes().

    ValueError: not all of them are u64.
    """

def extent_words(firsts: Buffer, order: int) -> bytes:
    """The numbers of all frames of extents of 2**order frames, a list of u64; `firsts`: their first frames.

    ValueError: order is not 0 to 18. Numbers beyond u64 wrap around.
    """

def select_frames(entries: Buffer, frames: Buffer, at: int) -> tuple[int, int, int, int]:
    """Copy the plain frame numbers of a piece of p2m (u64, native order) to `frames[at:]`.

    Returns (copied, absent, foreign, identity): entries of all ones are absent, bit 63 marks a foreign frame
    and bit 62 an identity mapping (Linux). ValueError when `frames` is too short; what fits is copied.
    """

def renumber_entries(entries: Buffer, table: Buffer, refused: int = 0) -> list[int]:
    """Replace the frame of each present page table entry (u64, native order) by its number in a table.

    `table` has a u64 for each frame: its new number + 1, or 0 for none. Returns the places of entries that
    have no number, or one of the bits in `refused`; if there are any, nothing is replaced.
    """

def number_frames(frames: Buffer, table: Buffer, first: int) -> None:
    """Number frames (u64, native order) from `first` on, in a table for renumber_entries().

    Frames beyond the end of the table are passed over.
    """

def run_of(words: Buffer, start: int) -> int:
    """How many words (u64, native order) from a place on are each one more than the one before."""

def pick_words(table: Buffer, places: Buffer, picked: Buffer) -> None:
    """Copy the words at some places of a table (all u64, native order), in their order, to `picked`.

    A place behind the end of the table gets a word of all ones.
    """

def take_tops(words: Buffer) -> tuple[bytes, int]:
    """Clear the highest byte of every u64 of a writable buffer (native order).

    Returns these bytes, and what is set in any of the words that are left.
    """

@final
class RecordReader:
    """Makes records of one NamedTuple class from packed structures of `size` bytes. Threads: safe to share.

    `fields`, one for each of the class's and in their order: (offset, code, length) with the codes of the
    struct module (B H I Q b h i q ?), or None for one that this layout does not have, which becomes None.
    Arrays (length above 1) become bytes when of octets and tuples otherwise. `swapped`: the structures are
    not in this machine's byte order. ValueError for a field outside the structure, TypeError for another
    class.
    """

    def __new__(
        cls,
        record: type[tuple[Any, ...]],
        size: int,
        fields: tuple[tuple[int, str, int] | None, ...],
        swapped: bool = False,
    ) -> Self: ...
    def one(self, data: Buffer, offset: int = 0) -> Any:
        """The record at an offset. ValueError if it does not fit."""
    def all(self, data: Buffer) -> list[Any]:
        """The records that fill a buffer. ValueError if they do not fill it exactly."""

def lay_batch(
    arena: Arena,
    count: int,
    request: bytes,
    stride: int,
    call: tuple[int, int, int],
    columns: tuple[tuple[int, int, Sequence[int]], ...],
    swapped: bool = False,
) -> None:
    """Write a multicall: `count` entries of 64 bytes, then as many structures, `stride` bytes apart.

    Each structure is `request` but for its columns, (offset, size, values), which have `count` values each.
    `call` is the hypercall's number and its arguments before and after the address of the structure (-1:
    none). ValueError when it does not fit the arena, OverflowError for a value that does not fit its column;
    then what the arena holds is undefined.
    """

@final
class Arena:
    """One piece of hypercall-safe memory: page-aligned, resident, zero when taken. Writable buffer protocol.

    The page behind it can be neither read nor written: a hypervisor that writes too far gets EFAULT. One that
    is lost without release() returns its memory to the system. A released one raises ValueError. An arena
    belongs to the call that took it. Threads: one at a time.
    """

    def __init__(self, *args: object, **kwargs: object) -> NoReturn:
        """Raises TypeError: an arena is taken from a Pool."""
    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int:
        """Bytes, a multiple of PAGE_SIZE."""
    @property
    def view(self) -> memoryview:
        """The whole of it, format 'B'; always the same object, which Arena.release() releases. Memory that
        slices of it still reach then does not go to another call; it is unmapped with the last of them."""
    def release(self, used: int = -1) -> None:
        """Zero the first `used` bytes (by default all) and return it to its pool. `used` must include
        everything that was written, also by the hypervisor. In a forked child this does not change the
        memory."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Pool:
    """A supply of arenas. Threads: safe to share; in a child after fork it refuses.

    `device` is an open /dev/xen/hypercall, which must stay open until close(), or -1: then anonymous memory,
    locked if `locked`.
    """

    def __new__(cls, device: int = -1, locked: bool = True) -> Self: ...
    def take(self, size: int) -> Arena:
        """At least `size` bytes. ValueError for a negative size; MemoryError, naming RLIMIT_MEMLOCK where
        that is the reason."""
    @property
    def outstanding(self) -> int:
        """Arenas taken and not yet released."""
    def live(self) -> list[tuple[int, int]]:
        """(address, size) of every arena that is taken."""
    def arena_at(self, address: int) -> Arena | None:
        """The taken arena with this address, None if there is none."""
    def close(self) -> None:
        """Unmap the memory of the pool; arenas in use are unmapped when they are released."""

@final
class ForeignMap:
    """Frames of a domain in this process's memory. Buffer protocol (bytes), read-only unless asked for.

    Unmapped by close() or when collected. Exported memoryviews keep it alive: close() then raises
    BufferError. Use after close raises ValueError. Threads: safe to share.
    """

    def __init__(self, *args: object, **kwargs: object) -> NoReturn:
        """Raises TypeError: a map comes from map_frames, map_resource or map_device."""
    @property
    def size(self) -> int: ...
    @property
    def domid(self) -> int: ...
    @property
    def writable(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def exports(self) -> int:
        """The number of memoryviews that hold it."""
    @property
    def errors(self) -> tuple[int, ...]:
        """Per frame: 0, or the errno with which it could not be mapped. Empty when all went well. Touching
        such a page would be a fault: a map with any error hands out no buffer but raises OSError."""
    def close(self) -> None:
        """Unmap it. May be called again."""
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes:
        """A byte as a number, or a copy of a part as bytes; memoryview() shows the memory without a copy."""
    def __enter__(self) -> ForeignMap: ...
    def __exit__(self, *exc: object) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Privcmd:
    """An open privcmd device. The GIL is released around every ioctl.

    Any thread may close it: calls in progress keep the device open until they return, and a map that is
    complete only then is unmapped again (ValueError). Threads: safe to share; in a child after fork it
    refuses.

    `path` None: /dev/xen/privcmd, else /proc/xen/privcmd (only on ENOENT, ENXIO, ENODEV). gate is "auto" or
    "never". Raises OSError with the errno and the path of the device that could not be opened: the first one
    when there is neither.
    """

    def __new__(cls, path: str | None = None, gate: str = "auto") -> Self: ...
    @property
    def path(self) -> str: ...
    @property
    def fd(self) -> int: ...
    @property
    def gated(self) -> bool:
        """Whether ioctls go through the 64-bit gate; decided once, at opening."""
    @property
    def longs(self) -> bool:
        """Whether hypercalls go as words of 32 bits, as 32-bit kernels took them until June 2006."""
    @property
    def kernel_bits(self) -> int:
        """Width of the kernel: 64 or 32."""
    @property
    def has_buffer_device(self) -> bool: ...
    @property
    def pool(self) -> Pool: ...
    @property
    def maps(self) -> list[ForeignMap]:
        """Foreign mappings that are open. The handle does not keep them alive."""
    @property
    def probe_errno(self) -> int:
        """0, or the errno with which even xen_version was refused at opening (ENOTTY: no way for a 32-bit
        caller, or not privcmd)."""
    def ioctl(self, name: str, argument: Buffer) -> int:
        """One of the ioctls of IOCTL on this device, by the same way as hypercalls; see device_ioctl()."""
    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        """Issue one hypercall; its result through an int, or -errno. A handle used after fork raises
        RuntimeError, a closed one ValueError."""
    def exchange(
        self,
        op: int,
        request: bytes,
        buffers: tuple[tuple[int, bytes | int], ...] = (),
        before: int = -1,
        after: int = -1,
    ) -> tuple[int, bytes, Sequence[bytes]]:
        """Issue a hypercall on a structure, from and to plain bytes; see pyxc.link.exchange. At most 32
        buffers; ValueError for a handle outside the structure or a negative size."""
    def prepare(
        self, op: int, request: bytes, domid_at: int, reader: RecordReader, body: int
    ) -> PreparedCall:
        """A PreparedCall on this device."""
    def map_frames(self, domid: int, frames: Buffer, writable: bool = False) -> ForeignMap:
        """Map the given frame numbers (u64, native order) of a domain, one after the other (MMAPBATCH_V2).

        Frames that are paged out (ENOENT) are tried again for up to 5 s. Raises OSError when the call fails.
        Frame numbers of 2**40 and more get EINVAL: the kernel would cut them off and map another frame.
        """
    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        """Map frames of a resource of a domain (MMAP_RESOURCE)."""
    def map_device(
        self, device: int, domid: int, offset: int, count: int, writable: bool = False
    ) -> ForeignMap:
        """Map pages that another device (a descriptor) has at an offset, as one of this handle's maps; the
        device may be closed then: the map keeps it open."""
    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        """Frames of a resource; up to Xen 4.14 only how many one call may ask for. Raises OSError where the
        kernel or Xen cannot tell."""
    def close(self) -> None:
        """Unmap every foreign map and close the devices. BufferError when a memoryview still holds a map;
        then everything stays open."""

@final
class PreparedCall:
    """One query of one device, from a domid directly to a record. Threads: safe to share; in a child after
    fork it refuses.

    The call puts the domid at a place in a structure (-1: nowhere) and reads a record where its body begins.
    ValueError for places outside the structure.
    """

    def __new__(
        cls, device: Privcmd, op: int, request: bytes, domid_at: int, reader: RecordReader, body: int
    ) -> Self: ...
    def ask(self, domid: int | None) -> Any:
        """The record, or -errno. None where the question is about no domain."""

@final
class SharedMemory:
    """Sparse memory of a simulated machine, from which frames are mapped just as foreign frames are.

    `frames` is the number of its pages of 4096 bytes; beyond them is a ValueError. `fd` is a descriptor of
    the memory of another process, which this object then owns; ValueError if its size is another one.
    Threads: safe to share; in a child after fork it refuses.
    """

    def __new__(cls, frames: int, fd: int = -1) -> Self: ...
    @property
    def frames(self) -> int: ...
    @property
    def fd(self) -> int: ...
    @property
    def maps(self) -> list[ForeignMap]:
        """Mappings that are open. The memory does not keep them alive."""
    def read(self, frame: int, offset: int, size: int) -> bytes: ...
    def write(self, frame: int, offset: int, data: Buffer) -> None: ...
    def discard(self, frame: int, count: int = 1) -> None:
        """Make pages read as zero again."""
    def map_frames(
        self, domid: int, frames: Buffer, writable: bool = False, errors: Iterable[int] = ()
    ) -> ForeignMap:
        """Map the given frame numbers, as Privcmd.map_frames. `errors` has an errno or 0 for each frame, or
        is empty; frames that the memory does not have get EINVAL. ValueError for another number of errors."""
    def close(self) -> None:
        """Unmap every map and free the memory. BufferError when a memoryview still holds a map; then
        everything stays open."""
