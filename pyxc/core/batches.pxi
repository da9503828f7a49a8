# SPDX-License-Identifier: MIT
# Writing numbers: the entries of a multicall, and their structures.

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
    """len() of a column may be wrong, so its values are counted."""
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
    # A column's own code may release the arena. Counted as exported, its memory then goes to no other call.
    memory.exports += 1
    try:
        lay_entries(memory.start, count, request, stride, number, before, after, swapped)
        for offset, size, column in columns:
            if size not in (1, 2, 4, 8) or outside(offset, size, len(request)):
                raise ValueError("a column lies outside its structure")
            lay_column(memory.start + ENTRY * count + offset, count, stride, size, column, swapped)
    finally:
        memory.exports -= 1
