# SPDX-License-Identifier: MIT
"""A hypervisor and a xenstored that are nothing but the bytes of their answers.

An answer is a number of 32 bits, as the result of a hypercall, and bytes with their length before them. What
answers truthfully is written down in the same form, so that the truth is where a fuzzer starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from pyxc._core import PAGE_SIZE, Arena, ForeignMap, Pool, SharedMemory
from pyxc.link import Direct, EventDevice, Link
from pyxc.link.wrapper import LinkWrapper
from pyxc.store.channel import Channel

ROOM_MOST = 65 << 20
"""Bytes of hypercall-safe memory that no answer may make the library ask for at once."""
_HEAD = struct.Struct("<iI")


class Enough(BaseException):
    """There are no answers left: all have been decoded. No handler may mistake this for an error."""


class Answers:
    """Answers, read in turn."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def next(self) -> tuple[int, bytes]:
        """Enough at the end; of the last answer less may be there than it says."""
        if self._at + _HEAD.size > len(self._data):
            raise Enough
        number, size = _HEAD.unpack_from(self._data, self._at)
        start = self._at + _HEAD.size
        self._at = start + size
        return number, self._data[start : self._at]

    @property
    def left(self) -> bool:
        return self._at + _HEAD.size <= len(self._data)


def answer(number: int, data: bytes = b"") -> bytes:
    """One answer in the form that Answers reads. Zeros at the end can be left out."""
    told = data.rstrip(b"\0")
    return _HEAD.pack(number, len(told)) + told


class _Room:
    """A pool with a limit."""

    def __init__(self) -> None:
        self._pool = Pool(locked=False)
        self.live, self.close = self._pool.live, self._pool.close

    def take(self, size: int) -> Arena:
        if size > ROOM_MOST:
            raise MemoryError(f"an answer made the library ask for {size} bytes")
        return self._pool.take(size)


def _arena(pool: Any, arguments: Sequence[int]) -> tuple[int, int]:
    """Address and size of the arena of a call, (0, 0) without one."""
    for start, size in pool.live():
        if any(start <= argument < start + size for argument in arguments):
            return start, size
    return 0, 0


class StrangeLink:
    """A link to a hypervisor whose answers are some bytes. See pyxc.link.Link."""

    target = "strange"
    kernel_files: str | None = None
    kernel_bits = 64
    gated = False
    direct: Direct | None = None

    def __init__(self, data: bytes, byteorder: Any) -> None:
        self.byteorder = byteorder
        self.pool: Any = _Room()
        self.answers = Answers(data)
        self.maps: list[ForeignMap] = []
        self._memories: list[SharedMemory] = []

    def hypercall(self, op: int, *arguments: int) -> int:
        start, size = _arena(self.pool, arguments)
        result, data = self.answers.next()
        if size:
            ctypes.memmove(start, data[:size].ljust(size, b"\0"), size)
        return result

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        result, data = self.answers.next()
        pieces = io.BytesIO(data)
        return result, [pieces.read(len(content)).ljust(len(content), b"\0") for content in buffers]

    def restrict(self, domid: int) -> int:
        return self.answers.next()[0]

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        return self._map(domid, len(frames), writable)

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        return self._map(domid, count, writable)

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        return self._map(domid, len(refs), writable)

    def lend_pages(self, domid: int, count: int, writable: bool = False) -> tuple[list[int], ForeignMap]:
        return [self.answers.next()[0] for _ in range(count)], self._map(domid, count, True)

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        return self.answers.next()[0]

    def _map(self, domid: int, count: int, writable: bool) -> ForeignMap:
        """A negative number is an errno, a positive one the frame that cannot be mapped, counted from 1."""
        number, data = self.answers.next()
        if number < 0:
            raise OSError(-number, "refused")
        memory = SharedMemory(count)
        self._memories.append(memory)
        memory.write(0, 0, data[: count * PAGE_SIZE])
        codes = [0] * count
        if number:
            codes[(number - 1) % count] = errno.EINVAL
        self.maps.append(memory.map_frames(domid, array("Q", range(count)), writable, codes))
        return self.maps[-1]

    def open_events(self) -> EventDevice:
        return StrangeEvents(self.answers)

    def connect_store(self) -> Channel:
        return StrangeStore(self.answers)

    def clock_ns(self) -> int:
        return abs(self.answers.next()[0])

    def close(self) -> None:
        for mapped in self.maps:
            with contextlib.suppress(BufferError):
                mapped.close()
        for memory in self._memories:
            with contextlib.suppress(BufferError):
                memory.close()
        self.pool.close()


class _Device:
    """Something that can always be read."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._ready = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._ready

    def close(self) -> None:
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1


class StrangeEvents(_Device):
    """See pyxc.link.EventDevice."""

    def request(self, name: str, *numbers: int) -> int:
        return self._answers.next()[0]

    def take(self) -> int:
        return self._answers.next()[0]

    def unmask(self, port: int) -> None:
        pass


class StrangeStore(_Device):
    """A connection to a xenstored, ended when there are no answers. See pyxc.store.channel.Channel."""

    def send(self, data: bytes) -> int:
        return len(data)

    def receive(self) -> bytes:
        return self._answers.next()[1] if self._answers.left else b""


class HonestLink(LinkWrapper):
    """Records what comes through a link, in the form that a StrangeLink reads."""

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self.told = bytearray()

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        start, size = _arena(self.pool, (a1, a2, a3, a4, a5))
        result = super().hypercall(op, a1, a2, a3, a4, a5)
        self.told += answer(result, ctypes.string_at(start, size) if size else b"")
        return result

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        return self._mapped(lambda: super(HonestLink, self).map_frames(domid, frames, writable))

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        return self._mapped(lambda: super(HonestLink, self).map_grants(domid, refs, writable))

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        asked = (domid, kind, ident, first, count, writable)
        return self._mapped(lambda: super(HonestLink, self).map_resource(*asked))

    def lend_pages(self, domid: int, count: int, writable: bool = False) -> tuple[list[int], ForeignMap]:
        refs, pages = super().lend_pages(domid, count, writable)
        self.told += b"".join(answer(ref) for ref in refs)
        return refs, self._mapped(lambda: pages)

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        result, after = super().dm_op(domid, buffers)
        self.told += answer(result, b"".join(after))
        return result, after

    def _mapped(self, call: Callable[[], ForeignMap]) -> ForeignMap:
        mapped = call()
        failed = [index for index, code in enumerate(mapped.errors, 1) if code]
        self.told += answer(failed[0] if failed else 0, b"" if failed else bytes(mapped))
        return mapped

    def open_events(self) -> EventDevice:
        return _HonestEvents(super().open_events(), self.told)

    def connect_store(self) -> Channel:
        return _HonestStore(super().connect_store(), self.told)

    def clock_ns(self) -> int:
        time_ns = super().clock_ns()
        self.told += answer(time_ns & 0x7FFFFFFF)
        return time_ns


class _HonestEvents:
    def __init__(self, inner: EventDevice, told: bytearray) -> None:
        self._inner = inner
        self._told = told
        self.fileno, self.close, self.unmask = inner.fileno, inner.close, inner.unmask

    def request(self, name: str, *numbers: int) -> int:
        result = self._inner.request(name, *numbers)
        self._told += answer(result)
        return result

    def take(self) -> int:
        port = self._inner.take()
        self._told += answer(port)
        return port


class _HonestStore:
    def __init__(self, inner: Channel, told: bytearray) -> None:
        self._inner = inner
        self._told = told
        self.fileno, self.close, self.send = inner.fileno, inner.close, inner.send

    def receive(self) -> bytes:
        data = self._inner.receive()
        self._told += _HEAD.pack(0, len(data)) + data
        return data
