# SPDX-License-Identifier: MIT
# Lists of u64, in buffers that need not be aligned.

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
