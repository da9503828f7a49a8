# SPDX-License-Identifier: MIT
"""Serves a simulated host to other processes, over a socket.

Clients are programs of dom0, and may do to the host what dom0 may. They cannot harm the process that serves
it, or each other: sizes are checked before memory is taken, and a client that sends what is malformed, or
does not read what it asked for, is disconnected.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import signal
import socket
import sys
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pyxc.errors import StoreError
from pyxc.link import served_wire as wire
from pyxc.sim import kept
from pyxc.sim.event_device import SimEvtchn
from pyxc.sim.hypervisor import Hypervisor
from pyxc.sim.link import SimLink
from pyxc.sim.model.access import CopiedMemory
from pyxc.sim.model.holdings import Holding, Lease
from pyxc.sim.profiles import named
from pyxc.store.wire import Message, Parser

_CONNECTIONS_MOST = 128
_GREETING_S = 10.0
_READ = 1 << 16
_UNREAD_MOST = 1 << 22
"""How much of xenstore may wait for a client that does not read."""
_FRAMES_MOST, _LEASES_MOST, _DEVICES_MOST = 1 << 22, 1 << 14, 64
"""What one client may have mapped, and open."""


class _ClientLink(SimLink):
    """A client's link in the process of the host: the client maps what this one finds."""

    def __init__(self, host: SimLink) -> None:
        super().__init__(host.hypervisor, host._issue, host._store, host.target)
        self.leases: dict[int, Lease] = {}
        self._last = 0

    def _map(self, domid: int, frames: list[int], errors: list[int], writable: bool, lent: Any = ()) -> Any:
        if len(self.leases) >= _LEASES_MOST or self._held + len(frames) > _FRAMES_MOST:
            raise OSError(errno.ENOMEM, "this client has too much mapped")
        lease = Lease(frames, errors, writable)
        kept = frozenset(mfn for mfn, number in zip(frames, errors) if not number)
        self.hypervisor.holdings.add(lease, Holding(self, domid, kept, tuple(lent)))
        self._last += 1
        self.leases[self._last] = lease
        return lease

    @property
    def _held(self) -> int:
        return sum(len(lease.frames) for lease in self.leases.values())

    def end(self, number: int) -> None:
        """The client has unmapped it."""
        lease = self.leases.pop(number, None)
        if lease is not None:
            lease.close()

    def mapped(self, lease: Any, **more: Any) -> tuple[dict[str, Any], bytes]:
        """What a client needs to map it."""
        errors = [(index, number) for index, number in enumerate(lease.errors) if number]
        number = next(key for key, value in self.leases.items() if value is lease)
        return {"lease": number, "errors": errors, **more}, array("Q", lease.frames).tobytes()

    def close(self) -> None:
        for number in list(self.leases):
            self.end(number)
        super().close()


class _Client:
    """One client: its link, and its event channel devices with the connections that signal them."""

    def __init__(self, host: SimLink) -> None:
        self.link = _ClientLink(host)
        self.connections = 0
        self.devices: dict[int, SimEvtchn] = {}
        self._signals: dict[int, asyncio.StreamWriter] = {}
        self._opened = 0
        self._does: dict[str, Callable[[list[Any], bytes], tuple[dict[str, Any], bytes]]] = {
            "hypercall": self._hypercall,
            "dm_op": self._dm_op,
            "restrict": lambda found, _: _result(self.link.restrict(*_numbers(found, 1))),
            "resource_size": lambda found, _: _result(self.link.resource_size(*_numbers(found, 3))),
            "clock_ns": lambda found, _: _result(self.link.clock_ns()),
            "map_frames": self._map_frames,
            "map_resource": self._map_resource,
            "map_grants": self._map_grants,
            "lend_pages": self._lend_pages,
            "open_events": lambda found, _: _result(self._open_events()),
            "event_request": self._event_request,
            "event_take": self._event_take,
            "event_unmask": self._event_unmask,
            "event_close": lambda found, _: _result(self._event_close(*_numbers(found, 1))),
        }

    def answer(self, payload: bytes) -> bytes:
        """Carry out a request. ValueError, KeyError or TypeError if it is malformed."""
        head, body = wire.unpacked(payload)
        for lease in head["ended"]:
            self.link.end(lease)
        act, arguments = self._does[head["do"]], list(head["arguments"])
        try:
            return wire.packed(*act(arguments, body))
        except (OSError, ValueError) as error:
            return wire.packed(wire.failure(error))

    def _hypercall(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        op, *words, start = _numbers(arguments, 7)
        memory = CopiedMemory(start, body)
        result = self.link.hypercall_on(memory, op, words)
        return {"result": result}, bytes(memory.content)

    def _dm_op(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        domid, *sizes = _numbers(arguments, len(arguments))
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        buffers = [body[start : start + size] for start, size in zip(starts, sizes)]
        result, buffers = self.link.dm_op(domid, buffers)
        return {"result": result}, b"".join(buffers)

    def _map_frames(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        domid, writable = _numbers(arguments, 2)
        return self.link.mapped(self.link.map_frames(domid, array("Q", body), bool(writable)))

    def _map_resource(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        *of, first, count, writable = _numbers(arguments, 6)
        if count > _FRAMES_MOST:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        domid, kind, ident = of
        return self.link.mapped(self.link.map_resource(domid, kind, ident, first, count, bool(writable)))

    def _map_grants(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        domid, writable = _numbers(arguments, 2)
        return self.link.mapped(self.link.map_grants(domid, array("Q", body), bool(writable)))

    def _lend_pages(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        domid, count, writable = _numbers(arguments, 3)
        if count > _FRAMES_MOST:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        refs, lease = self.link.lend_pages(domid, count, bool(writable))
        return self.link.mapped(lease, refs=refs)

    # Event channels.

    def _open_events(self) -> int:
        if len(self.devices) >= _DEVICES_MOST:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._opened += 1
        self.devices[self._opened] = self.link.open_events()
        return self._opened

    def _event_request(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        number, name, *numbers = arguments
        return _result(self._device(number).request(str(name), *_numbers(numbers, len(numbers))))

    def _event_take(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        (number,) = _numbers(arguments, 1)
        port = self._device(number).take()
        self._await(number)
        return _result(port)

    def _event_unmask(self, arguments: list[Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        number, port = _numbers(arguments, 2)
        self._device(number).unmask(port)
        return _result(0)

    def _event_close(self, number: int) -> int:
        device, signal = self.devices.pop(number, None), self._signals.pop(number, None)
        if device is not None:
            if signal is not None:
                asyncio.get_running_loop().remove_reader(device.fileno())
                signal.close()
            device.close()
        return 0

    def _device(self, number: Any) -> SimEvtchn:
        if number not in self.devices:
            raise ValueError("this device is closed")
        return self.devices[number]

    def signal(self, number: int, writer: asyncio.StreamWriter) -> None:
        """Send a byte on a connection when a port of a device has fired."""
        if number in self._signals:
            raise ValueError("a second connection for one device")
        self._device(number)
        self._signals[number] = writer
        self._await(number)

    def _await(self, number: int) -> None:
        device = self.devices[number]
        if number in self._signals:
            asyncio.get_running_loop().add_reader(device.fileno(), self._fired, number)

    def _fired(self, number: int) -> None:
        """The client learns of it once, until it takes a port."""
        asyncio.get_running_loop().remove_reader(self.devices[number].fileno())
        self._signals[number].write(b"\1")

    def close(self) -> None:
        for number in list(self.devices):
            self._event_close(number)
        self.link.close()


def booted(target: str) -> SimLink:
    """A link to a new host, or to one that a file keeps, whose guests act as Linux does."""
    if "@" in target:
        return kept.connect(target)
    profile = named(target)
    hypervisor = Hypervisor(profile)
    hypervisor.serve_devices()
    if not profile.dom0_op:
        hypervisor.run_linux()
    return hypervisor.connect(target)


class Server:
    """A link's host for all who connect to a socket."""

    def __init__(self, host: SimLink) -> None:
        self._host = host
        self._clients: dict[str, _Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        memory = host.hypervisor.machine.memory
        self._memory = memory.fd
        fcntl.fcntl(memory.fd, fcntl.F_ADD_SEALS, wire.SEALS_NEEDED)
        self._hello = {
            "byteorder": host.byteorder,
            "kernel_files": host.kernel_files,
            "frames": memory.frames,
        }

    def serve_until(self, listener: socket.socket, signals: Sequence[int]) -> int:
        """Serve until one of these signals, which is returned. It ends this between two hypercalls."""
        return asyncio.run(self._until(listener, signals))

    async def _until(self, listener: socket.socket, signals: Sequence[int]) -> int:
        loop, serving = asyncio.get_running_loop(), asyncio.create_task(self.serve(listener))
        received: list[int] = []

        def stop(number: int) -> None:
            received.append(number)
            serving.cancel()

        for number in signals:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                loop.add_signal_handler(number, stop, number)
        with suppress(asyncio.CancelledError):
            await serving
        return received[0]

    async def serve(self, listener: socket.socket) -> None:
        """Accept clients until this is cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        try:
            while True:
                connection, _ = await loop.sock_accept(listener)
                if len(self._tasks) >= _CONNECTIONS_MOST:
                    connection.close()
                    continue
                task = loop.create_task(self._guarded(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guarded(self, connection: socket.socket) -> None:
        """One connection; whatever happens in it is its own affair."""
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_READ)
            await self._connected(connection, reader, writer)
        except (ConnectionError, EOFError, TimeoutError):
            pass
        except Exception as error:
            print(f"a client was disconnected: {type(error).__name__}: {error}"[:200], file=sys.stderr)
        finally:
            if writer is None:
                connection.close()
            else:
                writer.transport.abort()

    async def _connected(
        self, connection: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        line = await asyncio.wait_for(reader.readline(), _GREETING_S)
        if not line:  # only whether the socket is in use was of interest
            return
        purpose, *words = line.decode("ascii").split()
        if purpose == wire.LINK and not words:
            await self._new_client(connection, reader, writer)
            return
        client = self._clients[words[0]]
        if purpose == wire.LINK:
            writer.write(b"{}\n")
            await self._answer(client, reader, writer)
        elif purpose == wire.STORE:
            await self._store(client, reader, writer)
        elif purpose == wire.EVENTS:
            writer.write(b"{}\n")
            client.signal(int(words[1]), writer)
            await reader.read(1)
        else:
            raise ValueError(f"a connection for {purpose[:20]!r}")

    async def _new_client(
        self, connection: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        token = secrets.token_hex(16)
        hello = wire.packed({**self._hello, "token": token})
        socket.send_fds(connection, [hello], [self._memory])
        client = self._clients[token] = _Client(self._host)
        try:
            await self._answer(client, reader, writer)
        finally:
            del self._clients[token]
            client.close()

    async def _answer(
        self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        parser = Parser(wire.PAYLOAD_MOST)
        while data := await reader.read(_READ):
            for message in parser.feed(data):
                answer = client.answer(message.payload)
                writer.write(Message(message.kind, message.request, 0, answer).encode())
                await writer.drain()

    async def _store(
        self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A connection to the host's xenstored."""
        try:
            channel = client.link.connect_store()
        except (StoreError, ValueError) as error:
            writer.write(wire.packed(wire.failure(error)))
            await writer.drain()
            return

        def pump() -> None:
            with suppress(BlockingIOError):
                data = channel.receive()
                writer.write(data)
                if not data or writer.transport.get_write_buffer_size() > _UNREAD_MOST:
                    loop.remove_reader(channel.fileno())
                    writer.transport.abort()

        loop = asyncio.get_running_loop()
        writer.write(b"{}\n")
        loop.add_reader(channel.fileno(), pump)
        try:
            while data := await reader.read(_READ):
                channel.send(data)
                await writer.drain()
        finally:
            loop.remove_reader(channel.fileno())
            channel.close()


def _numbers(found: list[Any], count: int) -> list[int]:
    """Exactly so many numbers; a bool is one. ValueError."""
    if len(found) != count:
        raise ValueError(f"{len(found)} arguments instead of {count}")
    return [wire.whole(int(value) if isinstance(value, bool) else value) for value in found]


def _result(result: int) -> tuple[dict[str, Any], bytes]:
    return {"result": result}, b""
