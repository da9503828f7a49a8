# SPDX-License-Identifier: MIT
# Ioctls on any device.

cdef enum:
    SCRATCH = 256           # bytes; an ioctl on fewer works on a copy

cdef bint GATE_AVAILABLE = gate_available()

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


def has_64bit_code_segment():
    return GATE_AVAILABLE


cdef int ioctl_in_place(int fd, uint32_t request, argument, bint gate) except? -1:
    """The number of an ioctl includes the size of its structure, but some old ones have 0 there.

    These write at most SCRATCH bytes, so a shorter structure is copied to a buffer of that size.
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
