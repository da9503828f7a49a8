# SPDX-License-Identifier: MIT
# The memory of a simulated machine.

cdef enum:
    MOST_ERRNO = 4095       # of the kernel

cdef uint64_t MOST_FRAMES = (<uint64_t> 1 << 51) - 1    # what a file can hold


@cython.final
@cython.no_gc
cdef class SharedMemory:
    cdef _Descriptor memory     # None once closed
    cdef unsigned int born
    cdef _MapRing ring
    cdef readonly uint64_t frames

    def __cinit__(self, uint64_t frames, int fd=-1):
        self.born = forks
        self.ring = _MapRing.__new__(_MapRing)
        if not 0 < frames <= MOST_FRAMES:
            raise ValueError(f"a memory cannot have {frames} frames")
        self.frames = frames
        if fd < 0:
            fd = os.memfd_create("pyxc-sim", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            self.memory = owner_of(fd)
            os.ftruncate(fd, frames * FRAME_SIZE)
        elif os.fstat(fd).st_size != frames * FRAME_SIZE:
            raise ValueError(f"descriptor {fd} is not a memory of {frames} frames")
        else:
            self.memory = owner_of(fd)

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
