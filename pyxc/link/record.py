# SPDX-License-Identifier: MIT
"""Records the calls of a link, in a form that can be replayed on any machine.

A recording is a file of JSON lines: a header, then one line for each call in order. Bytes are zlib-compressed
base64. Addresses are meaningless elsewhere: an argument that points into an arena is written as ["@",
offset], and words of the arena that do so are offsets, too, with their positions listed under "handles".
Opened devices are numbered in order.
"""

from __future__ import annotations

import errno
import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TextIO, TypeVar

from pyxc._core import ForeignMap
from pyxc.link import EventDevice, Link
from pyxc.link.snapshot import Snapshot, packed
from pyxc.link.tape import FORMAT
from pyxc.link.wrapper import LinkWrapper
from pyxc.store.channel import Channel

Write = Callable[[dict[str, Any]], None]
D = TypeVar("D", EventDevice, Channel)


BEGINNING = b'{"format":'
"""The first bytes of a recording."""


class RecordLink(LinkWrapper):
    """A link that records everything. Threads: one at a time.

    An error of the recording does not affect the program, which gets the result of each call. `failure` is
    the first error; nothing is written after it, because the recording would have a gap.
    """

    def __init__(self, inner: Link, stream: TextIO) -> None:
        super().__init__(inner)
        self._stream = stream
        self._devices = 0
        self.failure: OSError | None = None
        self._write({"format": FORMAT, "byteorder": inner.byteorder, "kernel_bits": inner.kernel_bits})

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        arena = Snapshot.of(self.pool, (a1, a2, a3, a4, a5), self.byteorder)
        before = arena.read()
        result = super().hypercall(op, a1, a2, a3, a4, a5)
        with self._recording():
            after = arena.read()
            arguments = [arena.relative(value) for value in (a1, a2, a3, a4, a5)]
            line = {"hypercall": op, "arguments": arguments, "in": before, "result": result, "out": after}
            self._write(line)
        return result

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        result, after = super().dm_op(domid, buffers)
        before, found = [packed(content) for content in buffers], [packed(content) for content in after]
        self._write({"dm_op": domid, "in": before, "result": result, "out": found})
        return result, after

    def restrict(self, domid: int) -> int:
        result = super().restrict(domid)
        self._write({"restrict": domid, "result": result})
        return result

    @property
    def unrecorded(self) -> Link:
        return self._inner

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        asked = {"map_frames": domid, "frames": frames.tolist(), "writable": writable}
        return self._mapped(asked, partial(super().map_frames, domid, frames, writable))

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        asked = {"map_resource": [domid, kind, ident, first, count], "writable": writable}
        return self._mapped(asked, partial(super().map_resource, domid, kind, ident, first, count, writable))

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        asked = {"map_grants": domid, "refs": refs.tolist(), "writable": writable}
        return self._mapped(asked, partial(super().map_grants, domid, refs, writable))

    def _mapped(self, asked: dict[str, Any], call: Callable[[], ForeignMap]) -> ForeignMap:
        with _failures(self._write, asked):
            mapped = call()
        with _closed_unless_recorded(mapped):
            failed = any(mapped.errors)
            pages = "" if failed else packed(bytes(mapped))
            self._write({**asked, "errors": list(mapped.errors) if failed else [], "pages": pages})
        return mapped

    def lend_pages(self, domid: int, count: int, writable: bool = False) -> tuple[list[int], ForeignMap]:
        """Changes of these pages by the other domain are not recorded."""
        asked = {"lend_pages": [domid, count], "writable": writable}
        with _failures(self._write, asked):
            refs, pages = super().lend_pages(domid, count, writable)
        with _closed_unless_recorded(pages):
            self._write({**asked, "refs": refs})
        return refs, pages

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        size = super().resource_size(domid, kind, ident)
        self._write({"resource_size": [domid, kind, ident], "result": size})
        return size

    def open_events(self) -> EventDevice:
        inner, write = self._opened("events", super().open_events)
        return _RecordedEvents(inner, write)

    def connect_store(self) -> Channel:
        inner, write = self._opened("store", super().connect_store)
        return _RecordedStore(inner, write)

    def _opened(self, kind: str, open_it: Callable[[], D]) -> tuple[D, Write]:
        """A device, and the function that writes lines about it."""
        with _failures(self._write, {"open": kind}):
            device = open_it()
        with _closed_unless_recorded(device):
            self._write({"open": kind})
        self._devices += 1
        number = self._devices
        return device, lambda line: self._write({"device": number, **line})

    def clock_ns(self) -> int:
        time_ns = super().clock_ns()
        self._write({"clock": "ns", "time": time_ns})
        return time_ns

    def close(self) -> None:
        super().close()
        if not self._stream.closed:
            with self._recording():
                self._stream.flush()

    def _write(self, line: dict[str, Any]) -> None:
        if self.failure is None:
            with self._recording():
                self._stream.write(json.dumps(line, separators=(",", ":")) + "\n")

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Keep an error of the recording away from the program."""
        try:
            yield
        except OSError as error:
            self.failure = self.failure or error
        except MemoryError:
            self.failure = self.failure or OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


class _RecordedStore:
    """A connection to xenstored."""

    def __init__(self, inner: Channel, write: Write) -> None:
        self._inner = inner
        self._write = write
        self.fileno = inner.fileno
        self.close = inner.close

    def send(self, data: bytes) -> int:
        with _failures(self._write, {}):
            count = self._inner.send(data)
        self._write({"sent": packed(data[:count])})
        return count

    def receive(self) -> bytes:
        with _failures(self._write, {}):
            data = self._inner.receive()
        self._write({"received": packed(data)})
        return data


class _RecordedEvents:
    """An event channel device."""

    def __init__(self, inner: EventDevice, write: Write) -> None:
        self._inner = inner
        self._write = write
        self.fileno = inner.fileno
        self.close = inner.close

    def request(self, name: str, *numbers: int) -> int:
        result = self._inner.request(name, *numbers)
        self._write({"request": [name, *numbers], "result": result})
        return result

    def take(self) -> int:
        port = self._inner.take()
        self._write({"taken": port})
        return port

    def unmask(self, port: int) -> None:
        self._inner.unmask(port)
        self._write({"unmask": port})


@contextmanager
def _failures(write: Write, asked: dict[str, Any]) -> Iterator[None]:
    """Record an OSError as the result, except that of a call that would block."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        write({**asked, "errno": error.errno, "error": error.strerror})
        raise


@contextmanager
def _closed_unless_recorded(opened: ForeignMap | EventDevice | Channel) -> Iterator[None]:
    """Close an opened object if the line about it cannot be written."""
    try:
        yield
    except BaseException:
        opened.close()
        raise
