# SPDX-License-Identifier: MIT
# Mappings of the frames of other domains.

@cython.final
@cython.no_gc
cdef class _MapRing:
    """The open maps of one handle. It keeps neither the maps nor the handle alive."""

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
        """Call this right after check_exports(): no other thread runs until all of them are closed."""
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
