# SPDX-License-Identifier: MIT
"""The link to a simulated host that another process serves: "sim:@SOCKET"."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import threading
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from pyxc._core import ForeignMap, Pool, SharedMemory, fork_count
from pyxc.errors import NotXenError, StoreError
from pyxc.link import Direct
from pyxc.link.served_wire import (
    EVENTS,
    LINE_MOST,
    LINK,
    PAYLOAD_MOST,
    SEALS_NEEDED,
    STORE,
    line_of,
    packed,
    raised,
    unpacked,
    whole,
)
from pyxc.store.channel import FileChannel
from pyxc.store.connection import Connection, Request
from pyxc.store.wire import Kind

_TIMEOUT_S = 60.0
_CREDENTIALS = struct.Struct("iII")
_INT_LEAST, _INT_MOST = -(2**31), 2**31 - 1


class ServedLink:
    """One client's link to a simulated host in another process.

    Memory of the host is shared: mappings are the same pages in all processes. What a hypercall reads and
    writes is sent to the host and back. The host learns of the end of a mapping with the next call of this
    link, or when the link closes. Threads: safe to share; in a child after fork it refuses.
    """

    kernel_bits = 64
    gated = False
    direct: Direct | None = None

    def __init__(self, path: str, target: str) -> None:
        self.target = target
        self._path = path
        self._open = True
        self._forks = fork_count()
        self._lock = threading.RLock()
        self._leases: dict[int, int] = {}
        """Mappings that the host keeps for this client: the id() of the map by their number."""
        self._connections: list[Connection] = []
        connection, hello, descriptor = self._reached(LINK)
        self._connections.append(_connection(connection))
        try:
            self._read(hello, descriptor)
        except (KeyError, ValueError, OSError) as error:
            self._disconnect()
            reason = f"{path} serves no simulated host of this pyxc: {error}"
            raise NotXenError(errno.EPROTO, reason) from error
        self.pool = Pool(locked=False)

    def _read(self, hello: dict[str, Any], descriptor: int) -> None:
        """What the host says of itself. The descriptor is that of its memory, which cannot be shortened."""
        order, files = hello["byteorder"], hello["kernel_files"]
        if order not in ("little", "big") or not isinstance(files, str | None):
            raise ValueError("a host of an unknown kind")
        if descriptor < 0 or fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS_NEEDED != SEALS_NEEDED:
            raise ValueError("its memory could be taken away")
        self.byteorder: Literal["little", "big"] = order
        self.kernel_files: str | None = files
        self._token = str(hello["token"])
        self._memory = SharedMemory(whole(hello["frames"]), descriptor)

    # Connections.

    def _reached(self, purpose: str) -> tuple[socket.socket, dict[str, Any], int]:
        """A new connection to the server, its first line, and the descriptor that came with it, or -1."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(self._path)
            self._check_peer(connection)
            connection.sendall(f"{purpose}\n".encode())
            line, descriptors, _, _ = socket.recv_fds(connection, LINE_MOST, 1)
            hello = line_of(line)
            if "error" in hello:
                raise raised(hello)
            connection.settimeout(None)
            connection.setblocking(False)
            return connection, hello, descriptors[0] if descriptors else -1
        except (StoreError, NotXenError):
            connection.close()
            raise
        except (OSError, ValueError) as error:
            connection.close()
            number = getattr(error, "errno", None) or errno.EPROTO
            reason = f"no simulated host answers at {self._path}: {getattr(error, 'strerror', None) or error}"
            raise NotXenError(number, reason) from error

    def _check_peer(self, connection: socket.socket) -> None:
        """Only a host of this user's, or of root's, is used: its memory is mapped."""
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(found)[1] not in (0, os.geteuid()):
            raise NotXenError(errno.EACCES, f"the simulated host at {self._path} is another user's")

    def _free(self) -> Connection:
        """The usual connection, or another one in a signal handler that interrupted a use of it."""
        with self._lock:
            for connection in self._connections:
                if not connection.interrupted:
                    return connection
            self._connections.append(_connection(self._reached(f"{LINK} {self._token}")[0]))
            return self._connections[-1]

    def _ask(self, do: str, *arguments: Any, body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """One request to the host. What its own link would raise, or NotXenError if it has gone."""
        self._check()
        with self._lock:
            ended = self._ended()
        payload = packed({"do": do, "arguments": arguments, "ended": ended}, body)
        try:
            answer = self._free().ask(Request(Kind.CONTROL, payload), _TIMEOUT_S)
            head, found = unpacked(answer.payload)
        except StoreError as error:
            gone = NotXenError(errno.ENODEV, f"the simulated host at {self._path} has gone")
            raise gone from error
        with self._lock:
            for lease in ended:
                self._leases.pop(lease, None)
        if "error" in head:
            raise raised(head)
        return head, found

    def _number(self, do: str, *arguments: Any) -> int:
        return whole(self._ask(do, *arguments)[0].get("result"), -(2**63))

    # Calls.

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        arguments = (a1, a2, a3, a4, a5)
        found = (self.pool.arena_at(argument) for argument in arguments)
        arena = next((one for one in found if one is not None), None)
        if arena is None:
            return self._number("hypercall", op, *arguments, 0)
        head, content = self._ask("hypercall", op, *arguments, arena.address, body=bytes(arena.view))
        if len(content) != arena.size:
            raise ValueError(f"{len(content)} bytes came back instead of {arena.size}")
        arena.view[:] = content
        return whole(head.get("result"), _INT_LEAST, _INT_MOST)

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        sizes = [len(buffer) for buffer in buffers]
        head, body = self._ask("dm_op", domid, *sizes, body=b"".join(buffers))
        if len(body) != sum(sizes):
            raise ValueError(f"{len(body)} bytes came back instead of {sum(sizes)}")
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        results = [body[start : start + size] for start, size in zip(starts, sizes)]
        return whole(head.get("result"), _INT_LEAST, _INT_MOST), results

    def restrict(self, domid: int) -> int:
        return self._number("restrict", domid)

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        return self._number("resource_size", domid, kind, ident)

    def clock_ns(self) -> int:
        return self._number("clock_ns")

    # Mappings.

    @property
    def maps(self) -> list[ForeignMap]:
        return [mapped for mapped in self._memory.maps if not mapped.closed]

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        return self._mapped(domid, writable, *self._ask("map_frames", domid, writable, body=frames.tobytes()))

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        answer = self._ask("map_resource", domid, kind, ident, first, count, writable)
        return self._mapped(domid, writable, *answer)

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        return self._mapped(domid, writable, *self._ask("map_grants", domid, writable, body=_u64(refs)))

    def lend_pages(self, domid: int, count: int, writable: bool = False) -> tuple[list[int], ForeignMap]:
        head, body = self._ask("lend_pages", domid, count, writable)
        return [whole(ref) for ref in head["refs"]], self._mapped(domid, True, head, body)

    def _mapped(self, domid: int, writable: bool, head: dict[str, Any], body: bytes) -> ForeignMap:
        """Map what the host has found: frames of its memory, and the errors of those that have one."""
        frames = array("Q", body)
        errors = [0] * len(frames)
        for index, number in head["errors"]:
            errors[whole(index, most=len(frames) - 1)] = number
        lease = whole(head["lease"])
        with self._lock:
            self._leases[lease] = 0
            mapped = self._memory.map_frames(domid, frames, writable, errors)
            self._ended()  # an earlier map may have had the same id()
            self._leases[lease] = id(mapped)
            return mapped

    def _ended(self) -> list[int]:
        """Mappings that the host keeps for nothing: their maps have ended, or could not be made."""
        opened = {id(mapped) for mapped in self._memory.maps if not mapped.closed}
        ended = [lease for lease, key in self._leases.items() if key not in opened]
        for lease in ended:
            self._leases[lease] = 0
        return ended

    # Devices.

    def open_events(self) -> ServedEvents:
        return ServedEvents(self, self._number("open_events"))

    def connect_store(self) -> FileChannel:
        self._check()
        return FileChannel(self._reached(f"{STORE} {self._token}")[0])

    def signal_of(self, device: int) -> socket.socket:
        """The socket that has a byte when a port of an event channel device has fired."""
        return self._reached(f"{EVENTS} {self._token} {device}")[0]

    def device(self, do: str, *arguments: int | str) -> int:
        """A request to an event channel device."""
        return self._number(do, *arguments)

    # The end.

    def close(self) -> None:
        """Unmap everything; BufferError when a memoryview still holds a mapping."""
        self._memory.close()
        self._open = False
        self._disconnect()
        self.pool.close()

    def _disconnect(self) -> None:
        for connection in self._connections:
            connection.close()

    def _check(self) -> None:
        if not self._open:
            raise ValueError("this link is closed")
        if fork_count() != self._forks:
            raise RuntimeError("this link was opened before a fork: open a new one in the child")

    def __repr__(self) -> str:
        return f"<ServedLink {self.target}>"


class ServedEvents:
    """An event channel device of a simulated host in another process."""

    def __init__(self, link: ServedLink, number: int) -> None:
        self._link = link
        self._number = number
        self._signal = link.signal_of(number)
        self.fileno = self._signal.fileno

    def request(self, name: str, *numbers: int) -> int:
        self._check()
        return self._link.device("event_request", self._number, name, *numbers)

    def take(self) -> int:
        self._check()
        with suppress(BlockingIOError):
            self._signal.recv(LINE_MOST)
        return self._link.device("event_take", self._number)

    def unmask(self, port: int) -> None:
        self._check()
        self._link.device("event_unmask", self._number, port)

    def close(self) -> None:
        if self._signal.fileno() >= 0:
            self._signal.close()
            with suppress(ValueError, NotXenError):
                self._link.device("event_close", self._number)

    def _check(self) -> None:
        if self._signal.fileno() < 0:
            raise ValueError("I/O operation on closed file")


def _connection(made: socket.socket) -> Connection:
    return Connection(FileChannel(made), PAYLOAD_MOST)


def _u64(numbers: array[int]) -> bytes:
    return array("Q", numbers).tobytes()
