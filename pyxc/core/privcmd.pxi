# SPDX-License-Identifier: MIT
# The privcmd device: hypercalls, and mappings.

cdef enum:
    XEN_VERSION = 17        # __HYPERVISOR_xen_version; its command 0 takes no argument
    RETRY_MICROSECONDS = 100

cdef double RETRY_SECONDS = 5.0
cdef int PAGED_OUT = -errno.ENOENT
cdef uint64_t LAST_FRAME = (<uint64_t> 1 << 40) - 1     # a page table entry holds 52 bits of address
cdef bint LONGS_DIFFER = sizeof(privcmd_hypercall_longs) != sizeof(privcmd_hypercall)


# == Opening ==

cdef tuple open_privcmd(path):
    """(descriptor, path)"""
    cdef _Descriptor device
    if path is not None:
        path = os.fsdecode(path)
        return owner_of(os.open(path, os.O_RDWR | os.O_CLOEXEC)), path
    device = device_at("/dev/xen/privcmd")
    if device is not None:
        return device, "/dev/xen/privcmd"
    device = device_at("/proc/xen/privcmd")
    if device is not None:
        return device, "/proc/xen/privcmd"
    return open_privcmd("/dev/xen/privcmd")     # for its error


cdef _Descriptor device_at(const char *path):
    """The device, open; None on a kernel without it. os.open() would take four times as long."""
    cdef int number, failure
    while True:
        with nogil:
            number = open_file(path, O_RDWR | O_CLOEXEC)
            failure = C_errno
        if number >= 0:
            return owner_of(number)
        if failure in (ENOENT, ENXIO, ENODEV):
            return None
        if failure != EINTR:
            raise OSError(failure, os.strerror(failure), PyUnicode_DecodeFSDefault(path))
        PyErr_CheckSignals()


cdef int width_of_kernel() except -1:
    if sizeof(void *) == 8 or GATE_AVAILABLE:
        return 64
    machine = os.uname().machine
    # A 64-bit ARM kernel calls itself armv8l in a process with a 32-bit personality.
    return 64 if "64" in machine or machine in ("s390x", "armv8l") else 32


# == The device, open ==

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
        self.buffer_device = device_at("/dev/xen/hypercall")
        self.pool = Pool()
        self.pool.device = self.buffer_device
        self.choose_way(gate == "auto")

    cdef int choose_way(self, bint may_gate) except -1:
        """Choose once: an error that Xen returns later must not make the same call go out twice."""
        cdef int result = self.try_way(PLAIN)
        if result == -ENOTTY and may_gate and GATE_AVAILABLE:
            result = self.try_way(GATED)
        elif result in (-EINVAL, -ENOTTY) and LONGS_DIFFER:
            result = self.try_way(LONGS)
        self.probe_errno = -result if result < 0 else 0
        return 0

    cdef int try_way(self, int way) noexcept:
        cdef privcmd_hypercall call
        memset(&call, 0, sizeof(call))
        call.op = XEN_VERSION
        self.way = way
        with nogil:
            return issue_hypercall(self.device.number, &call, way)

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
            # The kernel silently truncated this number, and mapped another frame.
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
        """Ask again for each run of frames that were paged out; the others have their result already."""
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
