# SPDX-License-Identifier: MIT
"""A stub of GDB's remote protocol: a debugger looks into a domain, whose vcpus are its threads."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from pyxc import errors
from pyxc.debug.gdb_packets import INTERRUPT, MOST, NACK, Packets, escaped, packet
from pyxc.debug.gdb_registers import Registers
from pyxc.domain import paging
from pyxc.domain.address_space import Virtual
from pyxc.domain.domain import Domain
from pyxc.domain.pausing import paused
from pyxc.domain.registers import VcpuContext
from pyxc.domain.vcpus import Vcpu

_STOPPED, _INTERRUPTED = b"T05", b"T02"
_NO_MEMORY = b"E0e"
"""EFAULT. GDB takes no text here."""
_POLL_S = 0.2
_AT_ONCE = 1 << 16
_NO_STEP = "pyxc cannot single-step a vcpu; interrupt and continue instead"
_NO_BREAK = "pyxc sets no breakpoints: it never writes to a guest"
_READ_ONLY = "the guest is read-only for this debugger"


class Peer(Protocol):
    """A debugger: a socket, or what is like one."""

    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> object: ...


class Ended(Exception):
    """The debugger detached, or its connection ended."""


class GdbSession:
    """One debugger on one domain, which is paused from the beginning, and runs while GDB says `continue`.

    In the end, also after an error, the domain is as it was found. If this process is killed the domain stays
    paused; `pyxc doctor` lists it. GDB may read registers and memory. Breakpoints, single steps, and writing
    are refused, with the reason. Threads: one at a time.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self._pause = ExitStack()
        self._found_paused = False
        self._acknowledging = True
        self._thread = 1
        self._spaces: dict[int, Virtual] = {}
        self._registers: Registers | None = None
        self._remarks: list[str] = []
        self._handlers: tuple[tuple[bytes, Callable[[bytes], bytes | None]], ...] = (
            (b"qSupported", self._supported),
            (b"QStartNoAckMode", self._without_acknowledgements),
            (b"qXfer:features:read:target.xml:", self._described),
            (b"qfThreadInfo", self._threads),
            (b"qsThreadInfo", lambda rest: b"l"),
            (b"qThreadExtraInfo,", self._about_thread),
            (b"qAttached", lambda rest: b"1"),
            (b"qC", lambda rest: b"QC%x" % self._thread),
            (b"?", lambda rest: self._stopped(_STOPPED)),
            (b"Hg", self._choose),
            (b"Hc", lambda rest: b"OK"),
            (b"T", self._is_alive),
            (b"g", self._read_registers),
            (b"m", self._read_memory),
            (b"c", self._go_on),
            (b"D", self._detach),
            (b"k", self._detach),
            (b"s", lambda rest: self._unmoved(_NO_STEP)),
            (b"Z", lambda rest: _refused(_NO_BREAK)),
            (b"G", lambda rest: _refused(_READ_ONLY)),
            (b"P", lambda rest: _refused(_READ_ONLY)),
            (b"M", lambda rest: _refused(_READ_ONLY)),
            (b"X", lambda rest: _refused(_READ_ONLY)),
        )

    def serve(self, peer: Peer) -> None:
        """Answer a debugger until it detaches."""
        self._found_paused = self.domain.info().paused
        with ExitStack() as stack:
            stack.callback(self._forget)
            stack.enter_context(self._pause)
            self._stop()
            packets = Packets()
            try:
                while True:
                    self._answer(peer, packets)
            except (Ended, ConnectionError):
                pass

    def _answer(self, peer: Peer, packets: Packets) -> None:
        for content in packets.feed(_received(peer)):
            if content == INTERRUPT:
                continue
            if content == NACK:
                peer.sendall(NACK)
                continue
            if self._acknowledging:
                peer.sendall(b"+")
            reply = self.reply(content)
            if reply is None:
                reply = self._wait(peer, packets)
            while self._remarks:
                peer.sendall(packet(b"O" + f"{self._remarks.pop(0)}\n".encode().hex().encode()))
            peer.sendall(packet(reply))
            if content[:1] in (b"D", b"k"):
                raise Ended

    def reply(self, content: bytes) -> bytes | None:
        """The reply to a packet; None while the domain runs."""
        for name, handler in self._handlers:
            if content.startswith(name):
                try:
                    return handler(content[len(name) :])
                except (errors.DomainNotFound, errors.DomainGone):
                    return _refused("the domain has gone")
                except (errors.Error, OSError, ValueError) as error:
                    return _refused(str(error))
        return b""

    def _stop(self) -> None:
        self._pause.enter_context(paused(self.domain))

    def _forget(self) -> None:
        """What was true while the domain stood still."""
        for space in self._spaces.values():
            space.close()
        self._spaces.clear()

    def _wait(self, peer: Peer, packets: Packets) -> bytes:
        """The domain runs, until GDB interrupts it or it ends."""
        while True:
            ready, _, _ = select.select([peer], [], [], _POLL_S)
            if ready and INTERRUPT in packets.feed(_received(peer)):
                self._stop()
                return self._stopped(_INTERRUPTED)
            try:
                info = self.domain.info()
            except (errors.DomainNotFound, errors.DomainGone):
                return b"W00"
            if info.shut_down:
                self._stop()
                return self._stopped(_STOPPED)

    # What the packets ask for.

    def _supported(self, rest: bytes) -> bytes:
        return b"PacketSize=%x;QStartNoAckMode+;qXfer:features:read+" % MOST

    def _without_acknowledgements(self, rest: bytes) -> bytes:
        self._acknowledging = False
        return b"OK"

    def _described(self, rest: bytes) -> bytes:
        start, size = (_hex(part) for part in _parts(rest, b",", 2))
        text = self._known_registers().description()
        piece = text[start : start + min(size, MOST // 2)]
        return (b"m" if start + len(piece) < len(text) else b"l") + escaped(piece)

    def _known_registers(self) -> Registers:
        """64-bit or 32-bit, by the mode of the first vcpu."""
        if self._registers is None:
            how = paging.of_vcpu(self.domain, self._numbers()[0] - 1)
            self._registers = Registers.of(64 if how.levels >= 4 else 32)
        return self._registers

    def _numbers(self) -> list[int]:
        """Threads are vcpus that have registers, counted from 1: 0 has a meaning of its own."""
        found = [info.vcpu + 1 for info in self.domain.vcpus.infos() if info.online]
        if not found:
            raise ValueError("no vcpu of the domain is online")
        return found

    def _threads(self, rest: bytes) -> bytes:
        return b"m" + b",".join(b"%x" % number for number in self._numbers())[: MOST - 1]

    def _about_thread(self, rest: bytes) -> bytes:
        return f"vcpu {self._vcpu(_hex(rest)).index}".encode().hex().encode()

    def _stopped(self, why: bytes) -> bytes:
        return why + b"thread:%x;" % self._thread

    def _vcpu(self, number: int) -> Vcpu:
        return self.domain.vcpu(number - 1)

    def _choose(self, rest: bytes) -> bytes:
        number = 0 if rest == b"-1" else _hex(rest)
        if number and number not in self._numbers():
            return _refused(f"there is no thread {number}")
        self._thread = number or self._thread
        return b"OK"

    def _is_alive(self, rest: bytes) -> bytes:
        return b"OK" if _hex(rest) in self._numbers() else _refused("the vcpu is offline")

    def _context(self) -> VcpuContext:
        return self._vcpu(self._thread).context()

    def _read_registers(self, rest: bytes) -> bytes:
        return self._known_registers().packed(self._context())

    def _read_memory(self, rest: bytes) -> bytes:
        """As much as there is: GDB asks for less then."""
        address, size = (_hex(part) for part in _parts(rest, b",", 2))
        space = self._spaces.get(self._thread)
        if space is None:
            space = self._spaces[self._thread] = self.domain.memory.virtual(self._vcpu(self._thread))
        size = min(size, MOST // 2, space.size - min(address, space.size))
        try:
            return space.read(address, size).hex().encode() if size else _NO_MEMORY
        except errors.NotMapped as error:
            if error.address == address:
                return _NO_MEMORY
            return space.read(address, error.address - address).hex().encode()

    def _go_on(self, rest: bytes) -> bytes | None:
        if self._found_paused:
            return self._unmoved("the domain was paused before: let it run with pyxc unpause")
        self._forget()
        self._pause.close()
        return None

    def _unmoved(self, why: str) -> bytes:
        """It stopped again at once; GDB prints the reason."""
        self._remarks.append(why)
        return self._stopped(_STOPPED)

    def _detach(self, rest: bytes) -> bytes:
        return b"OK"


def _refused(why: str) -> bytes:
    """An error with a text: GDB prints it where it can."""
    text = "".join(letter if letter.isprintable() and letter not in "#$}*" else " " for letter in why)
    return f"E.{text}".encode("ascii", "replace")[: MOST // 2]


def _received(peer: Peer) -> bytes:
    data = peer.recv(_AT_ONCE)
    if not data:
        raise Ended
    return data


def _parts(data: bytes, separator: bytes, count: int) -> list[bytes]:
    parts = data.split(separator)
    if len(parts) != count:
        raise errors.DecodeError(f"the debugger sent {data!r}: expected {count} numbers")
    return parts


def _hex(data: bytes) -> int:
    try:
        return int(data, 16) if len(data) <= 16 else -1
    except ValueError:
        raise errors.DecodeError(f"the debugger sent {data!r}: expected a hexadecimal number") from None
