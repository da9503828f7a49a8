# SPDX-License-Identifier: MIT
"""The native core: devices, ioctls, hypercall-safe memory, foreign mappings and lists of u64.

Nothing here knows a structure of Xen. Addresses and lengths are plain ints; results are >= 0, or a
negative errno in Xen's numbering, and only misuse raises.
"""

import sys
from collections.abc import Iterable
from typing import Final, final

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:
    from typing_extensions import Buffer

PAGE_SIZE: Final[int]
"""4096: the page of every Xen that this library manages."""

POINTER_BITS: Final[int]
"""32 or 64: the width of this process."""

IOCTL: Final[dict[str, int]]
"""Numbers of the privcmd, evtchn and gntdev ioctls, as the C compiler of this architecture computes them from
structures of explicit 64-bit members: "privcmd_hypercall", "privcmd_mmapbatch_v2", "privcmd_mmap_resource",
"privcmd_dm_op", "privcmd_restrict", "privcmd_unimplemented", "evtchn_bind_virq", "evtchn_bind_interdomain",
"evtchn_bind_unbound_port", "evtchn_unbind", "evtchn_notify", "evtchn_reset", "gntdev_map_grant_ref",
"gntdev_unmap_grant_ref"."""

def has_64bit_code_segment() -> bool:
    """Whether a 32-bit x86 process can enter 64-bit code (`lar` on selector 0x33); False everywhere else."""

def fork_count() -> int:
    """How many forks lie between the process that loaded this module and this one."""

def device_ioctl(fd: int, request: int, argument: Buffer, gate: bool = False) -> int:
    """One ioctl on any of Xen's devices, the GIL released; through the 64-bit gate where asked.

    `argument` is the structure, read and written in place. Returns the result, or -errno.
    """

def byteswap64(words: Buffer) -> None:
    """Swap the bytes of every u64 of a writable buffer in place."""

def select_frames(entries: Buffer, frames: Buffer, at: int) -> tuple[int, int, int, int]:
    """Copy the plain frame numbers of a piece of p2m (u64, native order) to `frames[at:]`.

    Returns (copied, absent, foreign, identity): entries of all ones are absent, bit 63 marks a foreign frame and
    bit 62 an identity mapping (Linux). Raises ValueError when `frames` is too short.
    """

@final
class Arena:
    """One piece of hypercall-safe memory: page-aligned, resident, zero when taken. Writable buffer protocol.

    Threads: an arena belongs to the call that took it.
    """

    @property
    def address(self) -> int: ...
    @property
    def size(self) -> int:
        """Bytes, a multiple of PAGE_SIZE."""
    @property
    def view(self) -> memoryview:
        """The whole of it, format 'B'; one object that lives as long as the arena."""
    def release(self, used: int = ...) -> None:
        """Zero the first `used` bytes (all by default) and return it to its pool. Not to be used afterwards."""

@final
class Pool:
    """A supply of arenas. Threads: one pool may be used by many.

    `device` is an open /dev/xen/hypercall, or -1: then anonymous memory, locked if `locked`, never copied by fork.
    """

    def __init__(self, device: int = -1, locked: bool = True) -> None: ...
    def take(self, size: int) -> Arena:
        """At least `size` bytes. Raises MemoryError, naming RLIMIT_MEMLOCK where that is the reason."""
    @property
    def outstanding(self) -> int:
        """Arenas taken and not yet released."""
    def live(self) -> list[tuple[int, int]]:
        """(address, size) of every arena that is taken."""
    def close(self) -> None:
        """Unmap what lies in the pool; arenas still out are unmapped when they come back."""

@final
class ForeignMap:
    """Frames of a domain in this process's memory. Buffer protocol (bytes), read-only unless asked for.

    Unmapped by close() or when collected. Exported memoryviews keep it alive: close() then raises BufferError.
    Use after close raises ValueError. Threads: may be read by many.
    """

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
        """How many memoryviews hold it."""
    @property
    def errors(self) -> tuple[int, ...]:
        """Per frame: 0, or the errno with which it could not be mapped (touching that page would be a fault,
        so a map with any error hands out no buffer). Empty when all went well."""
    def close(self) -> None: ...
    def __len__(self) -> int: ...
    def __enter__(self) -> ForeignMap: ...
    def __exit__(self, *exc: object) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Privcmd:
    """An open privcmd device. Threads: one may be used by many; the GIL is released around every ioctl.

    `path` None: /dev/xen/privcmd, else /proc/xen/privcmd (only on ENOENT, ENXIO, ENODEV). gate is "auto" or
    "never". Raises OSError with the errno and the path of the device that could not be opened.
    """

    def __init__(self, path: str | None = None, gate: str = "auto") -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def fd(self) -> int: ...
    @property
    def gated(self) -> bool:
        """Whether ioctls go through the 64-bit gate; decided once, at opening."""
    @property
    def kernel_bits(self) -> int:
        """Width of the kernel: 64 or 32."""
    @property
    def has_buffer_device(self) -> bool: ...
    @property
    def pool(self) -> Pool: ...
    @property
    def maps(self) -> list[ForeignMap]:
        """Foreign mappings that are open."""
    @property
    def probe_errno(self) -> int:
        """0, or the errno with which even xen_version was refused at opening (ENOTTY: no gate and no compat)."""
    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        """Issue one hypercall; its result through an int, or -errno. A handle used after fork raises RuntimeError,
        a closed one ValueError."""
    def map_frames(self, domid: int, frames: Buffer, writable: bool = False) -> ForeignMap:
        """Map the given frame numbers (u64, native order) of a domain, one after the other (MMAPBATCH_V2).

        Frames that are paged out (ENOENT) are tried again; raises OSError when the call itself fails.
        """
    def map_resource(self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False) -> ForeignMap:
        """Map frames of a resource of a domain (MMAP_RESOURCE)."""
    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        """Frames of a resource."""
    def close(self) -> None:
        """Unmap every foreign map and close the devices; BufferError when a memoryview still holds a map."""

@final
class SharedMemory:
    """Sparse memory of a simulated machine, from which frames are mapped just as foreign frames are.

    `frames` is how many pages of 4096 bytes it has.
    """

    def __init__(self, frames: int) -> None: ...
    @property
    def fd(self) -> int: ...
    def read(self, frame: int, offset: int, size: int) -> bytes: ...
    def write(self, frame: int, offset: int, data: Buffer) -> None: ...
    def discard(self, frame: int, count: int = 1) -> None:
        """Make pages read as zero again."""
    def map_frames(self, domid: int, frames: Buffer, writable: bool, errors: Iterable[int] = ()) -> ForeignMap: ...
    def close(self) -> None: ...
