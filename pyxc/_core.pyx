# SPDX-License-Identifier: MIT
# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
"""The native core: devices, ioctls, hypercall-safe memory, foreign mappings and lists of u64.

Nothing here knows a structure of Xen; those of Linux's own devices are in ioctls.h. The public interface is
documented in _core.pyi.
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
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

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

cdef extern from "gate.h" nogil:
    bint gate_available()
    int xen_ioctl(int fd, uint32_t request, void *argument, bint gated)

cdef extern from *:
    uint64_t __builtin_bswap64(uint64_t word) nogil
    PyObject *PyMemoryView_GET_BASE(object view)
    object PyType_GenericAlloc(PyTypeObject *cls, Py_ssize_t items)

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

cdef enum:
    FRAME_SIZE = 4096
    POOLED_PAGES = 64       # arenas of more pages are not kept
    FEW_PAGES = 4           # of those with up to so many, POOLED_PER_SIZE are kept, of larger ones one
    POOLED_PER_SIZE = 8
    XEN_VERSION = 17        # __HYPERVISOR_xen_version; its command 0 takes no argument
    RETRY_MICROSECONDS = 100

cdef double RETRY_SECONDS = 5.0
cdef int PAGED_OUT = -errno.ENOENT
cdef uint64_t LAST_FRAME = (<uint64_t> 1 << 40) - 1     # a page table entry holds 52 bits of address
cdef uint64_t MOST_FRAMES = (<uint64_t> 1 << 51) - 1    # what a file can hold

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
cdef Py_ssize_t KERNEL_PAGE = os.sysconf("SC_PAGESIZE")


# Forks. No mapping of this module is inherited: a child has nothing to unmap, and must not touch what the
# parent's addresses may mean there.

cdef unsigned int forks = 0

cdef void count_fork() noexcept nogil:
    global forks
    forks += 1

if pthread_atfork(NULL, NULL, count_fork) != 0:
    raise MemoryError("pthread_atfork")


cdef int check_fork(unsigned int born, str what) except -1:
    if born != forks:
        raise RuntimeError(f"this {what} was opened before a fork; open a new one in the child")
    return 0


def fork_count():
    return forks


# Memory.

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


# A ring of the live objects of one owner. It borrows them: each leaves the ring in its __dealloc__.

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


# Arenas.

@cython.final
@cython.no_gc
cdef class _ArenaMemory:
    """The pages of an arena. Memoryviews keep it, so they never outlive their memory."""

    cdef char *start
    cdef size_t size
    cdef unsigned int born

    def __dealloc__(self):
        unmap_memory(self.start, self.size, self.born)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        buffer.obj = self
        fill_buffer(buffer, self.start, self.size, True, flags)


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class Arena:
    cdef Link link
    cdef Pool pool              # None once released
    cdef _ArenaMemory memory
    cdef object whole           # memoryview of the memory; lies in the pool with it

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
        self.held()
        return self.whole

    cpdef release(self, Py_ssize_t used=-1):
        cdef Pool pool = self.pool
        if pool is None:
            raise ValueError("this arena was released")
        self.leave()
        if self.memory.born == forks:
            if used < 0 or <size_t> used > self.memory.size:
                used = self.memory.size
            memset(self.memory.start, 0, used)
            pool.keep(self.memory.size // KERNEL_PAGE, self.whole)
        self.memory = None
        self.whole = None

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef _ArenaMemory memory = self.held()
        buffer.obj = memory
        fill_buffer(buffer, memory.start, memory.size, True, flags)

    def __repr__(self):
        if self.pool is None:
            return "<Arena, released>"
        return f"<Arena of {self.memory.size} bytes at {<uintptr_t> self.memory.start:#x}>"


@cython.final
@cython.no_gc
cdef class Pool:
    cdef Link arenas
    cdef Py_ssize_t taken
    cdef int device
    cdef bint locked, closed
    cdef unsigned int born
    cdef list shelves           # by number of pages: [memoryview, ...]

    def __cinit__(self, int device=-1, bint locked=True):
        start_ring(&self.arenas)
        self.device = device
        self.locked = locked
        self.born = forks
        self.shelves = [[] for _ in range(POOLED_PAGES + 1)]

    cpdef Arena take(self, Py_ssize_t size):
        cdef Arena arena
        cdef Py_ssize_t pages
        cdef list shelf
        if size < 0:
            raise ValueError("the size of an arena is not negative")
        if self.closed:
            raise ValueError("this pool is closed")
        check_fork(self.born, "pool")
        pages = size // KERNEL_PAGE + (size % KERNEL_PAGE != 0) if size else 1
        arena = Arena.__new__(Arena)
        shelf = <list> self.shelves[pages] if pages <= POOLED_PAGES else None
        if shelf:
            arena.whole = shelf.pop()
        else:
            arena.whole = memoryview(self.new_memory(<size_t> pages * KERNEL_PAGE))
        arena.memory = <_ArenaMemory> PyMemoryView_GET_BASE(arena.whole)
        arena.pool = self
        join_ring(&self.arenas, &arena.link, <void *> arena)
        self.taken += 1
        return arena

    cdef _ArenaMemory new_memory(self, size_t size):
        cdef _ArenaMemory memory = _ArenaMemory.__new__(_ArenaMemory)
        cdef size_t offset
        memory.born = forks
        memory.size = size
        try:
            if self.device >= 0:
                memory.start = map_memory(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, self.device, 0)
            else:
                memory.start = map_memory(NULL, size, PROT_READ | PROT_WRITE, self.anonymous_flags(), -1, 0)
        except OSError as error:
            raise self.no_memory(size, error) from None
        madvise(memory.start, size, MADV_DONTFORK)
        # A fork between mmap and madvise leaves pages shared for copy on write: writing makes them ours.
        for offset in range(0, size, KERNEL_PAGE):
            memory.start[offset] = 0
        return memory

    cdef int anonymous_flags(self) noexcept:
        return MAP_PRIVATE | MAP_ANONYMOUS | (MAP_LOCKED if self.locked else 0)

    cdef object no_memory(self, size_t size, error):
        if self.device < 0 and self.locked and error.errno in (errno.EAGAIN, errno.EPERM):
            limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
            return MemoryError(f"cannot lock {size} bytes for a hypercall: RLIMIT_MEMLOCK is {limit} bytes")
        return MemoryError(f"cannot map {size} bytes for a hypercall: {error.strerror}")

    cdef int keep(self, Py_ssize_t pages, whole) except -1:
        cdef list shelf
        if pages <= POOLED_PAGES and not self.closed:
            shelf = <list> self.shelves[pages]
            if len(shelf) < (POOLED_PER_SIZE if pages <= FEW_PAGES else 1):
                shelf.append(whole)
        return 0

    @property
    def outstanding(self):
        return self.taken

    def live(self):
        cdef Arena arena
        return [(<uintptr_t> arena.memory.start, arena.memory.size)
                for arena in members(&self.arenas) if arena.pool is not None]

    def close(self):
        self.closed = True
        for shelf in self.shelves:
            (<list> shelf).clear()


# Foreign mappings.

@cython.final
@cython.no_gc
cdef class _MapRing:
    """The open maps of one handle; it does not keep them alive, nor do they the handle."""

    cdef Link head

    def __cinit__(self):
        start_ring(&self.head)

    cdef list maps(self):
        return members(&self.head)

    cdef int close(self) except -1:
        """All or none: BufferError names the first that a memoryview holds."""
        cdef ForeignMap foreign
        cdef list found = self.maps()
        for foreign in found:
            foreign.check_exports()
        for foreign in found:
            foreign.close()
        return 0


@cython.final
@cython.no_gc
cdef class ForeignMap:
    cdef Link link
    cdef _MapRing ring          # kept while this map may be in it
    cdef char *start            # NULL once closed
    cdef size_t mapped
    cdef unsigned int born
    cdef readonly Py_ssize_t size
    cdef readonly int domid
    cdef readonly bint writable
    cdef readonly Py_ssize_t exports
    cdef readonly tuple errors

    def __init__(self):
        raise TypeError("a foreign map comes from map_frames or map_resource")

    def __dealloc__(self):
        self.unmap()

    cdef void unmap(self) noexcept:
        cdef char *start = self.start
        leave_ring(&self.link)
        self.start = NULL
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
        self.unmap()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __len__(self):
        return self.size

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


cdef ForeignMap new_map(_MapRing ring, int domid, Py_ssize_t frames, bint writable, int flags, int fd,
                        uint64_t offset=0):
    """Address space for `frames` frames; nothing lies in it yet."""
    cdef ForeignMap foreign
    cdef int protection = PROT_READ | PROT_WRITE if writable else PROT_READ
    if not 0 < frames <= (<Py_ssize_t> ((<size_t> -1) >> 1) - KERNEL_PAGE) // FRAME_SIZE:
        raise ValueError(f"cannot map {frames} frames")
    foreign = ForeignMap.__new__(ForeignMap)
    foreign.ring = ring
    foreign.born = forks
    foreign.size = frames * FRAME_SIZE
    foreign.domid = domid
    foreign.writable = writable
    foreign.errors = ()
    foreign.mapped = round_up(foreign.size)
    foreign.start = map_memory(NULL, foreign.mapped, PROT_NONE if fd < 0 else protection, flags, fd, offset)
    join_ring(&ring.head, &foreign.link, <void *> foreign)
    return foreign


# Lists of u64. Their buffers need not be aligned.

cdef int get_words(object owner, Py_buffer *buffer, int flags) except -1:
    PyObject_GetBuffer(owner, buffer, flags)
    if buffer.len % 8:
        PyBuffer_Release(buffer)
        raise ValueError(f"a list of u64 has a multiple of 8 bytes, not {buffer.len}")
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
                            char *frames, Py_ssize_t room) noexcept nogil:
    """Stops with copied > room where there is no room for the next frame."""
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
            if found.copied > room:
                break
            memcpy(frames + 8 * (found.copied - 1), &entry, 8)
    return found


def select_frames(entries, frames, Py_ssize_t at):
    cdef Py_buffer source, target
    cdef Selection found
    cdef Py_ssize_t room
    get_words(entries, &source, PyBUF_SIMPLE)
    try:
        get_words(frames, &target, PyBUF_WRITABLE)
        try:
            room = target.len // 8 - at
            if at < 0 or room < 0:
                raise ValueError(f"{at} is not a place in a list of {target.len // 8} frames")
            with nogil:
                found = select_words(<const char *> source.buf, source.len // 8,
                                     <char *> target.buf + 8 * at, room)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    if found.copied > room:
        raise ValueError(f"no room for more than {room} frames")
    return found.copied, found.absent, found.foreign, found.identity


# Devices.

# Batches.

cdef enum:
    ENTRY = 64                  # bytes of a multicall's entry: number, result, six arguments


cdef int put_number(char *at, uint64_t value, Py_ssize_t size, bint swapped) except -1:
    """Write the low `size` bytes: they come first in a little-endian word, last in a big-endian one."""
    cdef bint little = LITTLE_ENDIAN != swapped
    if size < 8 and value >> (8 * size):
        raise OverflowError(f"{value} does not fit {size} bytes")
    if swapped:
        value = __builtin_bswap64(value)
    memcpy(at, <char *> &value + (0 if little else 8 - size), size)
    return 0


def lay_batch(Arena arena, Py_ssize_t count, bytes request, Py_ssize_t stride, tuple call, tuple columns,
              bint swapped=False):
    cdef char *start = arena.held().start
    cdef char *structure = start + ENTRY * count
    cdef Py_ssize_t index, at, offset, size
    cdef uint64_t number
    cdef int64_t before, after
    number, before, after = call
    if count < 0 or stride < len(request) or (ENTRY + stride) * count > <Py_ssize_t> arena.memory.size:
        raise ValueError("the batch does not fit the arena")
    for index in range(count):
        at = 16
        put_number(start, number, 8, swapped)
        if before >= 0:
            put_number(start + at, before, 8, swapped)
            at += 8
        put_number(start + at, <uintptr_t> structure, 8, swapped)
        if after >= 0:
            put_number(start + at + 8, after, 8, swapped)
        memcpy(structure, <char *> request, len(request))
        start += ENTRY
        structure += stride
    for offset, size, column in columns:
        if size not in (1, 2, 4, 8) or offset < 0 or offset + size > len(request):
            raise ValueError("a column lies outside its structure")
        if len(column) != count:
            raise ValueError(f"a column of {len(column)} values in a batch of {count}")
        structure = arena.memory.start + ENTRY * count + offset
        for value in column:
            put_number(structure, value, size, swapped)
            structure += stride


# Records of packed structures.

cdef struct Place:
    Py_ssize_t offset           # -1: this layout has no such field
    Py_ssize_t length
    Py_ssize_t unit
    char code


cdef object number_at(const char *at, Place *place, bint swapped):
    """One number of 1, 2, 4 or 8 bytes: its sign is filled up from the top, then shifted down again.

    The bytes that come first in a word are its low ones when they are little-endian, else its high ones.
    """
    cdef uint64_t word = 0
    cdef unsigned int spare = 64 - 8 * place.unit
    cdef bint little = LITTLE_ENDIAN != swapped
    memcpy(&word, at, place.unit)
    if swapped:
        word = __builtin_bswap64(word)
    if not little:
        word = word >> spare
    if place.code == b"?":
        return word != 0
    if place.code >= b"a":
        return <int64_t> (word << spare) >> spare
    return word


cdef object value_at(const char *data, Place *place, bint swapped):
    """A number, bytes (an array of octets), or a tuple (an array of anything else)."""
    cdef Py_ssize_t index
    if place.offset < 0:
        return None
    if place.length == 1:
        return number_at(data + place.offset, place, swapped)
    if place.unit == 1:
        return PyBytes_FromStringAndSize(data + place.offset, place.length)
    return tuple([number_at(data + place.offset + index * place.unit, place, swapped)
                  for index in range(place.length)])


@cython.final
@cython.no_gc
cdef class RecordReader:
    cdef type cls
    cdef Place *places
    cdef Py_ssize_t count, size
    cdef bint swapped

    def __cinit__(self, type record, Py_ssize_t size, tuple fields, bint swapped=False):
        cdef Py_ssize_t index
        if not issubclass(record, tuple) or record.__dictoffset__:
            raise TypeError("records are of a NamedTuple class")
        self.cls = record
        self.size = size
        self.swapped = swapped
        self.count = len(fields)
        self.places = <Place *> calloc(self.count + 1, sizeof(Place))
        if self.places == NULL:
            raise MemoryError()
        for index in range(self.count):
            self.set_place(&self.places[index], fields[index])

    cdef int set_place(self, Place *place, field) except -1:
        cdef str code
        place.offset = -1
        if field is None:
            return 0
        offset, code, place.length = field
        place.code = ord(code)
        place.unit = UNITS[code]
        if offset < 0 or place.length < 1 or offset + place.unit * place.length > self.size:
            raise ValueError("a field lies outside its structure")
        place.offset = offset
        return 0

    def __dealloc__(self):
        free(self.places)

    cdef object read(self, const char *data):
        """Fills a new tuple of the class in place: half the time of making one tuple out of another."""
        cdef Py_ssize_t index
        cdef object value
        cdef object record = PyType_GenericAlloc(<PyTypeObject *> self.cls, self.count)
        for index in range(self.count):
            value = value_at(data, &self.places[index], self.swapped)
            Py_INCREF(value)
            PyTuple_SET_ITEM(record, index, value)
        return record

    def one(self, data, Py_ssize_t offset=0):
        cdef Py_buffer buffer
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            if offset < 0 or offset + self.size > buffer.len:
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


cdef tuple ABSENT_DEVICE = (errno.ENOENT, errno.ENXIO, errno.ENODEV)
cdef int OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC


cdef inline Py_ssize_t place_after(Py_ssize_t start, Py_ssize_t size) noexcept:
    """Where the next thing in an arena begins: each has cache lines of its own."""
    return (start + size + 63) & ~63


cdef inline Py_ssize_t content_size(content) except -1:
    return len(<bytes> content) if isinstance(content, bytes) else content


cdef int place_buffers(char *start, Py_ssize_t at, Py_ssize_t size, tuple buffers) except -1:
    """Put the buffers behind the structure and their addresses into it."""
    cdef Py_ssize_t offset
    cdef uint64_t address
    for offset, content in buffers:
        if offset < 0 or offset + 8 > size:
            raise ValueError("a handle lies outside its structure")
        if isinstance(content, bytes):
            memcpy(start + at, <char *> (<bytes> content), len(<bytes> content))
        address = <uintptr_t> (start + at)
        memcpy(start + offset, &address, 8)
        at = place_after(at, content_size(content))
    return 0


cdef list taken_out(char *start, Py_ssize_t at, tuple buffers):
    cdef list found = []
    cdef Py_ssize_t size
    for _, content in buffers:
        size = content_size(content)
        found.append(PyBytes_FromStringAndSize(start + at, size))
        at = place_after(at, size)
    return found


def has_64bit_code_segment():
    return GATE_AVAILABLE


def device_ioctl(int fd, uint32_t request, argument, bint gate=False):
    cdef Py_buffer buffer
    cdef int result
    if gate and not GATE_AVAILABLE:
        raise ValueError("this process has no way into 64-bit code")
    PyObject_GetBuffer(argument, &buffer, PyBUF_WRITABLE)
    try:
        with nogil:
            result = xen_ioctl(fd, request, buffer.buf, gate)
    finally:
        PyBuffer_Release(&buffer)
    return result


cdef void close_fd(int *fd) noexcept:
    """Not os.close: objects are also collected while the interpreter takes its modules apart."""
    if fd[0] >= 0:
        close(fd[0])
        fd[0] = -1


cdef object open_privcmd(path):
    """(fd, path)"""
    if path is not None:
        return os.open(path, OPEN_FLAGS), os.fspath(path)
    try:
        return os.open("/dev/xen/privcmd", OPEN_FLAGS), "/dev/xen/privcmd"
    except OSError as error:
        if error.errno not in ABSENT_DEVICE:
            raise
        absent = error
    try:
        return os.open("/proc/xen/privcmd", OPEN_FLAGS), "/proc/xen/privcmd"
    except OSError as error:
        if error.errno not in ABSENT_DEVICE:
            raise
    raise absent


cdef object open_hypercall_device():
    try:
        return os.open("/dev/xen/hypercall", OPEN_FLAGS)
    except OSError as error:
        if error.errno not in ABSENT_DEVICE:
            raise
        return -1


cdef object width_of_kernel():
    if sizeof(void *) == 8 or GATE_AVAILABLE:
        return 64
    machine = os.uname().machine
    # armv8l is what a 64-bit ARM kernel calls itself to a 32-bit personality.
    return 64 if "64" in machine or machine in ("s390x", "armv8l") else 32


cdef tuple batch_errors(const char *frames, const int32_t *errors, Py_ssize_t count):
    """Errors by frame: what the kernel said, and frame numbers that it would have cut off unnoticed."""
    cdef Py_ssize_t i
    for i in range(count):
        if errors[i] or word_at(frames, i) > LAST_FRAME:
            break
    else:
        return ()
    return tuple([-errors[i] if errors[i] else errno.EINVAL if word_at(frames, i) > LAST_FRAME else 0
                  for i in range(count)])


@cython.final
@cython.no_gc
cdef class Privcmd:
    cdef int device             # -1 once closed
    cdef int buffer_device      # -1 if there is none
    cdef unsigned int born
    cdef _MapRing ring
    cdef int way
    cdef readonly str path
    cdef readonly int kernel_bits
    cdef readonly int probe_errno
    cdef readonly Pool pool

    def __cinit__(self, path=None, str gate="auto"):
        self.device = -1
        self.buffer_device = -1
        self.born = forks
        self.ring = _MapRing.__new__(_MapRing)
        if gate not in ("auto", "never"):
            raise ValueError(f"gate is 'auto' or 'never', not {gate!r}")
        self.kernel_bits = width_of_kernel()
        self.device, self.path = open_privcmd(path)
        self.buffer_device = open_hypercall_device()
        self.pool = Pool(self.buffer_device)
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

    def __dealloc__(self):
        self.close_devices()

    cdef void close_devices(self) noexcept:
        close_fd(&self.device)
        close_fd(&self.buffer_device)

    cdef int check(self) except -1:
        if self.device < 0:
            raise ValueError(f"this handle of {self.path} is closed")
        return check_fork(self.born, "handle")

    @property
    def fd(self):
        self.check()
        return self.device

    @property
    def gated(self):
        return self.way == GATED

    @property
    def longs(self):
        return self.way == LONGS

    @property
    def has_buffer_device(self):
        return self.buffer_device >= 0

    @property
    def maps(self):
        return self.ring.maps()

    def hypercall(self, uint64_t op,
                  uint64_t a1=0, uint64_t a2=0, uint64_t a3=0, uint64_t a4=0, uint64_t a5=0):
        cdef privcmd_hypercall call
        cdef int result
        self.check()
        call.op = op
        call.arg[0] = a1
        call.arg[1] = a2
        call.arg[2] = a3
        call.arg[3] = a4
        call.arg[4] = a5
        with nogil:
            result = issue_hypercall(self.device, &call, self.way)
        return result

    def exchange(self, uint64_t op, bytes request, tuple buffers=(), int64_t before=-1, int64_t after=-1):
        cdef privcmd_hypercall call
        cdef Arena arena
        cdef Py_ssize_t size = len(request), total = place_after(0, size)
        cdef int result, at = 0
        self.check()
        for _, content in buffers:
            total = place_after(total, content_size(content))
        arena = self.pool.take(total)
        try:
            memcpy(arena.memory.start, <char *> request, size)
            place_buffers(arena.memory.start, place_after(0, size), size, buffers)
            memset(&call, 0, sizeof(call))
            call.op = op
            if before >= 0:
                call.arg[0] = before
                at = 1
            call.arg[at] = <uintptr_t> arena.memory.start
            if after >= 0:
                call.arg[at + 1] = after
            with nogil:
                result = issue_hypercall(self.device, &call, self.way)
            return (result, PyBytes_FromStringAndSize(arena.memory.start, size),
                    taken_out(arena.memory.start, place_after(0, size), buffers) if buffers else ())
        finally:
            arena.release(total)

    def prepare(self, uint64_t op, bytes request, Py_ssize_t domid_at, RecordReader reader, Py_ssize_t body):
        cdef PreparedCall prepared = PreparedCall.__new__(PreparedCall)
        if body + reader.size > len(request) or domid_at + 2 > len(request):
            raise ValueError("a field lies outside its structure")
        prepared.device = self
        prepared.op = op
        prepared.request = request
        prepared.domid_at = domid_at
        prepared.reader = reader
        prepared.body = body
        return prepared

    def map_frames(self, uint16_t domid, frames, bint writable=False):
        cdef ForeignMap foreign
        cdef Py_buffer buffer
        self.check()
        if self.kernel_bits == 32 and KERNEL32_FRAME_SIZE != 8:
            raise OSError(errno.ENOSYS, "this kernel takes frame numbers of 32 bits")
        get_words(frames, &buffer, PyBUF_SIMPLE)
        try:
            foreign = new_map(self.ring, domid, buffer.len // 8, writable, MAP_SHARED, self.device)
            self.map_batch(foreign, <const char *> buffer.buf, buffer.len // 8)
        finally:
            PyBuffer_Release(&buffer)
        return foreign

    cdef int map_batch(self, ForeignMap foreign, const char *frames, Py_ssize_t count) except -1:
        cdef int32_t *errors = <int32_t *> calloc(count, sizeof(int32_t))
        cdef int result
        if errors == NULL:
            raise MemoryError()
        try:
            with nogil:
                result = self.issue_batch(foreign, frames, errors, 0, count)
            deadline = time.monotonic() + RETRY_SECONDS
            while result == PAGED_OUT and time.monotonic() < deadline:
                PyErr_CheckSignals()
                with nogil:
                    usleep(RETRY_MICROSECONDS)
                    result = self.retry_batch(foreign, frames, errors, count)
            if result < 0 and result != PAGED_OUT:
                raise OSError(-result, f"cannot map frames of domain {foreign.domid}: {os.strerror(-result)}")
            foreign.errors = batch_errors(frames, errors, count)
        finally:
            free(errors)
        return 0

    cdef int retry_batch(self, ForeignMap foreign, const char *frames, int32_t *errors,
                         Py_ssize_t count) noexcept nogil:
        """Ask again for each run of frames that were paged out; the rest is settled and may not be."""
        cdef Py_ssize_t first = 0, end
        cdef int result, worst = 0
        while first < count:
            end = first
            while end < count and errors[end] == PAGED_OUT:
                end += 1
            if end > first:
                result = self.issue_batch(foreign, frames, errors, first, end)
                if result < 0:
                    worst = result
                if result < 0 and result != PAGED_OUT:
                    return result
            first = end + 1
        return worst

    cdef int issue_batch(self, ForeignMap foreign, const char *frames, int32_t *errors,
                         Py_ssize_t first, Py_ssize_t end) noexcept nogil:
        cdef privcmd_mmapbatch_v2 call
        cdef privcmd_mmapbatch_v2_32 narrow
        memset(&call, 0, sizeof(call))
        call.num = <uint32_t> (end - first)
        call.dom = <uint16_t> foreign.domid
        call.addr = <uintptr_t> (foreign.start + first * FRAME_SIZE)
        call.arr = <uintptr_t> (frames + first * 8)
        call.err = <uintptr_t> (errors + first)
        if self.kernel_bits == 64:
            return xen_ioctl(self.device, PRIVCMD_MMAPBATCH_V2, &call, self.way == GATED)
        memset(&narrow, 0, sizeof(narrow))
        narrow.num = call.num
        narrow.dom = call.dom
        narrow.addr = call.addr
        narrow.arr = <uint32_t> call.arr
        narrow.err = <uint32_t> call.err
        return xen_ioctl(self.device, PRIVCMD_MMAPBATCH_V2_32, &narrow, False)

    def map_resource(self, uint16_t domid, uint32_t kind, uint32_t ident, uint32_t first, Py_ssize_t count,
                     bint writable=False):
        cdef ForeignMap foreign
        self.check()
        foreign = new_map(self.ring, domid, count, writable, MAP_SHARED, self.device)
        self.issue_resource(domid, kind, ident, first, count, foreign.start)
        return foreign

    def map_device(self, int device, uint16_t domid, uint64_t offset, Py_ssize_t count, bint writable=False):
        cdef ForeignMap foreign
        self.check()
        foreign = new_map(self.ring, domid, count, writable, MAP_SHARED, device, offset)
        madvise(foreign.start, foreign.mapped, MADV_DONTFORK)
        return foreign

    def resource_size(self, uint16_t domid, uint32_t kind, uint32_t ident):
        self.check()
        return self.issue_resource(domid, kind, ident, 0, 0, NULL)

    cdef object issue_resource(self, uint16_t domid, uint32_t kind, uint32_t ident, uint32_t first,
                               Py_ssize_t count, char *start):
        """The number of frames, which the kernel fills in when asked for none at no address."""
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
            result = xen_ioctl(self.device, PRIVCMD_MMAP_RESOURCE, &call, self.way == GATED)
        if result < 0:
            raise OSError(-result, f"resource {kind} of domain {domid}: {os.strerror(-result)}")
        return call.num

    def close(self):
        self.ring.close()
        self.pool.close()
        self.close_devices()

    def __repr__(self):
        state = "closed" if self.device < 0 else "gated" if self.way == GATED else "open"
        return f"<Privcmd {self.path}, {state}>"


# The memory of a simulated machine.

@cython.final
@cython.no_gc
cdef class PreparedCall:
    cdef Privcmd device
    cdef uint64_t op
    cdef bytes request
    cdef Py_ssize_t domid_at    # -1: the question is about no domain
    cdef RecordReader reader
    cdef Py_ssize_t body

    def __init__(self):
        raise TypeError("Privcmd.prepare() makes prepared calls")

    def __call__(self, domid=None):
        cdef privcmd_hypercall call
        cdef Arena arena
        cdef Py_ssize_t size = len(self.request)
        cdef uint16_t number
        cdef int result
        self.device.check()
        arena = self.device.pool.take(size)
        try:
            memcpy(arena.memory.start, <char *> self.request, size)
            if self.domid_at >= 0:
                number = domid
                memcpy(arena.memory.start + self.domid_at, &number, 2)
            memset(&call, 0, sizeof(call))
            call.op = self.op
            call.arg[0] = <uintptr_t> arena.memory.start
            with nogil:
                result = issue_hypercall(self.device.device, &call, self.device.way)
            return result if result < 0 else self.reader.read(arena.memory.start + self.body)
        finally:
            arena.release(size)


@cython.final
@cython.no_gc
cdef class SharedMemory:
    cdef int memory             # -1 once closed
    cdef unsigned int born
    cdef _MapRing ring
    cdef readonly uint64_t frames

    def __cinit__(self, uint64_t frames):
        self.memory = -1
        self.born = forks
        self.ring = _MapRing.__new__(_MapRing)
        if not 0 < frames <= MOST_FRAMES:
            raise ValueError(f"a memory cannot have {frames} frames")
        self.frames = frames
        self.memory = os.memfd_create("pyxc-sim", os.MFD_CLOEXEC)
        os.ftruncate(self.memory, frames * FRAME_SIZE)

    def __dealloc__(self):
        close_fd(&self.memory)

    cdef int check(self) except -1:
        if self.memory < 0:
            raise ValueError("this memory is closed")
        return check_fork(self.born, "memory")

    cdef uint64_t place(self, uint64_t frame, uint64_t offset, uint64_t size) except? 0:
        """Where these bytes lie in the file."""
        cdef uint64_t room
        self.check()
        room = (self.frames - frame) * FRAME_SIZE if frame < self.frames else 0
        if frame >= self.frames or offset > room or size > room - offset:
            raise ValueError(f"{size} bytes at {offset} of frame {frame} are not in {self.frames} frames")
        return frame * FRAME_SIZE + offset

    @property
    def fd(self):
        self.check()
        return self.memory

    @property
    def maps(self):
        return self.ring.maps()

    def read(self, uint64_t frame, uint64_t offset, size_t size):
        return os.pread(self.memory, size, self.place(frame, offset, size))

    def write(self, uint64_t frame, uint64_t offset, data):
        octets = memoryview(data).cast("B")
        os.pwrite(self.memory, octets, self.place(frame, offset, len(octets)))

    def discard(self, uint64_t frame, uint64_t count=1):
        cdef uint64_t start = self.place(frame, 0, 0)
        cdef int result
        if count > self.frames - frame:
            raise ValueError(f"frames {frame} to {frame + count - 1} are not in {self.frames} frames")
        with nogil:
            result = fallocate(self.memory, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                               start, count * FRAME_SIZE)
        if result < 0:
            PyErr_SetFromErrno(OSError)

    def map_frames(self, uint16_t domid, frames, bint writable=False, errors=()):
        cdef ForeignMap foreign
        cdef Py_buffer buffer
        self.check()
        get_words(frames, &buffer, PyBUF_SIMPLE)
        try:
            foreign = new_map(self.ring, domid, buffer.len // 8, writable,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)
            self.fill_map(foreign, <const char *> buffer.buf, buffer.len // 8, errors)
        finally:
            PyBuffer_Release(&buffer)
        return foreign

    cdef int fill_map(self, ForeignMap foreign, const char *frames, Py_ssize_t count, errors) except -1:
        cdef list codes = self.frame_errors(frames, count, errors)
        cdef Py_ssize_t first = 0, end
        cdef uint64_t frame
        cdef int protection = PROT_READ | PROT_WRITE if foreign.writable else PROT_READ
        while first < count:
            end = first + 1
            if codes[first] == 0:
                frame = word_at(frames, first)
                while end < count and codes[end] == 0 and word_at(frames, end) == frame + (end - first):
                    end += 1
                map_memory(foreign.start + first * FRAME_SIZE, (end - first) * FRAME_SIZE, protection,
                           MAP_SHARED | MAP_FIXED, self.memory, frame * FRAME_SIZE)
            first = end
        madvise(foreign.start, foreign.mapped, MADV_DONTFORK)
        if any(codes):
            foreign.errors = tuple(codes)
        return 0

    cdef list frame_errors(self, const char *frames, Py_ssize_t count, errors):
        cdef list codes = list(errors) or [0] * count
        cdef Py_ssize_t i
        if len(codes) != count:
            raise ValueError(f"{len(codes)} errors for {count} frames")
        for i in range(count):
            if codes[i] == 0 and word_at(frames, i) >= self.frames:
                codes[i] = errno.EINVAL
        return codes

    def close(self):
        self.ring.close()
        close_fd(&self.memory)

    def __repr__(self):
        return f"<SharedMemory of {self.frames} frames{', closed' if self.memory < 0 else ''}>"
