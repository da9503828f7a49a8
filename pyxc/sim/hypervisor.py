# SPDX-License-Identifier: MIT
"""The simulated hypervisor, the roof: it boots a host, carries out hypercalls, and acts as its guests do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyxc.abi.event_channel import Virq
from pyxc.abi.operation import Operation
from pyxc.sim.dispatch import Dispatch
from pyxc.sim.guests import linux, residents, residents_2006, toolstack
from pyxc.sim.guests.backends import Backends
from pyxc.sim.guests.scripted import ScriptedGuest
from pyxc.sim.link import SimLink
from pyxc.sim.model import channels, debug_keys, lifecycle
from pyxc.sim.model.access import ClientMemory
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.ops.call import Handler
from pyxc.sim.profiles import Profile
from pyxc.sim.xenstored import HostDomains, Xenstored

_TICK_NS = 10_000
"""By how much each hypercall advances the clock."""


class Hypervisor(Host):
    """A whole simulated host: 2 pcpus, dom0 and three guests. Threads: safe to share.

    Its attributes are the truth that tests compare with. `clock_ns` advances by a fixed step with every
    hypercall, so that two runs of one program give equal results; `wallclock_ns` is what it was at the boot.
    """

    def __init__(self, profile: Profile, with_guests: bool = True, with_store: bool = True) -> None:
        """Boot the host. `with_guests` False leaves dom0 alone on it, `with_store` False has no xenstored."""
        super().__init__(profile)
        self.store = Xenstored(HostDomains(self), self.lock)
        self._dispatch = Dispatch(self)
        self._scripted: list[ScriptedGuest] = []
        self._script: Callable[[ScriptedGuest], object] | None = None
        self._known: dict[int, Domain] = {}
        inhabitants = residents_2006 if profile.dom0_op else residents
        inhabitants.start_dom0(self, self.store)
        self.store_runs = with_store
        if with_store:
            channels.listen_to_virq(self, Virq.DOM_EXC, self.store.check_domains)
        self.console.print(debug_keys.boot_log(self))
        if with_guests:
            inhabitants.start_guests(self, self.store)

    def __getstate__(self) -> dict[str, Any]:
        """For a file that keeps the host: its handlers are those of the program that reads it."""
        return {name: value for name, value in self.__dict__.items() if name != "_dispatch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._dispatch = Dispatch(self)
        self._known = {id(domain): domain for domain in self._known.values()}

    def connect(self, target: str = "sim:") -> SimLink:
        """A new link to this hypervisor, with its own memory."""
        return SimLink(self, self.hypercall, self.store if self.store_runs else None, target)

    def hypercall(self, memory: ClientMemory, number: int, arguments: tuple[int, ...]) -> int:
        """Carry out one hypercall: its result, or a negative errno."""
        with self.lock:
            self.clock_ns += _TICK_NS
            lifecycle.reap(self)
            self.counters.count(number)
            result = self._dispatch.carry_out(memory, number, arguments)
            self._run_guests()
            return result

    def serve_devices(self) -> Backends:
        """Load the drivers of dom0's kernel for disks and network interfaces of guests.

        They take part in the handshake in xenstore, and move no data.
        """
        with self.lock:
            return Backends(self.store)

    def script(self, domid: int) -> ScriptedGuest:
        """Act as the guest of a domain that was introduced to xenstore: Python functions are its kernel.

        >>> guest = hypervisor.script(1)
        >>> guest.obey()
        """
        with self.lock:
            self._scripted.append(ScriptedGuest(self, self.store, domid))
            return self._scripted[-1]

    def when_started(self, script: Callable[[ScriptedGuest], object]) -> None:
        """Call a function with the guest of each domain that is built from now on, when it starts to run."""
        with self.lock:
            self._script = script
            self._known = {id(domain): domain for domain in self.domains.values()}

    def run_linux(self) -> None:
        """Have all guests, also those to come, act as Linux does: see pyxc.sim.guests.linux."""
        with self.lock:
            self.when_started(linux.start)
            for domid in sorted(set(self.domains) - {0}):
                linux.start(self.script(domid))

    def _run_guests(self) -> None:
        """What guests do between two hypercalls of dom0."""
        if self._script is not None:
            for domain in [one for one in self.domains.values() if id(one) not in self._known]:
                if not domain.stopped and self.store.is_introduced(domain.domid):
                    self._known[id(domain)] = domain
                    self._script(self.script(domain.domid))
        self._scripted = [guest for guest in self._scripted if not guest.domain.dying]
        for guest in self._scripted:
            guest.run()

    def handles(self, *operations: Operation) -> Callable[[Handler], Handler]:
        """Make a function the handler of operations on this host: of a vendor's, or with other results.

        NotInInterface when this Xen cannot have them: other numbers, or no such hypercall at all.
        """

        def register(handler: Handler) -> Handler:
            with self.lock:
                for operation in operations:
                    self._dispatch.add(operation, handler)
            return handler

        return register

    def shut_down(self, domain: Domain, reason: int) -> None:
        """Stop a domain. The first reason stays."""
        with self.lock:
            lifecycle.shut_down(self, domain, reason)

    def kill(self, domain: Domain) -> None:
        """Destroy a domain. It remains, dying, while its memory is mapped."""
        with self.lock:
            lifecycle.kill(self, domain)

    def write_as_guest(self, domid: int, frame: int, offset: int, data: bytes) -> None:
        """What a guest does to write into one of its frames, named as the domain's kind names them."""
        with self.lock:
            domain = self.find(domid)
            mfn = domain.machine_frame(frame)
            self.machine.memory.write(mfn, offset, data)
            if domain.dirty is not None:
                domain.dirty.add(frame if domain.hvm else self.machine.pfn_of(mfn))

    def trace(self, cpu: int, event: int, *words: int) -> None:
        """Write a record of a physical cpu to its trace buffer, if tracing is on."""
        with self.lock:
            self.trace_buffers.write(cpu, self.clock_ns, event, words)

    def introduce(self, domid: int, name: str) -> None:
        """What a toolstack does for a new domain: it gets its nodes in xenstore, and is introduced there."""
        with self.lock:
            toolstack.introduce(self.store, self.domains[domid], name)

    def ring(self, domid: int, port: int) -> None:
        """What a guest does to ring the other end of one of its ports."""
        with self.lock:
            channels.send(self, self.find(domid), port)
