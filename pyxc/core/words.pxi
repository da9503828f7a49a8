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


def consecutive_words(uint64_t first, Py_ssize_t count):
    cdef Py_ssize_t i
    cdef uint64_t word
    cdef char *start
    if count < 0 or (count and <uint64_t> (count - 1) > ~<uint64_t> 0 - first):
        raise ValueError(f"{count} numbers from {first:#x} on are no u64")
    if count > PY_SSIZE_T_MAX // 8:
        raise MemoryError
    words = PyBytes_FromStringAndSize(NULL, 8 * count)
    start = words
    with nogil:
        for i in range(count):
            word = first + <uint64_t> i
            memcpy(start + 8 * i, &word, 8)
    return words


def extent_words(firsts, int order):
    cdef Py_buffer buffer
    cdef Py_ssize_t i, j, size
    cdef uint64_t word
    cdef char *start
    if not 0 <= order <= 18:
        raise ValueError(f"there are no extents of order {order}")
    size = <Py_ssize_t> 1 << order
    get_words(firsts, &buffer, PyBUF_SIMPLE)
    try:
        if buffer.len > PY_SSIZE_T_MAX >> order:
            raise MemoryError
        words = PyBytes_FromStringAndSize(NULL, buffer.len << order)
        start = words
        with nogil:
            for i in range(buffer.len // 8):
                word = word_at(<char *> buffer.buf, i)
                for j in range(size):
                    memcpy(start, &word, 8)
                    start += 8
                    word += 1
    finally:
        PyBuffer_Release(&buffer)
    return words


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


cdef uint64_t PRESENT_BIT = 1
cdef uint64_t FRAME_BITS = 0x000FFFFFFFFFF000

cdef inline uint64_t number_of(const char *table, Py_ssize_t size, uint64_t frame) noexcept nogil:
    """0 for a frame that the table does not have."""
    return word_at(table, <Py_ssize_t> frame) if frame < <uint64_t> size else 0


cdef inline bint is_bad(uint64_t entry, const char *table, Py_ssize_t size, uint64_t refused) noexcept nogil:
    if not entry & PRESENT_BIT:
        return False
    return entry & refused != 0 or number_of(table, size, (entry & FRAME_BITS) >> 12) == 0


cdef void renumber_words(char *entries, Py_ssize_t count, const char *table, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint64_t entry
    for i in range(count):
        entry = word_at(entries, i)
        if entry & PRESENT_BIT:
            entry = (entry & ~FRAME_BITS) | (
                number_of(table, size, (entry & FRAME_BITS) >> 12) - 1) << 12 & FRAME_BITS
            memcpy(entries + 8 * i, &entry, 8)


def renumber_entries(entries, table, uint64_t refused=0):
    cdef Py_buffer words, numbers
    cdef Py_ssize_t i
    cdef list bad = []
    get_words(entries, &words, PyBUF_WRITABLE)
    try:
        get_words(table, &numbers, PyBUF_SIMPLE)
        try:
            for i in range(words.len // 8):
                if is_bad(word_at(<char *> words.buf, i), <char *> numbers.buf, numbers.len // 8, refused):
                    bad.append(i)
            if not bad:
                renumber_words(<char *> words.buf, words.len // 8,
                               <const char *> numbers.buf, numbers.len // 8)
        finally:
            PyBuffer_Release(&numbers)
    finally:
        PyBuffer_Release(&words)
    return bad


def number_frames(frames, table, uint64_t first):
    cdef Py_buffer source, target
    cdef Py_ssize_t i
    cdef uint64_t frame, number
    get_words(frames, &source, PyBUF_SIMPLE)
    try:
        get_words(table, &target, PyBUF_WRITABLE)
        try:
            for i in range(source.len // 8):
                frame = word_at(<char *> source.buf, i)
                if frame < <uint64_t> (target.len // 8):
                    number = first + <uint64_t> i + 1
                    memcpy(<char *> target.buf + 8 * frame, &number, 8)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)


def run_of(words, Py_ssize_t start):
    cdef Py_buffer buffer
    cdef Py_ssize_t count, end
    get_words(words, &buffer, PyBUF_SIMPLE)
    try:
        count = buffer.len // 8
        if outside(start, 1, count):
            raise ValueError(f"{start} is not a place in a list of {count} words")
        end = start + 1
        while end < count and follows(<const char *> buffer.buf, end):
            end += 1
    finally:
        PyBuffer_Release(&buffer)
    return end - start


cdef inline bint follows(const char *words, Py_ssize_t index) noexcept nogil:
    """Whether a word is one more than that before it."""
    cdef uint64_t word = word_at(words, index)
    return word != 0 and word_at(words, index - 1) == word - 1


def pick_words(table, places, picked):
    cdef Py_buffer source, wanted, target
    cdef Py_ssize_t i
    cdef uint64_t place, word
    get_words(table, &source, PyBUF_SIMPLE)
    try:
        get_words(places, &wanted, PyBUF_SIMPLE)
        try:
            get_words(picked, &target, PyBUF_WRITABLE)
            try:
                if target.len != wanted.len:
                    raise ValueError(f"{wanted.len // 8} places have space for {target.len // 8} words")
                for i in range(wanted.len // 8):
                    place = word_at(<char *> wanted.buf, i)
                    word = ABSENT_ENTRY
                    if place < <uint64_t> (source.len // 8):
                        word = word_at(<char *> source.buf, <Py_ssize_t> place)
                    memcpy(<char *> target.buf + 8 * i, &word, 8)
            finally:
                PyBuffer_Release(&target)
        finally:
            PyBuffer_Release(&wanted)
    finally:
        PyBuffer_Release(&source)


cdef uint64_t BELOW_TOP = (<uint64_t> 1 << 56) - 1

def take_tops(words):
    cdef Py_buffer buffer
    cdef Py_ssize_t i
    cdef uint64_t word, rest = 0
    cdef bytes tops
    cdef char *top
    get_words(words, &buffer, PyBUF_WRITABLE)
    try:
        tops = PyBytes_FromStringAndSize(NULL, buffer.len // 8)
        top = tops
        for i in range(buffer.len // 8):
            word = word_at(<char *> buffer.buf, i)
            top[i] = <char> (word >> 56)
            word &= BELOW_TOP
            rest |= word
            memcpy(<char *> buffer.buf + 8 * i, &word, 8)
    finally:
        PyBuffer_Release(&buffer)
    return tops, rest
