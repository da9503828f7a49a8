# SPDX-License-Identifier: MIT
"""A guest of a simulated host that acts: Python functions are its kernel."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pyxc.abi import console
from pyxc.abi.event_channel import Status
from pyxc.abi.hvm import HvmParam
from pyxc.abi.sched import ShutdownReason
from pyxc.errors import StoreError
from pyxc.sim.guests.pv_kernel import PvKernel
from pyxc.sim.model import channels, lifecycle
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.xenstored import Xenstored
from pyxc.store.wire import Kind, Message, Parser, join, split

_REASONS = {
    "poweroff": ShutdownReason.POWEROFF,
    "halt": ShutdownReason.POWEROFF,
    "reboot": ShutdownReason.REBOOT,
    "suspend": ShutdownReason.SUSPEND,
}
_INDICES = struct.Struct("<IIII")
_U32 = 2**32 - 1
_CONSOLE = "console"
_SUSPENDED = "suspended"
_RUNG = "rung to suspend"
_PAGES_OF_MIB = 256

React = Callable[[str | None], object]
"""Called with the value of a node, None if the node does not exist."""


class ScriptedGuest:
    """The guest's side of one domain: its nodes in xenstore, its console, its end. See Hypervisor.script().

    What it reacts to is carried out in the thread of whoever causes it, before that one's call returns; while
    its domain is paused it waits. Nothing is executed: the domain's vcpus only look as if.
    """

    def __init__(self, xen: Host, store: Xenstored, domid: int) -> None:
        self._xen = xen
        self._store = store
        self.domain: Domain = xen.find(domid)
        self._answers: list[Message] = []
        self._parser = Parser()
        self._session = store.attach(domid, self._receive, self._hang_up)
        self._watched: dict[str, tuple[str, React]] = {}
        self._due: dict[str, Callable[[], object]] = {}
        self._typed: list[Callable[[bytes], object]] = []
        self._kernel = None if self.domain.hvm else PvKernel(xen, self.domain)
        if self._kernel is None:
            self.domain.params.setdefault(HvmParam.CALLBACK_IRQ, 1)
        else:
            self._kernel.publish()
        self._leave_console()

    def _leave_console(self) -> None:
        """As where no xenconsoled runs: dom0's end of its console is for whoever attaches to it."""
        port, dom0 = self.domain.ports[self._console_port()], self._xen.domains[0]
        if port.status is Status.INTERDOMAIN and port.port not in dom0.ports.listeners:
            channels.close(self._xen, dom0, port.port)

    @property
    def domid(self) -> int:
        return self.domain.domid

    def read(self, path: str) -> str | None:
        """A node, relative to its home unless the path is absolute; None if it does not exist or is
        unreadable."""
        answer = self._ask(Kind.READ, path)
        return None if answer is None else answer.decode("latin-1")

    def write(self, path: str, value: str) -> None:
        """Write a node. StoreError where it may not."""
        if self._ask(Kind.WRITE, path, tail=value.encode()) is None:
            raise StoreError(errno.EACCES, "the guest may not write it", "write", path)

    def when(self, path: str, react: React) -> None:
        """Call a function with the value of a node now, and each time that it is written."""
        token = str(len(self._watched))
        self._watched[token] = (path, react)
        self._ask(Kind.WATCH, path, token)

    def obey(self, *requests: str) -> None:
        """Take what control/shutdown asks for, as Linux does, and stop; all of it, or only these `requests`.

        It announces this in control/feature-poweroff and similar nodes. A PV guest prepares for its suspend,
        and takes its rings back when that is cancelled.
        """
        wanted = requests or tuple(_REASONS)
        for name in wanted:
            if self.read(f"control/feature-{name}") is not None:
                self.write(f"control/feature-{name}", "1")
        self.when("control/shutdown", partial(self._obey, wanted))

    def _obey(self, wanted: tuple[str, ...], request: str | None) -> None:
        if request in wanted:
            self.write("control/shutdown", "")
            self.stop(_REASONS[request])

    def suspend_on_event(self) -> int:
        """Suspend when a port is rung that it names in device/suspend/event-channel, as older kernels do;
        returns the port."""
        with self._xen.lock:
            port = channels.offer(self._xen, self.domain, 0)
            suspend = partial(self.stop, ShutdownReason.SUSPEND)
            self.domain.ports.listeners[port] = lambda _: self._soon(_RUNG, suspend)
        self.write("device/suspend/event-channel", str(port))
        return port

    def balloon(self) -> None:
        """Own as much memory as memory/target says, as a balloon driver does, down to 1 MiB."""
        self.when("memory/target", self._balloon)

    def _balloon(self, target: str | None) -> None:
        if target and target.isdigit():
            self._own(max(_PAGES_OF_MIB, int(target) // 4))

    def _own(self, pages: int) -> None:
        """The books of it alone: frames stay where they are."""
        self.domain.tot_pages = min(pages, self.domain.max_pages)

    def plug(self) -> None:
        """Take vcpus up and down as cpu/N/availability says."""
        for vcpu in self.domain.live_vcpus:
            self.when(f"cpu/{vcpu.index}/availability", partial(self._plug, vcpu.index))

    def _plug(self, index: int, state: str | None) -> None:
        live = self.domain.vcpu(index)
        if live is not None and state in ("online", "offline"):
            live.down = state == "offline"
            self._xen.schedule()

    def write_memory(self, gfn: int, data: bytes, offset: int = 0) -> None:
        """Write into a page of its memory, as the guest numbers its pages; log-dirty mode notes it."""
        with self._xen.lock:
            mfn = self._kernel.frame(gfn) if self._kernel else self.domain.machine_frame(gfn)
            self._xen.machine.memory.write(mfn, offset, data)
            if self.domain.dirty is not None:
                self.domain.dirty.add(gfn)

    def use(self, kind: str, number: int, *, stubborn: bool = False) -> None:
        """Have the front end of a "vbd" or "vif": it connects, and lets go unless it is `stubborn`."""
        front = f"device/{kind}/{number}"
        self.when(f"{self.read(f'{front}/backend')}/state", partial(self._drive, front, stubborn))

    def use_all(self) -> None:
        """Have the front ends of all its disks and network interfaces, also of those that come later."""
        self.when("device", self._find_devices)

    def _find_devices(self, _: str | None) -> None:
        for kind in ("vbd", "vif"):
            for number in self._names(f"device/{kind}"):
                back = self.read(f"device/{kind}/{number}/backend")
                if back and all(path != f"{back}/state" for path, _ in self._watched.values()):
                    self.use(kind, int(number))

    def _names(self, path: str) -> list[str]:
        """The names below a node, none if there is no such node."""
        return split(self._ask(Kind.DIRECTORY, path) or b"")

    def _drive(self, front: str, stubborn: bool, state: str | None) -> None:
        ours = self.read(f"{front}/state")
        if state == "2" and ours == "1":
            self.write(f"{front}/event-channel", "9")
            self.write(f"{front}/ring-ref", "8")
            self.write(f"{front}/state", "4")
        elif state == "5" and ours != "6" and not stubborn:
            self.write(f"{front}/state", "6")

    def stop(self, reason: ShutdownReason | int = ShutdownReason.POWEROFF) -> None:
        """Power off, reboot, crash, suspend: SCHEDOP_shutdown."""
        with self._xen.lock:
            if self._kernel and reason == ShutdownReason.SUSPEND:
                self._kernel.prepare()
                self._due[_SUSPENDED] = self._kernel.wake
            lifecycle.shut_down(self._xen, self.domain, int(reason))

    def print(self, text: str | bytes) -> int:
        """Print on its console as much as its ring takes; returns how many bytes that was."""
        data = text.encode() if isinstance(text, str) else text
        with self._xen.lock:
            frame = self._console_frame()
            _, _, cons, prod = self._indices(frame)
            data = data[: console.OUT_BYTES - (prod - cons & _U32)]
            for number, byte in enumerate(data, prod):
                place = console.IN_BYTES + number % console.OUT_BYTES
                self._xen.machine.memory.write(frame, place, bytes([byte]))
            self._put_index(frame, 3, prod + len(data))
            with suppress(Refusal):
                channels.send(self._xen, self.domain, self._console_port())
        return len(data)

    def typed(self, react: Callable[[bytes], object]) -> None:
        """Call a function with what is typed on its console, from now on."""
        self._typed.append(react)
        with self._xen.lock:
            listeners = self.domain.ports.listeners
            listeners[self._console_port()] = self._rung

    def echo(self) -> None:
        """Print what is typed, as a terminal does."""
        self.typed(self.print)

    def _rung(self, _: object) -> None:
        self._soon(_CONSOLE, self._take_input)

    def _take_input(self) -> None:
        frame = self._console_frame()
        cons, prod, _, _ = self._indices(frame)
        waiting = min(prod - cons & _U32, console.IN_BYTES)
        memory = self._xen.machine.memory
        data = b"".join(memory.read(frame, at % console.IN_BYTES, 1) for at in range(cons, cons + waiting))
        self._put_index(frame, 0, cons + waiting)
        if data:
            channels.send(self._xen, self.domain, self._console_port())
            for react in self._typed:
                react(data)

    def _console_frame(self) -> int:
        return self.domain.machine_frame(int(self.read("console/ring-ref") or -1))

    def _console_port(self) -> int:
        return int(self.read("console/port") or 0)

    def _indices(self, frame: int) -> tuple[int, int, int, int]:
        """in_cons, in_prod, out_cons, out_prod."""
        place = console.IN_BYTES + console.OUT_BYTES
        in_cons, in_prod, out_cons, out_prod = _INDICES.unpack(
            self._xen.machine.memory.read(frame, place, _INDICES.size)
        )
        return in_cons, in_prod, out_cons, out_prod

    def _put_index(self, frame: int, number: int, value: int) -> None:
        place = console.IN_BYTES + console.OUT_BYTES + 4 * number
        self._xen.machine.memory.write(frame, place, (value & _U32).to_bytes(4, "little"))

    def _ask(self, kind: Kind, *strings: str, tail: bytes = b"") -> bytes | None:
        """The payload of an answer, None for an error."""
        payload = join(text.encode() for text in strings) + tail
        with self._xen.lock:
            self._store.feed(self._session, Message(kind, 1, 0, payload).encode())
            answer = self._answers.pop()
        return None if answer.kind == Kind.ERROR else answer.payload

    def _hang_up(self) -> None:
        """Its xenstored never ends before it."""

    def _receive(self, data: bytes) -> None:
        for message in self._parser.feed(data):
            if message.kind != Kind.WATCH_EVENT:
                self._answers.append(message)
                continue
            _, token = split(message.payload)
            if token in self._watched:
                self._soon(token, partial(self._look, *self._watched[token]))

    def _look(self, path: str, react: React) -> None:
        react(self.read(path))

    def _soon(self, what: str, action: Callable[[], object]) -> None:
        """Several events before the next check count as one."""
        self._due[what] = action
        self.run()

    def run(self) -> None:
        """Carry out what is due, while its domain runs."""
        while self._due and not self.domain.stopped and self._xen.domains.get(self.domid) is self.domain:
            self._due.pop(next(iter(self._due)))()
