# SPDX-License-Identifier: MIT
# Reading numbers: packed structures, as records.

cdef dict UNITS = {"B": 1, "b": 1, "?": 1, "H": 2, "h": 2, "I": 4, "i": 4, "Q": 8, "q": 8}

cdef enum:
    BYTES_FIELD, U8_FIELD, U16_FIELD, U32_FIELD, U64_FIELD, OTHER_FIELD

cdef struct Place:
    Py_ssize_t offset           # -1: this layout has no such field
    Py_ssize_t length
    Py_ssize_t unit
    int kind                    # a common one in this machine's byte order, or OTHER_FIELD
    char code


cdef dict COMMON_FIELDS = {"B": U8_FIELD, "H": U16_FIELD, "I": U32_FIELD, "Q": U64_FIELD}


cdef inline uint64_t first_bytes(const char *at, Py_ssize_t unit) noexcept:
    """The first bytes of a word, the others 0. A memcpy() of a constant size is one instruction."""
    cdef uint64_t word = 0
    if unit == 8:
        memcpy(&word, at, 8)
    elif unit == 4:
        memcpy(&word, at, 4)
    elif unit == 2:
        memcpy(&word, at, 2)
    else:
        memcpy(&word, at, 1)
    return word


cdef inline object number_at(const char *at, const Place *place, bint swapped):
    """One number of 1, 2, 4 or 8 bytes. A shift to the top of the word and back extends the sign.

    The first bytes in memory are the low ones of a little-endian word, and the high ones of a big-endian one.
    """
    cdef uint64_t word = first_bytes(at, place.unit)
    cdef unsigned int spare = 64 - 8 * place.unit
    cdef bint little = LITTLE_ENDIAN != swapped
    if swapped:
        word = __builtin_bswap64(word)
    if not little:
        word = word >> spare
    if place.code == b"?":
        return word != 0
    if place.code >= b"a":
        return <int64_t> (word << spare) >> spare
    return word


cdef object value_at(const char *data, const Place *place, bint swapped):
    """A number, or a tuple (an array of them)."""
    cdef Py_ssize_t index
    cdef object number
    if place.offset < 0:
        return None
    if place.length == 1:
        return number_at(data + place.offset, place, swapped)
    numbers = PyTuple_New(place.length)
    for index in range(place.length):
        number = number_at(data + place.offset + index * place.unit, place, swapped)
        Py_INCREF(number)
        PyTuple_SET_ITEM(numbers, index, <PyObject *> number)
    return numbers


@cython.final
@cython.no_gc
cdef class RecordReader:
    cdef type cls
    cdef Place *places
    cdef Py_ssize_t count, size
    cdef bint swapped
    cdef bint flat              # no field is a tuple

    def __cinit__(self, type record not None, Py_ssize_t size, tuple fields not None, bint swapped=False):
        cdef Py_ssize_t index
        # Other subclasses of tuple may need more memory than new_tuple() allocates.
        names = getattr(record, "_fields", None)
        if not issubclass(record, tuple) or record.__dictoffset__ or type(names) is not tuple:
            raise TypeError("records are of a NamedTuple class")
        if len(names) != len(fields):
            raise ValueError(f"{len(fields)} fields for the {len(names)} of {record.__name__}")
        if size < 1:
            raise ValueError(f"a structure cannot have {size} bytes")
        self.cls = record
        self.size = size
        self.swapped = swapped
        self.places = <Place *> calloc(len(fields) + 1, sizeof(Place))
        if self.places == NULL:
            raise MemoryError()
        self.count = len(fields)
        self.flat = True
        for index in range(self.count):
            self.set_place(&self.places[index], fields[index])

    cdef int set_place(self, Place *place, field) except -1:
        cdef Py_ssize_t offset, length
        cdef str code
        place.offset = -1
        place.kind = OTHER_FIELD
        if field is None:
            return 0
        offset, code, length = field
        if code not in UNITS:
            raise ValueError(f"{code!r} is not the code of a number")
        place.code = ord(code)
        place.unit = UNITS[code]
        if length < 1 or length > self.size // place.unit or outside(offset, length * place.unit, self.size):
            raise ValueError("a field lies outside its structure")
        place.length = length
        place.offset = offset
        if length == 1 and not self.swapped and code in COMMON_FIELDS:
            place.kind = COMMON_FIELDS[code]
        if length > 1 and place.unit == 1:
            place.kind = BYTES_FIELD
        elif length > 1:
            self.flat = False
        return 0

    def __dealloc__(self):
        free(self.places)

    cdef object read(self, const char *data):
        """Fill a new tuple of the class in place, in half the time of converting another tuple.

        Until it is full it must be hidden from the collector, and thus from gc.get_objects(). A record of
        numbers and bytes alone stays hidden: it cannot be part of a cycle.
        """
        cdef Py_ssize_t index
        cdef Place *place = self.places
        cdef uint16_t half
        cdef uint32_t word
        cdef uint64_t long_word
        cdef object value
        cdef PyObject *item
        cdef object record = new_tuple(<PyTypeObject *> self.cls, self.count)
        for index in range(self.count):
            if place.kind == U32_FIELD:
                memcpy(&word, data + place.offset, 4)
                item = PyLong_FromUnsignedLongLong(word)
            elif place.kind == U64_FIELD:
                memcpy(&long_word, data + place.offset, 8)
                item = PyLong_FromUnsignedLongLong(long_word)
            elif place.kind == U16_FIELD:
                memcpy(&half, data + place.offset, 2)
                item = PyLong_FromUnsignedLongLong(half)
            elif place.kind == BYTES_FIELD:
                item = new_bytes(data + place.offset, place.length)
            elif place.kind == U8_FIELD:
                item = PyLong_FromUnsignedLongLong(<unsigned char> data[place.offset])
            else:
                value = value_at(data, place, self.swapped)
                item = <PyObject *> value
                Py_INCREF(value)
            if item == NULL:
                raise MemoryError()
            PyTuple_SET_ITEM(record, index, item)
            place += 1
        if not self.flat:
            PyObject_GC_Track(record)
        return record

    def one(self, data, Py_ssize_t offset=0):
        cdef Py_buffer buffer
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            if outside(offset, self.size, buffer.len):
                raise ValueError(f"a record of {self.size} bytes does not fit {buffer.len} bytes at {offset}")
            return self.read(<const char *> buffer.buf + offset)
        finally:
            PyBuffer_Release(&buffer)

    def all(self, data):
        cdef Py_buffer buffer
        cdef Py_ssize_t start
        PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
        try:
            if buffer.len % self.size:
                raise ValueError(f"{buffer.len} bytes are not a number of records of {self.size} bytes")
            return [self.read(<const char *> buffer.buf + start) for start in range(0, buffer.len, self.size)]
        finally:
            PyBuffer_Release(&buffer)
