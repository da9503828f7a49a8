# SPDX-License-Identifier: MIT
# cython: language_level=3, cdivision=True, auto_pickle=False, autotestdict=False
"""The native core: devices, ioctls, hypercall-safe memory, foreign mappings and lists of u64.

Nothing here knows a structure of Xen; those of Linux's own devices are in ioctls.h. The public interface is
documented in _core.pyi. This file has what all parts use; the parts are included at its end, from core/.

Rules that keep memory safe here:

* Numbers come from anywhere. A sum of two of them may overflow, so bounds are checked by subtraction:
  outside().
* Converting an object to a number, iterating, and anything that makes an object the garbage collector tracks
  may run arbitrary Python code. So every value is converted once, before a pointer is taken; or what the
  pointer leads to is kept for as long as it is used.
* With the GIL released, any other thread may close anything. So a call holds a reference to the _Descriptor
  that it uses, and an object that others can find (maps, records) is complete before they can.
"""

import errno
import os
import sys
import time

cimport cython
from cpython.buffer cimport (
    Py_buffer,
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_SIMPLE,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_New
from libc.errno cimport EINTR, EINVAL, ENODEV, ENOENT, ENOTTY, ENXIO, errno as C_errno
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, getenv
from libc.string cimport memcpy, memset

# Of a free-threaded Python it needs the GIL, which Python therefore enables unless it was forbidden to: without
# it, two threads that take arenas crash.
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError("pyxc._core needs the GIL: do not disable it by PYTHON_GIL=0 or -X gil=0")

include "core/system.pxi"

# == Constants ==

cdef enum:
    FRAME_SIZE = 4096

cdef Py_ssize_t KERNEL_PAGE = os.sysconf("SC_PAGESIZE")
cdef Py_ssize_t MOST_BYTES = PY_SSIZE_T_MAX - 4 * KERNEL_PAGE   # can be rounded up, and a page added
cdef bint LITTLE_ENDIAN = sys.byteorder == "little"

PAGE_SIZE = FRAME_SIZE
POINTER_BITS = 8 * <int> sizeof(void *)


# == The environment ==

def environment(str name not None):
    cdef bytes encoded = name.encode()
    cdef const char *value = getenv(encoded)
    return None if value == NULL else PyUnicode_DecodeFSDefault(value)


# == Bounds ==

cdef inline bint outside(Py_ssize_t start, Py_ssize_t size, Py_ssize_t whole) noexcept nogil:
    """Whether `size` bytes from `start` on are not all among the first `whole` bytes."""
    return start < 0 or size < 0 or size > whole or start > whole - size


# == The parts, each after those that it uses ==

include "core/lifetimes.pxi"
include "core/arenas.pxi"
include "core/words.pxi"
include "core/maps.pxi"
include "core/batches.pxi"
include "core/records.pxi"
include "core/ioctls.pxi"
include "core/placements.pxi"
include "core/privcmd.pxi"
include "core/shared_memory.pxi"
