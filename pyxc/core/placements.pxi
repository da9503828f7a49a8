# SPDX-License-Identifier: MIT
# A structure and the buffers to which its handles point, in one arena.

cdef enum:
    MOST_BUFFERS = 32       # of one hypercall

cdef struct Placement:
    Py_ssize_t handle           # where in the structure the buffer's address goes
    Py_ssize_t at, size         # where in the arena the buffer lies


cdef inline Py_ssize_t place_after(Py_ssize_t start, Py_ssize_t size) noexcept:
    """Where the next thing in an arena begins: each has cache lines of its own."""
    return (start + size + 63) & ~63


cdef Py_ssize_t buffer_size(content) except -1:
    """The size of a buffer, which is given as its contents or as a number of zero bytes."""
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
