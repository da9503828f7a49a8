# SPDX-License-Identifier: MIT
"""A stub of GDB's remote protocol: a debugger looks into a domain, whose vcpus are its threads."""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from pyxc import errors
from pyxc.debug.execution import Execution, Stop, how_it_ended
from pyxc.debug.gdb_packets import INTERRUPT, MOST, NACK, Packets, escaped, packet, unescaped
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
_FIRST_POLL_S, _POLL_S = 0.001, 0.2
_AT_ONCE = 1 << 16
_READ_ONLY = "the guest is read-only for this debugger: start pyxc gdb with --writable"
_NO_STEP = "this needs pyxc gdb --writable; interrupt and continue instead"
_NO_SUCH = "pyxc sets software breakpoints only"
_MOST_ACTIONS = 64


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
    as it is then; `pyxc doctor` lists it. GDB may read registers and memory, and if `writable` also write
    them, set breakpoints, and step; what cannot be is refused, with the reason. Threads: one at a time.
    """

    def __init__(self, domain: Domain, *, writable: bool = False) -> None:
        self.domain = domain
        self._execution = Execution(domain) if writable else None
        self._knows_breakpoints = False
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
            (b"vCont?", lambda rest: b"vCont;c;C;s;S" if self._execution else b""),
            (b"vCont;", self._act),
            (b"T", self._is_alive),
            (b"g", self._read_registers),
            (b"m", self._read_memory),
            (b"c", self._go_on),
            (b"D", self._detach),
            (b"k", self._detach),
            (b"s", lambda rest: self._run_on(self._thread)),
            (b"Z0,", self._insert),
            (b"z0,", self._remove),
            (b"Z", lambda rest: _refused(_NO_SUCH if self._execution else _READ_ONLY)),
            (b"G", lambda rest: _refused("one register at a time" if self._execution else _READ_ONLY)),
            (b"P", self._write_register),
            (b"M", self._write_digits),
            (b"X", self._write_bytes),
        )

    def serve(self, peer: Peer) -> None:
        """Answer a debugger until it detaches."""
        self._found_paused = self.domain.info().paused
        with ExitStack() as stack:
            stack.callback(self._forget)
            if self._execution:
                stack.enter_context(self._execution.attached())
            else:
                stack.enter_context(self._pause)
                self._pause.enter_context(paused(self.domain))
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

    def _forget(self) -> None:
        """What was true while the domain stood still."""
        for space in self._spaces.values():
            space.close()
        self._spaces.clear()

    def _wait(self, peer: Peer, packets: Packets) -> bytes:
        """The domain runs, until GDB interrupts it or it ends."""
        wait_s = _FIRST_POLL_S
        while True:
            ready, _, _ = select.select([peer], [], [], wait_s)
            wait_s = min(2 * wait_s, _POLL_S)
            try:
                if ready and INTERRUPT in packets.feed(_received(peer)):
                    return self._interrupted()
                stop = self._by_itself()
            except (errors.DomainNotFound, errors.DomainGone):
                return b"W00"
            if stop is not None:
                return self._reported(stop)

    def _interrupted(self) -> bytes:
        if self._execution is None:
            self._pause.enter_context(paused(self.domain))
            return self._stopped(_INTERRUPTED)
        stop = self._execution.interrupt()
        return self._stopped(_INTERRUPTED) if stop is None else self._reported(stop)

    def _by_itself(self) -> Stop | None:
        if self._execution is not None:
            return self._execution.stopped()
        info = self.domain.info()
        if not info.shut_down:
            return None
        self._pause.enter_context(paused(self.domain))
        return Stop(self._thread - 1, remark=how_it_ended(info))

    def _reported(self, stop: Stop) -> bytes:
        self._thread = stop.vcpu + 1
        if stop.remark:
            self._remarks.append(stop.remark)
        return self._stopped(_STOPPED, b"swbreak:;" if stop.breakpoint and self._knows_breakpoints else b"")

    # What the packets ask for.

    def _supported(self, rest: bytes) -> bytes:
        self._knows_breakpoints = b"swbreak+" in rest
        able = b";swbreak+;vContSupported+" if self._execution else b""
        return b"PacketSize=%x;QStartNoAckMode+;qXfer:features:read+" % MOST + able

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

    def _stopped(self, why: bytes, more: bytes = b"") -> bytes:
        return why + more + b"thread:%x;" % self._thread

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
        space = self._space()
        size = min(size, MOST // 2, space.size - min(address, space.size))
        if not size:
            return _NO_MEMORY
        try:
            data = space.read(address, size)
        except errors.NotMapped as error:
            if error.address == address:
                return _NO_MEMORY
            data = space.read(address, error.address - address)
        if self._execution:
            data = self._execution.without_breakpoints(address, data)
        return data.hex().encode()

    def _space(self) -> Virtual:
        space = self._spaces.get(self._thread)
        if space is None:
            vcpu, writable = self._vcpu(self._thread), self._execution is not None
            space = self._spaces[self._thread] = self.domain.memory.virtual(vcpu, writable=writable)
        return space

    def _write_digits(self, rest: bytes) -> bytes:
        place, digits = _parts(rest, b":", 2)
        return self._write(place, bytes.fromhex(digits.decode("ascii")))

    def _write_bytes(self, rest: bytes) -> bytes:
        place, _, data = rest.partition(b":")
        return self._write(place, unescaped(data))

    def _write(self, place: bytes, data: bytes) -> bytes:
        address, size = (_hex(part) for part in _parts(place, b",", 2))
        if self._execution is None:
            return _refused(_READ_ONLY)
        if size != len(data):
            raise errors.DecodeError(f"the debugger sent {len(data)} bytes instead of {size}")
        self._execution.check_writable(address, size)
        try:
            self._space().write(address, data)
        except errors.NotMapped:
            return _NO_MEMORY
        return b"OK"

    def _write_register(self, rest: bytes) -> bytes:
        if self._execution is None:
            return _refused(_READ_ONLY)
        number, digits = _parts(rest, b"=", 2)
        data = bytes.fromhex(digits.decode("ascii"))
        change = self._known_registers().changed(self._context(), _hex(number), data)
        self._execution.set_registers(self._thread - 1, **change)
        return b"OK"

    def _insert(self, rest: bytes) -> bytes:
        if self._execution is None:
            return _refused(_READ_ONLY)
        address, _ = _parts(rest, b",", 2)
        self._execution.insert(self._thread - 1, _hex(address))
        return b"OK"

    def _remove(self, rest: bytes) -> bytes:
        address, _ = _parts(rest, b",", 2)
        if self._execution is not None:
            self._execution.remove(_hex(address))
        return b"OK"

    def _act(self, rest: bytes) -> bytes | None:
        """One thread steps, or all run: the others stand still during a step."""
        actions = rest.split(b";")
        if len(actions) > _MOST_ACTIONS or any(action[:1] not in b"cCsS" for action in actions):
            return _refused(f"the debugger sent unknown actions: {rest!r}")
        for action in actions:
            if action[:1] in b"sS":
                _, _, thread = action.partition(b":")
                return self._run_on(_hex(thread) if thread and thread != b"-1" else self._thread)
        return self._go_on(b"")

    def _go_on(self, rest: bytes) -> bytes | None:
        if self._execution is None and self._found_paused:
            return self._unmoved("the domain was paused before: let it run with pyxc unpause")
        return self._run_on(None)

    def _run_on(self, step: int | None) -> bytes | None:
        """Let the domain run, or one thread make a step."""
        if step is not None and step not in self._numbers():
            return _refused(f"there is no thread {step}")
        if step is not None and self._execution is None:
            return self._unmoved(_NO_STEP)
        self._forget()
        try:
            if self._execution:
                self._execution.go(None if step is None else step - 1)
        except ValueError as error:
            return self._unmoved(str(error))
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
