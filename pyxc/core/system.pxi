# SPDX-License-Identifier: MIT
# What the core uses of the kernel, of CPython, and of the headers beside _core.pyx.

cdef extern from "<sys/mman.h>" nogil:
    void *MAP_FAILED
    int PROT_NONE, PROT_READ, PROT_WRITE
    int MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_LOCKED, MAP_FIXED, MAP_NORESERVE
    int MADV_DONTFORK
    void *mmap(void *start, size_t size, int protection, int flags, int fd, long long offset)
    int munmap(void *start, size_t size)
    int madvise(void *start, size_t size, int advice)

cdef extern from "<fcntl.h>" nogil:
    int O_RDWR, O_CLOEXEC
    int open_file "open" (const char *path, int flags)
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
    object PyUnicode_DecodeFSDefault(const char *string)
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
