# SPDX-License-Identifier: MIT
# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
"""The native core: devices, ioctls, hypercall-safe memory, foreign mappings and lists of u64.

Nothing here knows a structure of Xen; those of Linux's own devices are in ioctls.h. The public interface is
documented in _core.pyi. `grep '^# ==' pyxc/_core.pyx` lists the sections.

Rules that keep memory safe here:

* Numbers come from anywhere. A sum of two of them may overflow, so bounds are checked by subtraction:
  outside().
* Converting an object to a number, iterating, and anything that makes an object the garbage collector tracks
  may run arbitrary Python code. So every value is converted once, before a pointer is taken; or what the
  pointer leads to is kept for as long as it is used.
* With the GIL released, any other thread may close anything. So a call holds a reference to the _Descriptor
  that it uses, and an object that others can find (maps, records) is complete before they can.
"""

import errno
import os
import resource
import sys
import time

cimport cython
from cpython.buffer cimport (
    Py_buffer,
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_SIMPLE,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_New
from libc.errno cimport errno as C_errno
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

# == What C provides ==

cdef extern from "<sys/mman.h>" nogil:
    void *MAP_FAILED
    int PROT_NONE, PROT_READ, PROT_WRITE
    int MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_LOCKED, MAP_FIXED, MAP_NORESERVE
    int MADV_DONTFORK
    void *mmap(void *start, size_t size, int protection, int flags, int fd, long long offset)
    int munmap(void *start, size_t size)
    int madvise(void *start, size_t size, int advice)

cdef extern from "<fcntl.h>" nogil:
    int FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
    int fallocate(int fd, int mode, long long offset, long long size)

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int microseconds)
    int close(int fd)

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil,
                       void (*child)() noexcept nogil)

cdef extern from *:
    Py_ssize_t PY_SSIZE_T_MAX
    uint64_t __builtin_bswap64(uint64_t word) nogil
    object PyMemoryView_FromObject(object exporter)
    PyObject *new_bytes "PyBytes_FromStringAndSize" (const char *start, Py_ssize_t size)
    PyObject *PyLong_FromUnsignedLongLong(unsigned long long number)
    void PyTuple_SET_ITEM(object container, Py_ssize_t index, PyObject *stolen)
    void PyObject_GC_Track(object container)

cdef extern from "gate.h" nogil:
    bint gate_available()
    int xen_ioctl(int fd, uint32_t request, void *argument, bint gated)

cdef extern from "ioctls.h" nogil:
    struct privcmd_hypercall:
        uint64_t op
        uint64_t arg[5]
    struct privcmd_mmapbatch_v2:
        uint32_t num
        uint16_t dom
        uint64_t addr, arr, err
    struct privcmd_mmapbatch_v2_32:
        uint32_t num
        uint16_t dom
        uint64_t addr
        uint32_t arr, err
    struct privcmd_mmap_resource:
        uint16_t dom
        uint32_t type, id, idx
        uint64_t num, addr
    struct privcmd_hypercall_longs:
        unsigned long op
    enum:
        PLAIN
        GATED
        LONGS
    int issue_hypercall(int fd, privcmd_hypercall *call, int way)
    long ioctl_size(uint32_t request)
    enum:
        KERNEL32_FRAME_SIZE
        PRIVCMD_HYPERCALL
        PRIVCMD_MMAPBATCH_V2
        PRIVCMD_MMAPBATCH_V2_32
        PRIVCMD_DM_OP
        PRIVCMD_RESTRICT
        PRIVCMD_MMAP_RESOURCE
        PRIVCMD_UNIMPLEMENTED
        EVTCHN_BIND_VIRQ
        EVTCHN_BIND_INTERDOMAIN
        EVTCHN_BIND_UNBOUND_PORT
        EVTCHN_UNBIND
        EVTCHN_NOTIFY
        EVTCHN_RESET
        EVTCHN_RESTRICT_DOMID
        GNTDEV_MAP_GRANT_REF
        GNTALLOC_ALLOC_GREF

cdef extern from "interpreter.h":
    object new_tuple(PyTypeObject *cls, Py_ssize_t count)

# == Constants ==

cdef enum:
    FRAME_SIZE = 4096
    POOLED_PAGES = 64       # arenas of more pages are not kept
    FEW_PAGES = 4           # of those with up to so many, POOLED_PER_SIZE are kept, of larger ones one
    POOLED_PER_SIZE = 8
    MOST_BUFFERS = 32       # of one hypercall
    SCRATCH = 256           # bytes; an ioctl on fewer works on a copy
    MOST_ERRNO = 4095       # of the kernel
    XEN_VERSION = 17        # __HYPERVISOR_xen_version; its command 0 takes no argument
    RETRY_MICROSECONDS = 100

cdef double RETRY_SECONDS = 5.0
cdef int PAGED_OUT = -errno.ENOENT
cdef uint64_t LAST_FRAME = (<uint64_t> 1 << 40) - 1     # a page table entry holds 52 bits of address
cdef uint64_t MOST_FRAMES = (<uint64_t> 1 << 51) - 1    # what a file can hold
cdef Py_ssize_t KERNEL_PAGE = os.sysconf("SC_PAGESIZE")
cdef Py_ssize_t MOST_BYTES = PY_SSIZE_T_MAX - 4 * KERNEL_PAGE   # can be rounded up, and a page added

PAGE_SIZE = FRAME_SIZE
POINTER_BITS = 8 * <int> sizeof(void *)
IOCTL = {
    "privcmd_hypercall": PRIVCMD_HYPERCALL,
    "privcmd_mmapbatch_v2": PRIVCMD_MMAPBATCH_V2,
    "privcmd_mmap_resource": PRIVCMD_MMAP_RESOURCE,
    "privcmd_dm_op": PRIVCMD_DM_OP,
    "privcmd_restrict": PRIVCMD_RESTRICT,
    "privcmd_unimplemented": PRIVCMD_UNIMPLEMENTED,
    "evtchn_bind_virq": EVTCHN_BIND_VIRQ,
    "evtchn_bind_interdomain": EVTCHN_BIND_INTERDOMAIN,
    "evtchn_bind_unbound_port": EVTCHN_BIND_UNBOUND_PORT,
    "evtchn_unbind": EVTCHN_UNBIND,
    "evtchn_notify": EVTCHN_NOTIFY,
    "evtchn_reset": EVTCHN_RESET,
    "evtchn_restrict_domid": EVTCHN_RESTRICT_DOMID,
    "gntdev_map_grant_ref": GNTDEV_MAP_GRANT_REF,
    "gntalloc_alloc_gref": GNTALLOC_ALLOC_GREF,
}

cdef bint GATE_AVAILABLE = gate_available()
cdef bint LONGS_DIFFER = sizeof(privcmd_hypercall_longs) != sizeof(privcmd_hypercall)
cdef bint LITTLE_ENDIAN = sys.byteorder == "little"
cdef dict UNITS = {"B": 1, "b": 1, "?": 1, "H": 2, "h": 2, "I": 4, "i": 4, "Q": 8, "q": 8}
cdef tuple ABSENT_DEVICE = (errno.ENOENT, errno.ENXIO, errno.ENODEV)
cdef int OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC


# == Bounds ==

cdef inline bint outside(Py_ssize_t start, Py_ssize_t size, Py_ssize_t whole) noexcept nogil:
    """Whether `size` bytes from `start` on are not all among the first `whole` bytes."""
    return start < 0 or size < 0 or size > whole or start > whole - size


# == Forks: no mapping of this module is inherited, so a child has nothing to unmap ==

cdef unsigned int forks = 0

cdef void count_fork() noexcept nogil:
    global forks
    forks += 1

if pthread_atfork(NULL, NULL, count_fork) != 0:
    raise MemoryError("pthread_atfork")


cdef inline int check_fork(unsigned int born, str what) except -1:
    """What the addresses and descriptors of the parent mean in a child is not known."""
    if born != forks:
        raise RuntimeError(f"this {what} was opened before a fork; open a new one in the child")
    return 0


def fork_count():
    return forks


# == Descriptors ==

@cython.final
@cython.no_gc
cdef class _Descriptor:
    """An open file, closed with the last reference to it.

    Every call holds one until it is over: closing in another thread cannot make its number mean another file.
    """

    cdef int number
    cdef bint owned

    def __dealloc__(self):
        # Not os.close: objects are also collected while the interpreter takes its modules apart.
        if self.owned:
            close(self.number)


cdef _Descriptor borrowed(int number):
    """A descriptor that the caller closes."""
    cdef _Descriptor descriptor = _Descriptor.__new__(_Descriptor)
    descriptor.number = number
    return descriptor


cdef _Descriptor owner_of(int number):
    cdef _Descriptor descriptor = borrowed(number)
    descriptor.owned = True
    return descriptor


# == Mapping memory, and lending it as a buffer ==

cdef char *map_memory(void *where, size_t size, int protection, int flags, int fd,
                      long long offset) except NULL:
    cdef void *start
    with nogil:
        start = mmap(where, size, protection, flags, fd, offset)
    if start == MAP_FAILED:
        PyErr_SetFromErrno(OSError)
    return <char *> start


cdef void unmap_memory(char *start, size_t size, unsigned int born) noexcept:
    if start != NULL and born == forks:
        with nogil:
            munmap(start, size)


cdef size_t round_up(Py_ssize_t size) noexcept:
    """To whole pages of the kernel, which may be larger than Xen's."""
    return <size_t> ((size + KERNEL_PAGE - 1) // KERNEL_PAGE * KERNEL_PAGE)


cdef char *OCTETS = b"B"

cdef void fill_buffer(Py_buffer *buffer, char *start, Py_ssize_t size, bint writable, int flags) noexcept:
    buffer.buf = start
    buffer.len = size
    buffer.readonly = not writable
    buffer.itemsize = 1
    buffer.format = OCTETS if flags & PyBUF_FORMAT else NULL
    buffer.ndim = 1
    buffer.shape = &buffer.len if flags & PyBUF_ND else NULL
    buffer.strides = &buffer.itemsize if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
    buffer.suboffsets = NULL
    buffer.internal = NULL


# == Rings of the live objects of one owner; each leaves its ring in its __dealloc__ ==

cdef struct Link:
    Link *previous
    Link *next
    void *member

cdef void start_ring(Link *head) noexcept:
    head.previous = head
    head.next = head

cdef void join_ring(Link *head, Link *link, void *member) noexcept:
    link.member = member
    link.previous = head.previous
    link.next = head
    head.previous.next = link
    head.previous = link

cdef void leave_ring(Link *link) noexcept:
    if link.member != NULL:
        link.previous.next = link.next
        link.next.previous = link.previous
        link.member = NULL

cdef list members(Link *head):
    """Appends only: making other objects could start a collection, which might change the ring."""
    cdef Link *link = head.next
    cdef list found = []
    while link != head:
        found.append(<object> link.member)
        link = link.next
    return found


# == Arenas: hypercall-safe memory ==

@cython.final
@cython.no_gc
cdef class _ArenaMemory:
    """The pages of an arena, and a guard page behind them. Memoryviews keep it alive."""

    cdef char *start
    cdef size_t size
    cdef size_t mapped          # with the guard page
    cdef Py_ssize_t exports
    cdef unsigned int born

    def __dealloc__(self):
        unmap_memory(self.start, self.mapped, self.born)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        buffer.obj = self
        fill_buffer(buffer, self.start, self.size, True, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1


cdef int map_arena(_ArenaMemory memory, size_t size, int flags, int fd) except -1:
    """Map `size` bytes in front of a page without access: who writes too far gets EFAULT or SIGSEGV.

    Address space for both is reserved, and all but the guard page given back just before the kernel is asked
    to map there. Should another thread have taken the place, the memory lies elsewhere without a guard page.
    """
    cdef char *reserved
    cdef char *start
    cdef int failure
    with nogil:
        reserved = <char *> mmap(NULL, size + KERNEL_PAGE, PROT_NONE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if reserved == MAP_FAILED:
            reserved = NULL
        else:
            munmap(reserved, size)
        start = <char *> mmap(reserved, size, PROT_READ | PROT_WRITE, flags, fd, 0)
        failure = C_errno
        if reserved != NULL and start != reserved:
            munmap(reserved + size, KERNEL_PAGE)
    if start == MAP_FAILED:
        raise OSError(failure, os.strerror(failure))
    memory.start = start
    memory.size = size
    memory.mapped = size + KERNEL_PAGE if start == reserved else size
    madvise(start, memory.mapped, MADV_DONTFORK)
    return 0


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class Arena:
    cdef Link link
    cdef Pool pool              # None once released
    cdef _ArenaMemory memory
    cdef object whole           # memoryview of the memory, None until it is asked for

    def __init__(self):
        raise TypeError("an arena is taken from a Pool")

    def __dealloc__(self):
        if self.pool is not None:
            self.leave()

    cdef void leave(self) noexcept:
        leave_ring(&self.link)
        self.pool.taken -= 1
        self.pool = None

    cdef _ArenaMemory held(self):
        if self.pool is None:
            raise ValueError("this arena was released")
        check_fork(self.memory.born, "arena")
        return self.memory

    @property
    def address(self):
        return <uintptr_t> self.held().start

    @property
    def size(self):
        return self.held().size

    @property
    def view(self):
        cdef _ArenaMemory memory = self.held()
        if self.whole is None:
            self.whole = PyMemoryView_FromObject(memory)
        return self.whole

    cpdef release(self, Py_ssize_t used=-1):
        cdef Pool pool = self.pool
        cdef _ArenaMemory memory = self.memory
        if pool is None:
            raise ValueError("this arena was released")
        self.leave()
        self.memory = None
        if memory.born != forks:
            return
        if used < 0 or <size_t> used > memory.size:
            used = memory.size
        memset(memory.start, 0, used)
        if self.whole is not None:
            self.release_view()
        # Memory with a view must not be used by another call: it is freed with its last view.
        if memory.exports == 0:
            pool.keep(memory)

    cdef int release_view(self) except -1:
        whole, self.whole = self.whole, None
        try:
            whole.release()
        except BufferError:
            pass                # another object has the view itself as its buffer
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef _ArenaMemory memory = self.held()
        buffer.obj = memory
        fill_buffer(buffer, memory.start, memory.size, True, flags)
        memory.exports += 1

    def __repr__(self):
        if self.pool is None:
            return "<Arena, released>"
        return f"<Arena of {self.memory.size} bytes at {<uintptr_t> self.memory.start:#x}>"


@cython.final
@cython.no_gc
cdef class Pool:
    cdef Link arenas
    cdef Py_ssize_t taken
    cdef _Descriptor device     # None: anonymous memory
    cdef bint locked, closed
    cdef unsigned int born
    cdef list shelves           # by number of pages: [_ArenaMemory, ...], or None
    cdef _ArenaMemory spare     # of one page, in front of its shelf: what nearly every call takes

    def __cinit__(self, int device=-1, bint locked=True):
        start_ring(&self.arenas)
        self.device = borrowed(device) if device >= 0 else None
        self.locked = locked
        self.born = forks
        self.shelves = [None] * (POOLED_PAGES + 1)

    cpdef Arena take(self, Py_ssize_t size):
        cdef Arena arena
        cdef _ArenaMemory memory
        cdef Py_ssize_t pages
        cdef list shelf
        if size < 0:
            raise ValueError(f"an arena cannot have {size} bytes")
        if size > MOST_BYTES:
            raise MemoryError(f"cannot map {size} bytes for a hypercall")
        if self.closed:
            raise ValueError("this Xen is closed")
        check_fork(self.born, "pool")
        pages = size // KERNEL_PAGE + (size % KERNEL_PAGE != 0) if size else 1
        if pages == 1 and self.spare is not None:
            memory, self.spare = self.spare, None
        else:
            shelf = <list> self.shelves[pages] if pages <= POOLED_PAGES else None
            memory = <_ArenaMemory?> shelf.pop() if shelf else self.new_memory(<size_t> pages * KERNEL_PAGE)
        arena = Arena.__new__(Arena)
        arena.memory = memory
        arena.pool = self
        join_ring(&self.arenas, &arena.link, <void *> arena)
        self.taken += 1
        return arena

    cdef _ArenaMemory new_memory(self, size_t size):
        cdef _ArenaMemory memory = _ArenaMemory.__new__(_ArenaMemory)
        cdef _Descriptor device = self.device
        cdef size_t offset
        memory.born = forks
        try:
            if device is not None:
                map_arena(memory, size, MAP_SHARED, device.number)
            else:
                map_arena(memory, size, self.anonymous_flags(), -1)
        except OSError as error:
            raise self.no_memory(size, error) from None
        # A fork between mmap and madvise leaves pages shared for copy on write: writing makes them ours.
        for offset in range(0, size, KERNEL_PAGE):
            memory.start[offset] = 0
        return memory

    cdef int anonymous_flags(self) noexcept:
        return MAP_PRIVATE | MAP_ANONYMOUS | (MAP_LOCKED if self.locked else 0)

    cdef object no_memory(self, size_t size, error):
        if self.device is None and self.locked and error.errno in (errno.EAGAIN, errno.EPERM):
            limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
            return MemoryError(f"cannot lock {size} bytes for a hypercall: RLIMIT_MEMLOCK is {limit} bytes")
        return MemoryError(f"cannot map {size} bytes for a hypercall: {error.strerror}")

    cdef int keep(self, _ArenaMemory memory) except -1:
        cdef Py_ssize_t pages = memory.size // KERNEL_PAGE
        cdef list shelf
        if pages == 1 and self.spare is None and not self.closed:
            self.spare = memory
        elif pages <= POOLED_PAGES and not self.closed:
            if self.shelves[pages] is None:
                self.shelves[pages] = []
            shelf = <list> self.shelves[pages]
            if len(shelf) < (POOLED_PER_SIZE if pages <= FEW_PAGES else 1):
                shelf.append(memory)
        return 0

    @property
    def outstanding(self):
        return self.taken

    def live(self):
        cdef Arena arena
        return [(<uintptr_t> arena.memory.start, arena.memory.size)
                for arena in members(&self.arenas) if arena.pool is not None]

    def arena_at(self, uint64_t address):
        cdef Arena arena
        for arena in members(&self.arenas):
            if arena.pool is not None and address - <uintptr_t> arena.memory.start < arena.memory.size:
                return arena
        return None

    def close(self):
        self.closed = True
        self.device = None
        self.spare = None
        self.shelves = [None] * (POOLED_PAGES + 1)


# == Foreign mappings ==

@cython.final
@cython.no_gc
cdef class _MapRing:
    """The open maps of one handle; it does not keep them alive, nor do they the handle."""

    cdef Link head

    def __cinit__(self):
        start_ring(&self.head)

    cdef list maps(self):
        return members(&self.head)

    cdef int check_exports(self) except -1:
        """BufferError names the first map that a memoryview holds."""
        cdef ForeignMap foreign
        for foreign in self.maps():
            foreign.check_exports()
        return 0

    cdef int close(self) except -1:
        """To be called right after check_exports(): no other thread runs until all of them are closed."""
        cdef ForeignMap foreign
        cdef list found = self.maps()
        for foreign in found:
            foreign.detach()
        for foreign in found:
            foreign.unmap()
        return 0


@cython.final
@cython.no_gc
cdef class ForeignMap:
    cdef Link link
    cdef _MapRing ring          # kept while this map may be in it
    cdef char *start            # NULL once closed
    cdef char *detached         # what is left to be unmapped
    cdef size_t mapped
    cdef unsigned int born
    cdef readonly Py_ssize_t size
    cdef readonly int domid
    cdef readonly bint writable
    cdef readonly Py_ssize_t exports
    cdef readonly tuple errors

    def __init__(self):
        raise TypeError("a foreign map comes from map_frames, map_resource or map_device")

    def __dealloc__(self):
        self.detach()
        self.unmap()

    cdef void join(self, _MapRing ring) noexcept:
        """Let others find it: it must be complete."""
        self.ring = ring
        join_ring(&ring.head, &self.link, <void *> self)

    cdef void detach(self) noexcept:
        leave_ring(&self.link)
        if self.start != NULL:
            self.detached = self.start
            self.start = NULL

    cdef void unmap(self) noexcept:
        cdef char *start = self.detached
        self.detached = NULL
        unmap_memory(start, self.mapped, self.born)

    cdef int check_exports(self) except -1:
        if self.exports:
            raise BufferError(f"{self!r} is held by {self.exports} memoryview(s)")
        return 0

    @property
    def closed(self):
        return self.start == NULL

    def close(self):
        self.check_exports()
        self.detach()
        self.unmap()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __len__(self):
        return self.size

    def __getitem__(self, key):
        with memoryview(self) as view:
            found = view[key]
            return bytes(found) if isinstance(key, slice) else found

    def __repr__(self):
        access = "writable" if self.writable else "read-only"
        closed = ", closed" if self.start == NULL else ""
        return f"<ForeignMap of domain {self.domid}: {self.size // FRAME_SIZE} frames, {access}{closed}>"

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.start == NULL:
            raise ValueError(f"{self!r} is closed")
        check_fork(self.born, "map")
        if flags & PyBUF_WRITABLE and not self.writable:
            raise BufferError(f"{self!r} is read-only")
        for index, code in enumerate(self.errors):
            if code:
                raise OSError(code, f"frame {index} of {self!r} is not mapped: {os.strerror(code)}")
        buffer.obj = self
        fill_buffer(buffer, self.start, self.size, self.writable, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1


cdef ForeignMap new_map(int domid, Py_ssize_t frames, bint writable, int flags, int fd, uint64_t offset=0):
    """Address space for `frames` frames. It is still empty, and in no ring: no other thread can find it."""
    cdef ForeignMap foreign
    cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
    if frames < 1 or frames > MOST_BYTES // FRAME_SIZE or <uint64_t> frames > <uint32_t> -1:
        raise ValueError(f"cannot map {frames} frames")
    foreign = ForeignMap.__new__(ForeignMap)
    foreign.born = forks
    foreign.size = frames * FRAME_SIZE
    foreign.domid = domid
    foreign.writable = writable
    foreign.errors = ()
    foreign.mapped = round_up(foreign.size)
    foreign.start = map_memory(NULL, foreign.mapped, PROT_NONE if fd < 0 else protection, flags, fd, offset)
    return foreign


@cython.final
@cython.no_gc
cdef class _FrameErrors:
    """A copy of a list of frames, which no other thread can change, and an errno for each of them."""

    cdef Py_ssize_t count
    cdef uint64_t *frames
    cdef int32_t *codes         # 0, or a negative errno

    def __dealloc__(self):
        free(self.frames)
        free(self.codes)

    cdef tuple positive(self):
        """The errors as ForeignMap.errors has them."""
        cdef Py_ssize_t index
        for index in range(self.count):
            if self.codes[index]:
                break
        else:
            return ()
        return tuple([-<int64_t> self.codes[index] for index in range(self.count)])


cdef _FrameErrors copy_frames(frames):
    cdef _FrameErrors copied = _FrameErrors.__new__(_FrameErrors)
    cdef Py_buffer buffer
    get_words(frames, &buffer, PyBUF_SIMPLE)
    try:
        copied.count = buffer.len // 8
        copied.frames = <uint64_t *> calloc(copied.count + 1, sizeof(uint64_t))
        copied.codes = <int32_t *> calloc(copied.count + 1, sizeof(int32_t))
        if copied.frames == NULL or copied.codes == NULL:
            raise MemoryError()
        memcpy(copied.frames, buffer.buf, buffer.len)
    finally:
        PyBuffer_Release(&buffer)
    return copied


# == Lists of u64; their buffers need not be aligned ==

cdef int get_words(object owner, Py_buffer *buffer, int flags) except -1:
    PyObject_GetBuffer(owner, buffer, flags)
    if buffer.len % 8:
        size = buffer.len
        PyBuffer_Release(buffer)
        raise ValueError(f"a list of u64 has a multiple of 8 bytes, not {size}")
    return 0


cdef inline uint64_t word_at(const char *words, Py_ssize_t index) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, words + 8 * index, 8)
    return word


cdef void swap_words(char *words, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint64_t word
    for i in range(count):
        word = __builtin_bswap64(word_at(words, i))
        memcpy(words + 8 * i, &word, 8)


def byteswap64(words):
    cdef Py_buffer buffer
    get_words(words, &buffer, PyBUF_WRITABLE)
    try:
        with nogil:
            swap_words(<char *> buffer.buf, buffer.len // 8)
    finally:
        PyBuffer_Release(&buffer)


cdef uint64_t ABSENT_ENTRY = <uint64_t> -1
cdef uint64_t FOREIGN_BIT = <uint64_t> 1 << 63
cdef uint64_t IDENTITY_BIT = <uint64_t> 1 << 62

cdef struct Selection:
    Py_ssize_t copied, absent, foreign, identity

cdef Selection select_words(const char *entries, Py_ssize_t count,
                            char *frames, Py_ssize_t space) noexcept nogil:
    """Stops with copied > space when the next frame does not fit."""
    cdef Selection found
    cdef Py_ssize_t i
    cdef uint64_t entry
    memset(&found, 0, sizeof(found))
    for i in range(count):
        entry = word_at(entries, i)
        if entry == ABSENT_ENTRY:
            found.absent += 1
        elif entry & FOREIGN_BIT:
            found.foreign += 1
        elif entry & IDENTITY_BIT:
            found.identity += 1
        else:
            found.copied += 1
            if found.copied > space:
                break
            memcpy(frames + 8 * (found.copied - 1), &entry, 8)
    return found


def select_frames(entries, frames, Py_ssize_t at):
    cdef Py_buffer source, target
    cdef Selection found
    cdef Py_ssize_t space
    get_words(entries, &source, PyBUF_SIMPLE)
    try:
        get_words(frames, &target, PyBUF_WRITABLE)
        try:
            if outside(at, 0, target.len // 8):
                raise ValueError(f"{at} is not a place in a list of {target.len // 8} frames")
            space = target.len // 8 - at
            with nogil:
                found = select_words(<const char *> source.buf, source.len // 8,
                                     <char *> target.buf + 8 * at, space)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    if found.copied > space:
        raise ValueError(f"no space for more than {space} frames")
    return found.copied, found.absent, found.foreign, found.identity


# == Writing numbers: the entries and structures of a multicall ==

cdef enum:
    ENTRY = 64                  # bytes of a multicall's entry: number, result, six arguments


cdef inline int put_number(char *at, uint64_t value, Py_ssize_t size, bint swapped) except -1:
    """Write the low `size` bytes: they come first in a little-endian word, last in a big-endian one."""
    cdef bint little = LITTLE_ENDIAN != swapped
    if size < 8 and value >> (8 * size):
        raise OverflowError(f"{value} does not fit {size} bytes")
    if swapped:
        value = __builtin_bswap64(value)
    memcpy(at, <char *> &value + (0 if little else 8 - size), size)
    return 0


cdef int lay_entries(char *entry, Py_ssize_t count, bytes request, Py_ssize_t stride,
                     uint64_t number, int64_t before, int64_t after, bint swapped) except -1:
    cdef char *structure = entry + ENTRY * count
    cdef Py_ssize_t index, at
    for index in range(count):
        at = 16
        put_number(entry, number, 8, swapped)
        if before >= 0:
            put_number(entry + at, before, 8, swapped)
            at += 8
        put_number(entry + at, <uintptr_t> structure, 8, swapped)
        if after >= 0:
            put_number(entry + at + 8, after, 8, swapped)
        memcpy(structure, <const char *> request, len(request))
        entry += ENTRY
        structure += stride
    return 0


cdef int lay_column(char *at, Py_ssize_t count, Py_ssize_t stride, Py_ssize_t size, column,
                    bint swapped) except -1:
    """What len() says of a column is not to be relied on, so its values are counted."""
    cdef Py_ssize_t index = 0
    cdef uint64_t value
    for value in column:
        if index == count:
            raise ValueError(f"a column of more than {count} values in a batch of {count}")
        put_number(at + index * stride, value, size, swapped)
        index += 1
    if index != count:
        raise ValueError(f"a column of {index} values in a batch of {count}")
    return 0


def lay_batch(Arena arena not None, Py_ssize_t count, bytes request not None, Py_ssize_t stride,
              tuple call not None, tuple columns not None, bint swapped=False):
    cdef _ArenaMemory memory = arena.held()
    cdef Py_ssize_t offset, size, whole = memory.size
    cdef uint64_t number
    cdef int64_t before, after
    if count < 0 or stride < len(request) or stride > whole - ENTRY or count > whole // (ENTRY + stride):
        raise ValueError(f"{count} structures, {stride} bytes apart, do not fit an arena of {whole} bytes")
    number, before, after = call
    # Code of a column may release the arena. Its memory counts as in use until the end, so no call gets it.
    memory.exports += 1
    try:
        lay_entries(memory.start, count, request, stride, number, before, after, swapped)
        for offset, size, column in columns:
            if size not in (1, 2, 4, 8) or outside(offset, size, len(request)):
                raise ValueError("a column lies outside its structure")
            lay_column(memory.start + ENTRY * count + offset, count, stride, size, column, swapped)
    finally:
        memory.exports -= 1


# == Reading numbers: records of packed structures ==

cdef enum:
    BYTES_FIELD, U8_FIELD, U16_FIELD, U32_FIELD, U64_FIELD, OTHER_FIELD

cdef struct Place:
    Py_ssize_t offset           # -1: this layout has no such field
    Py_ssize_t length
    Py_ssize_t unit
    int kind                    # those of which there are many, in this machine's order, or OTHER_FIELD
    char code


cdef dict COMMON_FIELDS = {"B": U8_FIELD, "H": U16_FIELD, "I": U32_FIELD, "Q": U64_FIELD}


cdef inline uint64_t first_bytes(const char *at, Py_ssize_t unit) noexcept:
    """The first bytes of a word, the others 0. A memcpy() of a constant size is one instruction."""
    cdef uint64_t word = 0
    if unit == 8:
        memcpy(&word, at, 8)
    elif unit == 4:
        memcpy(&word, at, 4)
    elif unit == 2:
        memcpy(&word, at, 2)
    else:
        memcpy(&word, at, 1)
    return word


cdef inline object number_at(const char *at, const Place *place, bint swapped):
    """One number of 1, 2, 4 or 8 bytes: its sign is filled up from the top, then shifted down again.

    The bytes that come first in a word are its low ones when they are little-endian, else its high ones.
    """
    cdef uint64_t word = first_bytes(at, place.unit)
    cdef unsigned int spare = 64 - 8 * place.unit
    cdef bint little = LITTLE_ENDIAN != swapped
    if swapped:
        word = __builtin_bswap64(word)
    if not little:
        word = word >> spare
    if place.code == b"?":
        return word != 0
    if place.code >= b"a":
        return <int64_t> (word << spare) >> spare
    return word


cdef object value_at(const char *data, const Place *place, bint swapped):
    """A number, or a tuple (an array of them)."""
    cdef Py_ssize_t index
    cdef object number
    if place.offset < 0:
        return None
    if place.length == 1:
        return number_at(data + place.offset, place, swapped)
    numbers = PyTuple_New(place.length)
    for index in range(place.length):
        number = number_at(data + place.offset + index * place.unit, place, swapped)
        Py_INCREF(number)
        PyTuple_SET_ITEM(numbers, index, <PyObject *> number)
    return numbers


@cython.final
@cython.no_gc
cdef class RecordReader:
    cdef type cls
    cdef Place *places
    cdef Py_ssize_t count, size
    cdef bint swapped
    cdef bint flat              # no field is a tuple

    def __cinit__(self, type record not None, Py_ssize_t size, tuple fields not None, bint swapped=False):
        cdef Py_ssize_t index
        # Other kinds of tuples may have more behind their items than the allocation below provides for.
        names = getattr(record, "_fields", None)
        if not issubclass(record, tuple) or record.__dictoffset__ or type(names) is not tuple:
            raise TypeError("records are of a NamedTuple class")
        if len(names) != len(fields):
            raise ValueError(f"{len(fields)} fields for the {len(names)} of {record.__name__}")
        if size < 1:
            raise ValueError(f"a structure cannot have {size} bytes")
        self.cls = record
        self.size = size
        self.swapped = swapped
        self.places = <Place *> calloc(len(fields) + 1, sizeof(Place))
        if self.places == NULL:
            raise MemoryError()
        self.count = len(fields)
        self.flat = True
        for index in range(self.count):
            self.set_place(&self.places[index], fields[index])

    cdef int set_place(self, Place *place, field) except -1:
        cdef Py_ssize_t offset, length
        cdef str code
        place.offset = -1
        place.kind = OTHER_FIELD
        if field is None:
            return 0
        offset, code, length = field
        if code not in UNITS:
            raise ValueError(f"{code!r} is not the code of a number")
        place.code = ord(code)
        place.unit = UNITS[code]
        if length < 1 or length > self.size // place.unit or outside(offset, length * place.unit, self.size):
            raise ValueError("a field lies outside its structure")
        place.length = length
        place.offset = offset
        if length == 1 and not self.swapped and code in COMMON_FIELDS:
            place.kind = COMMON_FIELDS[code]
        if length > 1 and place.unit == 1:
            place.kind = BYTES_FIELD
        elif length > 1:
            self.flat = False
        return 0

    def __dealloc__(self):
        free(self.places)

    cdef object read(self, const char *data):
        """Fills a new tuple of the class in place: half the time of making one tuple out of another.

        Until it is filled, neither the collector nor code that asks the collector for its objects may see it.
        One of numbers and bytes alone it never needs to see: they cannot lead back to it.
        """
        cdef Py_ssize_t index
        cdef Place *place = self.places
        cdef uint16_t half
        cdef uint32_t word
        cdef uint64_t long_word
        cdef object value
        cdef PyObject *item
        cdef object record = new_tuple(<PyTypeObject *> self.cls, self.count)
        for index in range(self.count):
            if place.kind == U32_FIELD:
                memcpy(&word, data + place.offset, 4)
                item = PyLong_FromUnsignedLongLong(word)
            elif place.kind == U64_FIELD:
                memcpy(&long_word, data + place.offset, 8)
                item = PyLong_FromUnsignedLongLong(long_word)
            elif place.kind == U16_FIELD:
                memcpy(&half, data + place.offset, 2)
                item = PyLong_FromUnsignedLongLong(half)
            elif place.kind == BYTES_FIELD:
                item = new_bytes(data + place.offset, place.length)
            elif place.kind == U8_FIELD:
                item = PyLong_FromUnsignedLongLong(<unsigned char> data[place.offset])
            else:
                value = value_at(data, place, self.swapped)
                item = <PyObject *> value
                Py_INCREF(value)
            if item == NULL:
                raise MemoryError()
            PyTuple_SET_ITEM(record, index, item)
            place += 1
        if not self.flat:
            PyObject_GC_Track(record)
        return record

    def one(self, data, Py_ssize_t offset=0):
        cdef Py_buffer buffer
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            if outside(offset, self.size, buffer.len):
                raise ValueError(f"a record of {self.size} bytes does not fit {buffer.len} bytes at {offset}")
            return self.read(<const char *> buffer.buf + offset)
        finally:
            PyBuffer_Release(&buffer)

    def all(self, data):
        cdef Py_buffer buffer
        cdef Py_ssize_t start
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            if buffer.len % self.size:
                raise ValueError(f"{buffer.len} bytes are not a number of records of {self.size} bytes")
            return [self.read(<const char *> buffer.buf + start) for start in range(0, buffer.len, self.size)]
        finally:
            PyBuffer_Release(&buffer)


# == Ioctls on any device ==

def has_64bit_code_segment():
    return GATE_AVAILABLE


cdef int ioctl_in_place(int fd, uint32_t request, argument, bint gate) except? -1:
    """The number of an ioctl holds the size of its structure; for some old ones that is 0.

    Those write at most SCRATCH bytes, so a structure that is shorter is copied to a buffer of that size.
    """
    cdef Py_buffer buffer
    cdef char scratch[SCRATCH]
    cdef void *structure
    cdef int result
    PyObject_GetBuffer(argument, &buffer, PyBUF_WRITABLE)
    try:
        if buffer.len < ioctl_size(request):
            raise ValueError(
                f"ioctl {request:#x} takes a structure of {ioctl_size(request)} bytes, not {buffer.len}"
            )
        structure = buffer.buf
        if buffer.len < SCRATCH:
            structure = scratch
            memset(scratch, 0, SCRATCH)
            memcpy(scratch, buffer.buf, buffer.len)
        with nogil:
            result = xen_ioctl(fd, request, structure, gate)
        if structure == scratch:
            memcpy(buffer.buf, scratch, buffer.len)
    finally:
        PyBuffer_Release(&buffer)
    return result


def device_ioctl(int fd, uint32_t request, argument, bint gate=False):
    if gate and not GATE_AVAILABLE:
        raise ValueError("this process has no way into 64-bit code")
    return ioctl_in_place(fd, request, argument, gate)


# == The privcmd device: opening ==

cdef tuple open_privcmd(path):
    """(descriptor, path)"""
    if path is not None:
        path = os.fsdecode(path)
        return owner_of(os.open(path, OPEN_FLAGS)), path
    try:
        return owner_of(os.open("/dev/xen/privcmd", OPEN_FLAGS)), "/dev/xen/privcmd"
    except OSError as error:
        if error.errno not in ABSENT_DEVICE:
            raise
        absent = error
    try:
        return owner_of(os.open("/proc/xen/privcmd", OPEN_FLAGS)), "/proc/xen/privcmd"
    except OSError as error:
        if error.errno not in ABSENT_DEVICE:
            raise
    raise absent


cdef _Descriptor open_hypercall_device():
    """The device, open; None on a kernel without it."""
    try:
        return owner_of(os.open("/dev/xen/hypercall", OPEN_FLAGS))
    except OSError as error:
        if error.errno not in ABSENT_DEVICE:
            raise
        return None


cdef int width_of_kernel() except -1:
    if sizeof(void *) == 8 or GATE_AVAILABLE:
        return 64
    machine = os.uname().machine
    # armv8l is what a 64-bit ARM kernel calls itself to a 32-bit personality.
    return 64 if "64" in machine or machine in ("s390x", "armv8l") else 32


# == The privcmd device: a structure and its buffers in one arena ==

cdef struct Placement:
    Py_ssize_t handle           # where in the structure the buffer's address goes
    Py_ssize_t at, size         # where in the arena the buffer lies


cdef inline Py_ssize_t place_after(Py_ssize_t start, Py_ssize_t size) noexcept:
    """Where the next thing in an arena begins: each has cache lines of its own."""
    return (start + size + 63) & ~63


cdef Py_ssize_t buffer_size(content) except -1:
    """Of the contents of a buffer, or of the number of its zero bytes."""
    cdef Py_ssize_t size = len(<bytes> content) if isinstance(content, bytes) else content
    if size < 0:
        raise ValueError(f"a buffer cannot have {size} bytes")
    return size


cdef Py_ssize_t find_places(Placement *places, tuple buffers, Py_ssize_t size) except -1:
    """Find a place for each buffer behind a structure of `size` bytes; returns the size of it all."""
    cdef Py_ssize_t at = place_after(0, size)
    cdef Placement *place = places
    cdef tuple entry
    if len(buffers) > MOST_BUFFERS:
        raise ValueError(f"{len(buffers)} buffers for one hypercall; {MOST_BUFFERS} is the limit")
    for entry in buffers:
        place.handle, content = entry
        place.size = buffer_size(content)
        place.at = at
        if outside(place.handle, 8, size):
            raise ValueError("a handle lies outside its structure")
        if place.size > MOST_BYTES - at:
            raise MemoryError(f"no memory for a buffer of {place.size} bytes")
        at = place_after(at, place.size)
        place += 1
    return at


cdef int fill_places(char *start, const Placement *place, tuple buffers) except -1:
    cdef uint64_t address
    cdef tuple entry
    for entry in buffers:
        content = entry[1]
        if isinstance(content, bytes):
            memcpy(start + place.at, <const char *> (<bytes> content), place.size)
        address = <uintptr_t> (start + place.at)
        memcpy(start + place.handle, &address, 8)
        place += 1
    return 0


cdef list taken_out(const char *start, const Placement *places, Py_ssize_t count):
    cdef Py_ssize_t index
    return [PyBytes_FromStringAndSize(start + places[index].at, places[index].size) for index in range(count)]


# == The privcmd device ==

@cython.final
@cython.no_gc
cdef class Privcmd:
    cdef _Descriptor device         # None once closed
    cdef _Descriptor buffer_device  # None if there is none, and once closed
    cdef unsigned int born
    cdef _MapRing ring
    cdef int way
    cdef readonly str path
    cdef readonly int kernel_bits
    cdef readonly int probe_errno
    cdef readonly Pool pool

    def __cinit__(self, path=None, str gate not None="auto"):
        self.born = forks
        self.ring = _MapRing.__new__(_MapRing)
        if gate not in ("auto", "never"):
            raise ValueError(f"gate is 'auto' or 'never', not {gate!r}")
        self.kernel_bits = width_of_kernel()
        self.device, self.path = open_privcmd(path)
        self.buffer_device = open_hypercall_device()
        self.pool = Pool()
        self.pool.device = self.buffer_device
        self.choose_way(gate == "auto")

    cdef int choose_way(self, bint may_gate) except -1:
        """Once and for all: an error that Xen returns later must not have a call issued again."""
        cdef int result = self.hypercall(XEN_VERSION)
        if result == -errno.ENOTTY and may_gate and GATE_AVAILABLE:
            self.way = GATED
            result = self.hypercall(XEN_VERSION)
        elif result in (-errno.EINVAL, -errno.ENOTTY) and LONGS_DIFFER:
            self.way = LONGS
            result = self.hypercall(XEN_VERSION)
        self.probe_errno = -result if result < 0 else 0
        return 0

    cdef _Descriptor opened(self):
        if self.device is None:
            raise ValueError(f"this handle of {self.path} is closed")
        check_fork(self.born, "handle")
        return self.device

    @property
    def fd(self):
        return self.opened().number

    @property
    def gated(self):
        return self.way == GATED

    @property
    def longs(self):
        return self.way == LONGS

    @property
    def has_buffer_device(self):
        return self.buffer_device is not None

    @property
    def maps(self):
        return self.ring.maps()

    def ioctl(self, str name not None, argument):
        cdef _Descriptor device = self.opened()
        return ioctl_in_place(device.number, IOCTL[name], argument, self.way == GATED)

    def hypercall(self, uint64_t op,
                  uint64_t a1=0, uint64_t a2=0, uint64_t a3=0, uint64_t a4=0, uint64_t a5=0):
        cdef _Descriptor device = self.opened()
        cdef privcmd_hypercall call
        cdef int result
        call.op = op
        call.arg[0] = a1
        call.arg[1] = a2
        call.arg[2] = a3
        call.arg[3] = a4
        call.arg[4] = a5
        with nogil:
            result = issue_hypercall(device.number, &call, self.way)
        return result

    def exchange(self, uint64_t op, bytes request not None, tuple buffers not None=(), int64_t before=-1,
                 int64_t after=-1):
        cdef _Descriptor device = self.opened()
        cdef privcmd_hypercall call
        cdef Placement places[MOST_BUFFERS]
        cdef Arena arena
        cdef char *start
        cdef Py_ssize_t size = len(request)
        cdef Py_ssize_t total = find_places(places, buffers, size) if buffers else place_after(0, size)
        cdef int result, at = 0
        arena = self.pool.take(total)
        try:
            start = arena.memory.start
            memcpy(start, <const char *> request, size)
            if buffers:
                fill_places(start, places, buffers)
            memset(&call, 0, sizeof(call))
            call.op = op
            if before >= 0:
                call.arg[0] = before
                at = 1
            call.arg[at] = <uintptr_t> start
            if after >= 0:
                call.arg[at + 1] = after
            with nogil:
                result = issue_hypercall(device.number, &call, self.way)
            return (result, PyBytes_FromStringAndSize(start, size),
                    taken_out(start, places, len(buffers)) if buffers else ())
        finally:
            arena.release(total)

    def prepare(self, uint64_t op, bytes request not None, Py_ssize_t domid_at, RecordReader reader not None,
                Py_ssize_t body):
        return PreparedCall(self, op, request, domid_at, reader, body)

    cdef ForeignMap keep(self, ForeignMap foreign):
        """Hand out a map that is complete. ValueError when the handle was closed while the map was made."""
        self.opened()
        foreign.join(self.ring)
        return foreign

    def map_frames(self, uint16_t domid, frames, bint writable=False):
        cdef _Descriptor device = self.opened()
        cdef _FrameErrors copied
        cdef ForeignMap foreign
        cdef Py_ssize_t i
        if self.kernel_bits == 32 and KERNEL32_FRAME_SIZE != 8:
            raise OSError(errno.ENOSYS, "this kernel takes frame numbers of 32 bits")
        copied = copy_frames(frames)
        foreign = new_map(domid, copied.count, writable, MAP_SHARED, device.number)
        self.map_batch(device, foreign, copied)
        for i in range(copied.count):
            # The kernel has cut these off unnoticed, and mapped another frame.
            if copied.frames[i] > LAST_FRAME and copied.codes[i] == 0:
                copied.codes[i] = -errno.EINVAL
        foreign.errors = copied.positive()
        return self.keep(foreign)

    cdef int map_batch(self, _Descriptor device, ForeignMap foreign, _FrameErrors frames) except -1:
        cdef int result
        with nogil:
            result = self.issue_batch(device, foreign, frames, 0, frames.count)
        deadline = time.monotonic() + RETRY_SECONDS
        while result == PAGED_OUT and time.monotonic() < deadline:
            PyErr_CheckSignals()
            with nogil:
                usleep(RETRY_MICROSECONDS)
                result = self.retry_batch(device, foreign, frames)
        if result < 0 and result != PAGED_OUT:
            raise OSError(-result, f"cannot map frames of domain {foreign.domid}: {os.strerror(-result)}")
        return 0

    cdef int retry_batch(self, _Descriptor device, ForeignMap foreign, _FrameErrors frames) noexcept nogil:
        """Ask again for each run of frames that were paged out; the rest is settled and may not be."""
        cdef Py_ssize_t first = 0, end
        cdef int result, worst = 0
        while first < frames.count:
            end = first
            while end < frames.count and frames.codes[end] == PAGED_OUT:
                end += 1
            if end > first:
                result = self.issue_batch(device, foreign, frames, first, end)
                if result < 0:
                    worst = result
                if result < 0 and result != PAGED_OUT:
                    return result
            first = end + 1
        return worst

    cdef int issue_batch(self, _Descriptor device, ForeignMap foreign, _FrameErrors frames,
                         Py_ssize_t first, Py_ssize_t end) noexcept nogil:
        cdef privcmd_mmapbatch_v2 call
        cdef privcmd_mmapbatch_v2_32 narrow
        memset(&call, 0, sizeof(call))
        call.num = <uint32_t> (end - first)
        call.dom = <uint16_t> foreign.domid
        call.addr = <uintptr_t> (foreign.start + first * FRAME_SIZE)
        call.arr = <uintptr_t> (frames.frames + first)
        call.err = <uintptr_t> (frames.codes + first)
        if self.kernel_bits == 64:
            return xen_ioctl(device.number, PRIVCMD_MMAPBATCH_V2, &call, self.way == GATED)
        memset(&narrow, 0, sizeof(narrow))
        narrow.num = call.num
        narrow.dom = call.dom
        narrow.addr = call.addr
        narrow.arr = <uint32_t> call.arr
        narrow.err = <uint32_t> call.err
        return xen_ioctl(device.number, PRIVCMD_MMAPBATCH_V2_32, &narrow, False)

    def map_resource(self, uint16_t domid, uint32_t kind, uint32_t ident, uint32_t first, Py_ssize_t count,
                     bint writable=False):
        cdef _Descriptor device = self.opened()
        cdef ForeignMap foreign = new_map(domid, count, writable, MAP_SHARED, device.number)
        self.issue_resource(device, domid, kind, ident, first, count, foreign.start)
        return self.keep(foreign)

    def map_device(self, int device, uint16_t domid, uint64_t offset, Py_ssize_t count, bint writable=False):
        cdef ForeignMap foreign
        self.opened()
        foreign = new_map(domid, count, writable, MAP_SHARED, device, offset)
        madvise(foreign.start, foreign.mapped, MADV_DONTFORK)
        return self.keep(foreign)

    def resource_size(self, uint16_t domid, uint32_t kind, uint32_t ident):
        return self.issue_resource(self.opened(), domid, kind, ident, 0, 0, NULL)

    cdef object issue_resource(self, _Descriptor device, uint16_t domid, uint32_t kind, uint32_t ident,
                               uint32_t first, Py_ssize_t count, char *start):
        """The number of frames, which the kernel reports for a request of 0 frames without an address."""
        cdef privcmd_mmap_resource call
        cdef int result
        memset(&call, 0, sizeof(call))
        call.dom = domid
        call.type = kind
        call.id = ident
        call.idx = first
        call.num = count
        call.addr = <uintptr_t> start
        with nogil:
            result = xen_ioctl(device.number, PRIVCMD_MMAP_RESOURCE, &call, self.way == GATED)
        if result < 0:
            raise OSError(-result, f"resource {kind} of domain {domid}: {os.strerror(-result)}")
        return call.num

    def close(self):
        self.ring.check_exports()
        self.device = None
        self.buffer_device = None
        self.ring.close()
        self.pool.close()

    def __repr__(self):
        state = "closed" if self.device is None else "gated" if self.way == GATED else "open"
        return f"<Privcmd {self.path}, {state}>"


@cython.final
@cython.no_gc
cdef class PreparedCall:
    cdef Privcmd device
    cdef uint64_t op
    cdef bytes request
    cdef Py_ssize_t domid_at    # -1: the question is about no domain
    cdef RecordReader reader
    cdef Py_ssize_t body

    def __cinit__(self, Privcmd device not None, uint64_t op, bytes request not None, Py_ssize_t domid_at,
                  RecordReader reader not None, Py_ssize_t body):
        if outside(body, reader.size, len(request)) or domid_at != -1 and outside(domid_at, 2, len(request)):
            raise ValueError("a field lies outside its structure")
        self.device = device
        self.op = op
        self.request = request
        self.domid_at = domid_at
        self.reader = reader
        self.body = body

    def ask(self, domid):
        cdef _Descriptor device = self.device.opened()
        cdef privcmd_hypercall call
        cdef Arena arena
        cdef char *start
        cdef Py_ssize_t size = len(self.request)
        cdef uint16_t number = 0
        cdef int result
        if self.domid_at >= 0:
            number = domid
        arena = self.device.pool.take(size)
        try:
            start = arena.memory.start
            memcpy(start, <const char *> self.request, size)
            if self.domid_at >= 0:
                memcpy(start + self.domid_at, &number, 2)
            memset(&call, 0, sizeof(call))
            call.op = self.op
            call.arg[0] = <uintptr_t> start
            with nogil:
                result = issue_hypercall(device.number, &call, self.device.way)
            return result if result < 0 else self.reader.read(start + self.body)
        finally:
            arena.release(size)


# == The memory of a simulated machine ==

@cython.final
@cython.no_gc
cdef class SharedMemory:
    cdef _Descriptor memory     # None once closed
    cdef unsigned int born
    cdef _MapRing ring
    cdef readonly uint64_t frames

    def __cinit__(self, uint64_t frames):
        self.born = forks
        self.ring = _MapRing.__new__(_MapRing)
        if not 0 < frames <= MOST_FRAMES:
            raise ValueError(f"a memory cannot have {frames} frames")
        self.frames = frames
        self.memory = owner_of(os.memfd_create("pyxc-sim", os.MFD_CLOEXEC))
        os.ftruncate(self.memory.number, frames * FRAME_SIZE)

    cdef _Descriptor opened(self):
        if self.memory is None:
            raise ValueError("this memory is closed")
        check_fork(self.born, "memory")
        return self.memory

    cdef uint64_t place(self, uint64_t frame, uint64_t offset, uint64_t size) except? 0:
        """Where these bytes lie in the file."""
        cdef uint64_t room = (self.frames - frame) * FRAME_SIZE if frame < self.frames else 0
        if frame >= self.frames or offset > room or size > room - offset:
            raise ValueError(f"{size} bytes at {offset} of frame {frame} are not in {self.frames} frames")
        return frame * FRAME_SIZE + offset

    @property
    def fd(self):
        return self.opened().number

    @property
    def maps(self):
        return self.ring.maps()

    def read(self, uint64_t frame, uint64_t offset, size_t size):
        cdef _Descriptor memory = self.opened()
        return os.pread(memory.number, size, self.place(frame, offset, size))

    def write(self, uint64_t frame, uint64_t offset, data):
        cdef _Descriptor memory = self.opened()
        octets = memoryview(data).cast("B")
        os.pwrite(memory.number, octets, self.place(frame, offset, len(octets)))

    def discard(self, uint64_t frame, uint64_t count=1):
        cdef _Descriptor memory = self.opened()
        cdef uint64_t start = self.place(frame, 0, 0)
        cdef int result
        if count > self.frames - frame:
            raise ValueError(f"{count} frames from {frame} on are not in {self.frames} frames")
        with nogil:
            result = fallocate(memory.number, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                               start, count * FRAME_SIZE)
        if result < 0:
            PyErr_SetFromErrno(OSError)

    def map_frames(self, uint16_t domid, frames, bint writable=False, errors=()):
        cdef _Descriptor memory = self.opened()
        cdef _FrameErrors copied = copy_frames(frames)
        cdef ForeignMap foreign = new_map(domid, copied.count, writable,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)
        self.take_errors(copied, errors)
        self.fill_map(memory, foreign, copied)
        foreign.errors = copied.positive()
        self.opened()
        foreign.join(self.ring)
        return foreign

    cdef int take_errors(self, _FrameErrors frames, errors) except -1:
        """Add the given errors, one for each frame or none at all, and those of absent frames."""
        cdef Py_ssize_t index = 0
        cdef int32_t code
        for code in errors:
            if index == frames.count:
                raise ValueError(f"more than {index} errors for {frames.count} frames")
            if not 0 <= code <= MOST_ERRNO:
                raise ValueError(f"{code} is not an errno")
            frames.codes[index] = -code
            index += 1
        if index not in (0, frames.count):
            raise ValueError(f"{index} errors for {frames.count} frames")
        for index in range(frames.count):
            if frames.codes[index] == 0 and frames.frames[index] >= self.frames:
                frames.codes[index] = -errno.EINVAL
        return 0

    cdef int fill_map(self, _Descriptor memory, ForeignMap foreign, _FrameErrors frames) except -1:
        """Map each run of frames that follow one another over its part of the address space."""
        cdef Py_ssize_t first = 0, end
        cdef uint64_t frame
        cdef int protection = PROT_READ | PROT_WRITE if foreign.writable else PROT_READ
        while first < frames.count:
            end = first + 1
            if frames.codes[first] == 0:
                frame = frames.frames[first]
                while (end < frames.count and frames.codes[end] == 0
                       and frames.frames[end] == frame + (end - first)):
                    end += 1
                map_memory(foreign.start + first * FRAME_SIZE, (end - first) * FRAME_SIZE, protection,
                           MAP_SHARED | MAP_FIXED, memory.number, frame * FRAME_SIZE)
            first = end
        madvise(foreign.start, foreign.mapped, MADV_DONTFORK)
        return 0

    def close(self):
        self.ring.check_exports()
        self.memory = None
        self.ring.close()

    def __repr__(self):
        return f"<SharedMemory of {self.frames} frames{', closed' if self.memory is None else ''}>"
