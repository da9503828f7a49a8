# SPDX-License-Identifier: MIT
"""Memory after what a call may touch. Writing there is an error; under AddressSanitizer reading is, too."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyxc._core import Arena

_PATTERN = 0xA5
_Mark = Callable[[ctypes.c_void_p, ctypes.c_size_t], object]


def _sanitizer(name: str) -> _Mark:
    """A function of AddressSanitizer, or one that does nothing if the process runs without it."""
    try:
        function: _Mark = getattr(ctypes.CDLL(None), name)
    except AttributeError:
        return lambda start, size: None
    return function


_poison = _sanitizer("__asan_poison_memory_region")
_unpoison = _sanitizer("__asan_unpoison_memory_region")


@contextmanager
def red_zone(arena: Arena, used: int) -> Iterator[None]:
    """All of an arena after its first `used` bytes. AssertionError if it has changed at the end."""
    start, size = arena.address + used, arena.size - used
    ctypes.memset(start, _PATTERN, size)
    _poison(ctypes.c_void_p(start), ctypes.c_size_t(size))
    try:
        yield
    finally:
        _unpoison(ctypes.c_void_p(start), ctypes.c_size_t(size))
        changed = ctypes.string_at(start, size) != bytes([_PATTERN]) * size
        ctypes.memset(start, 0, size)
        assert not changed, f"bytes behind the first {used} were written"
