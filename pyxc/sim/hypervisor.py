# SPDX-License-Identifier: MIT
"""The simulated hypervisor: its state, and the way of a hypercall to the operation that carries it out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING, NamedTuple

from pyxc._core import ForeignMap
from pyxc.abi import domctl as domctl_abi
from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import Layout, NotInInterface, Table
from pyxc.abi.operation import DOMCTL, MEMORY_OP, MULTICALL, Family
from pyxc.sim import (
    debug_keys,
    domctl,
    domctl_memory,
    domctl_vcpu,
    event_channel,
    grant_table,
    guests,
    hvm,
    memory_op,
    sched,
    sysctl,
    version,
)
from pyxc.sim.access import ClientMemory, Refusal
from pyxc.sim.call import REGISTER, Call, Handler
from pyxc.sim.console import ConsoleRing
from pyxc.sim.domain import Domain, RunState, Vcpu
from pyxc.sim.machine import Machine
from pyxc.sim.profiles import Profile
from pyxc.sim.store import Store

if TYPE_CHECKING:
    from pyxc.sim.link import SimLink

HANDLER_MODULES = (
    domctl,
    domctl_memory,
    domctl_vcpu,
    event_channel,
    grant_table,
    hvm,
    memory_op,
    sched,
    sysctl,
    version,
)
"""Importing these fills the register of operations."""

_FRAMES = 0x7FFE0
_TICK_NS = 10_000
_BOOTED_NS = 60_000_000_000
_MEMORY_COMMAND = 0x3F
"""Higher bits of a memory_op's command count the extents that are done."""
_ENTRY = struct.Struct("<Qq6Q")
_ENTRY_RESULT = struct.Struct("<8xq")


class Holding(NamedTuple):
    """What a foreign mapping keeps, and for whom; frames only of a domain other than the client's."""

    client: object
    domid: int
    frames: frozenset[int]


Commands = dict[int, tuple[Layout | None, Handler]]


class Hypervisor:
    """A whole simulated host. Its attributes are the truth that tests compare with. Threads: may be used by many.

    `clock_ns` advances by a fixed step with every hypercall, so that two runs of one program give equal results.
    """

    pcpus = 2
    cpu_khz = 2_400_000

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.interface = profile.interface
        self.machine = Machine(_FRAMES)
        self.domains: dict[int, Domain] = {}
        self.console = ConsoleRing()
        self.store = Store()
        self.clock_ns = _BOOTED_NS
        self.last_domid = 0
        self.lock = RLock()
        self._commands = {family: self._commands_of(family) for family in _FAMILIES}
        self._held: dict[int, Holding] = {}
        guests.start(self)
        self.console.print(debug_keys.boot_log(self))

    def _commands_of(self, family: Family) -> Commands:
        """The operations of a family that this release has, by command."""
        commands: Commands = {}
        for operation, handler in REGISTER.values():
            if operation.family is family:
                try:
                    layout = operation.layout(self.interface)
                except NotInInterface:
                    continue
                commands[operation.command] = (layout if layout.size else None, handler)
        return commands

    def layout(self, table: Table) -> Layout:
        """The layout of a structure in this release."""
        return table.at(self.interface)

    @property
    def current(self) -> Vcpu:
        """The vcpu that makes all hypercalls: dom0's first."""
        return self.domains[0].live_vcpus[0]

    def connect(self, target: str = "sim:") -> SimLink:
        """A new link to this hypervisor, with memory of its own."""
        from pyxc.sim.link import SimLink

        return SimLink(self, target)

    def find(self, domid: int) -> Domain:
        """The domain with an id. Refusal (ESRCH)."""
        domain = self.domains.get(domid)
        if domain is None:
            raise Refusal(XenErrno.ESRCH)
        return domain

    def find_any(self, domid: int) -> Domain:
        """The same, where DOMID_SELF is the calling domain."""
        return self.current.domain if domid == DOMID_SELF else self.find(domid)

    def sorted_domains(self) -> list[Domain]:
        return [self.domains[domid] for domid in sorted(self.domains)]

    def hypercall(self, memory: ClientMemory, number: int, arguments: tuple[int, ...]) -> int:
        """Carry out one hypercall: its result, or a negative errno."""
        with self.lock:
            self.clock_ns += _TICK_NS
            self.reap()
            if number == MULTICALL:
                return self._answer(lambda: self._multicall(memory, arguments[0], arguments[1]))
            return self._single(memory, number, arguments)

    def _single(self, memory: ClientMemory, number: int, arguments: tuple[int, ...]) -> int:
        for family in _FAMILIES:
            if family.hypercall == number:
                way = self._by_argument if family.command_argument else self._enveloped
                return self._answer(lambda: way(family, memory, arguments))
        return -XenErrno.ENOSYS

    def _answer(self, carry_out: Callable[[], int | None]) -> int:
        try:
            return carry_out() or 0
        except Refusal as refusal:
            return -refusal.errno

    def _multicall(self, memory: ClientMemory, address: int, count: int) -> int:
        """Each entry's result goes into the entry; one multicall in another is refused there."""
        for place in range(address, address + count * _ENTRY.size, _ENTRY.size):
            number, _, *arguments = _ENTRY.unpack(memory.read(place, _ENTRY.size))
            nested = number == MULTICALL
            result = -XenErrno.EINVAL if nested else self._single(memory, number, tuple(arguments))
            _ENTRY_RESULT.pack_into(memory.view(place, _ENTRY.size), 0, result)
        return 0

    def _by_argument(self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]) -> int | None:
        """Families whose command is the first argument and whose structure's address is the second."""
        command = arguments[0] & _MEMORY_COMMAND if family is MEMORY_OP else arguments[0]
        found = self._commands[family].get(command)
        if found is None:
            raise Refusal(XenErrno.ENOSYS)
        layout, handler = found
        return handler(Call(self, memory, layout, arguments[1]))

    def _enveloped(self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]) -> int | None:
        """domctl and sysctl: the copy, the version, the domain, the command, in this order as in Xen."""
        envelope = Layout(family.name, family.envelope, self.interface.byteorder)
        header = envelope.unpack(memory.read(arguments[0], family.size))
        if header["interface_version"] != self.interface.version(family.name)[0]:
            raise Refusal(XenErrno.EACCES)
        target = None
        if family is DOMCTL and header["cmd"] not in _FINDS_ITSELF:
            target = self.find(header["domid"])
        layout, handler = self._commands[family].get(header["cmd"], (None, _unknown))
        return handler(Call(self, memory, layout, arguments[0], target))

    def schedule(self) -> None:
        """Let runnable vcpus run: one on each pcpu of their hard affinity, in order of domains; the rest wait."""
        taken: set[int] = set()
        for domain in self.sorted_domains():
            for vcpu in domain.live_vcpus:
                vcpu.enter(self._next_state(vcpu, taken), self.clock_ns)

    def _next_state(self, vcpu: Vcpu, taken: set[int]) -> RunState:
        if not vcpu.runnable:
            return RunState.BLOCKED if vcpu.blocked else RunState.OFFLINE
        usual = [vcpu.pcpu, *range(self.pcpus)]
        allowed = [pcpu for pcpu in usual if vcpu.hard >> pcpu & 1]
        free = [pcpu for pcpu in allowed if pcpu not in taken]
        vcpu.pcpu = (free or allowed)[0]
        if not free:
            return RunState.RUNNABLE
        taken.add(vcpu.pcpu)
        return RunState.RUNNING

    def idle_ns(self, pcpu: int) -> int:
        """Nanoseconds that a pcpu had nothing to run."""
        vcpus = [vcpu for domain in self.domains.values() for vcpu in domain.live_vcpus if vcpu.pcpu == pcpu]
        return max(0, self.clock_ns - sum(vcpu.cpu_time_ns(self.clock_ns) for vcpu in vcpus))

    def hold(self, mapped: ForeignMap, holding: Holding) -> None:
        """Remember who made a foreign mapping and which frames it keeps."""
        self._held[id(mapped)] = holding

    def open_maps(self) -> list[tuple[ForeignMap, Holding]]:
        """Every foreign mapping that is open; what is known of closed and collected ones is forgotten."""
        opened = {id(mapped): mapped for mapped in self.machine.memory.maps if not mapped.closed}
        self._held = {key: holding for key, holding in self._held.items() if key in opened}
        return [(opened[key], holding) for key, holding in self._held.items()]

    def held_frames(self, domid: int) -> frozenset[int]:
        """Frames of a domain that open foreign mappings keep from being freed."""
        return frozenset().union(*(holding.frames for _, holding in self.open_maps() if holding.domid == domid))

    def take_frames(self, domain: Domain, frames: Iterable[int]) -> None:
        """Free frames of a domain; those that are mapped from outside stay its own until the mapping goes."""
        held = self.held_frames(domain.domid)
        leaving = [mfn for mfn in frames if mfn not in held]
        domain.tot_pages -= sum(mfn not in self.machine.special for mfn in leaving)
        self.machine.release(domain.domid, leaving)

    def reap(self) -> None:
        """Let dying domains go whose last frame has been unmapped."""
        for domain in [domain for domain in self.domains.values() if domain.dying]:
            self.take_frames(domain, self.machine.frames_of(domain.domid))
            if not self.held_frames(domain.domid):
                del self.domains[domain.domid]
                self.store.forget(domain.domid)


def _unknown(call: Call) -> int:
    return -XenErrno.ENOSYS


_FAMILIES: tuple[Family, ...] = tuple(dict.fromkeys(entry.operation.family for entry in REGISTER.values()))
_FINDS_ITSELF = (domctl_abi.CREATEDOMAIN.command, domctl_abi.GETDOMAININFO.command)
