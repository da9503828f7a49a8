# SPDX-License-Identifier: MIT
# Hypercall-safe memory: arenas, and the pool from which they are taken.

cdef enum:
    POOLED_PAGES = 64       # larger arenas are not kept
    FEW_PAGES = 4           # of each size up to this one, POOLED_PER_SIZE arenas are kept; of larger ones one
    POOLED_PER_SIZE = 8


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
    """Map `size` bytes, and behind them a page without access: writing too far is EFAULT or SIGSEGV.

    Address space for both is reserved, then all but the guard page is released, just before the memory is
    mapped there. If another thread takes that space in between, the memory is elsewhere, without a guard.
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
    cdef dict shelves           # by number of pages: [_ArenaMemory, ...]
    cdef _ArenaMemory spare     # of one page, in front of its shelf: what nearly every call takes

    def __cinit__(self, int device=-1, bint locked=True):
        start_ring(&self.arenas)
        self.device = borrowed(device) if device >= 0 else None
        self.locked = locked
        self.born = forks
        self.shelves = {}

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
            shelf = self.shelves.get(pages)
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
        # After a fork between mmap and madvise, pages are shared until they are written to: write to each.
        for offset in range(0, size, KERNEL_PAGE):
            memory.start[offset] = 0
        return memory

    cdef int anonymous_flags(self) noexcept:
        return MAP_PRIVATE | MAP_ANONYMOUS | (MAP_LOCKED if self.locked else 0)

    cdef object no_memory(self, size_t size, error):
        if self.device is None and self.locked and error.errno in (errno.EAGAIN, errno.EPERM):
            import resource  # rarely necessary, and a file of its own

            limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
            return MemoryError(f"cannot lock {size} bytes for a hypercall: RLIMIT_MEMLOCK is {limit} bytes")
        return MemoryError(f"cannot map {size} bytes for a hypercall: {error.strerror}")

    cdef int keep(self, _ArenaMemory memory) except -1:
        cdef Py_ssize_t pages = memory.size // KERNEL_PAGE
        cdef list shelf
        if pages == 1 and self.spare is None and not self.closed:
            self.spare = memory
        elif pages <= POOLED_PAGES and not self.closed:
            shelf = self.shelves.setdefault(pages, [])
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
        self.shelves = {}
