# SPDX-License-Identifier: MIT
"""The simulated hypervisor: its state, and the way of a hypercall to the operation that carries it out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING

from pyxc.abi import domctl as domctl_abi
from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.abi.event_channel import Virq
from pyxc.abi.layout import Layout, NotInInterface, Table
from pyxc.abi.operation import DM_OP, DOMCTL, MEMORY_OP, MULTICALL, XSM_OP, Family
from pyxc.sim import (
    channels,
    cpu_policy,
    debug_keys,
    dm_op,
    dom0_op,
    dom0_op_host,
    dom0_op_memory,
    dom0_op_vcpu,
    domctl,
    domctl_hvm,
    domctl_memory,
    domctl_paging,
    domctl_pci,
    domctl_permissions,
    domctl_time,
    domctl_vcpu,
    event_channel,
    flask,
    grant_table,
    grants,
    guards,
    guests,
    guests_2006,
    hvm,
    hypfs,
    livepatch,
    memory_claims,
    memory_map,
    memory_op,
    perfc,
    physdev,
    pm,
    sched,
    sysctl,
    version,
    vnuma,
)
from pyxc.sim.access import ClientMemory, Refusal
from pyxc.sim.call import REGISTER, Call, Handler
from pyxc.sim.console import ConsoleRing
from pyxc.sim.domain import Domain, Vcpu
from pyxc.sim.frame_set import FrameSet
from pyxc.sim.holdings import Holdings
from pyxc.sim.livepatch import Patch
from pyxc.sim.machine import Machine
from pyxc.sim.perfc import Counters
from pyxc.sim.pm import Frequencies
from pyxc.sim.policy import Policy
from pyxc.sim.profiles import Profile
from pyxc.sim.scheduler import schedule
from pyxc.sim.xenstored import Host, Xenstored

if TYPE_CHECKING:
    from pyxc.sim.link import SimLink

HANDLERS = (
    cpu_policy,
    dm_op,
    dom0_op,
    dom0_op_host,
    dom0_op_memory,
    dom0_op_vcpu,
    domctl,
    domctl_hvm,
    domctl_memory,
    domctl_paging,
    domctl_pci,
    domctl_permissions,
    domctl_time,
    domctl_vcpu,
    event_channel,
    flask,
    grant_table,
    hvm,
    hypfs,
    livepatch,
    memory_claims,
    memory_map,
    memory_op,
    perfc,
    physdev,
    pm,
    sched,
    sysctl,
    version,
    vnuma,
)
"""The modules that fill the register of operations."""

_FAMILIES: dict[int, Family] = {
    entry.operation.family.hypercall: entry.operation.family for entry in REGISTER.values()
}
_TICK_NS = 10_000
_MOST_BUFFERS = 2
"""Of a dm_op."""
_BOOTED_NS = 60_000_000_000
_MEMORY_COMMAND = 0x3F
"""Higher bits of a memory_op's command count the extents that are done."""
_FINDS_ITSELF = (domctl_abi.CREATEDOMAIN.command, domctl_abi.GETDOMAININFO.command)
"""domctls that do not act on an existing domain, or look for it in their own way."""

Commands = dict[int, tuple[Layout | None, Handler]]


class Hypervisor:
    """A whole simulated host: 2 pcpus, dom0 and three guests. Threads: may be used by many.

    Its attributes are the truth that tests compare with. `clock_ns` advances by a fixed step with every
    hypercall, so that two runs of one program give equal results; `wallclock_ns` is what it was at the boot.
    """

    pcpus = 2
    cpu_khz = 2_400_000
    gsis = 24
    irqs = 256
    event_ring = 1024
    """How many ports that fired dom0's kernel keeps for one event channel device."""

    def __init__(self, profile: Profile, with_guests: bool = True, with_store: bool = True) -> None:
        """Boot the host. `with_guests` False leaves dom0 alone on it, `with_store` False has no xenstored."""
        self.profile = profile
        self.interface = profile.interface
        self.machine = Machine(profile.frames, self.interface.byteorder, m2p=profile.arch == "x86_64")
        self.holdings = Holdings(self.machine.memory)
        self.domains: dict[int, Domain] = {}
        self.console = ConsoleRing()
        self.policy = Policy(profile.xen) if profile.xsm else None
        self.counters = Counters()
        self.hypfs = hypfs.tree(profile)
        self.livepatches: list[Patch] = []
        self.frequencies: Frequencies | None = None
        self.pci = dict.fromkeys(profile.pci, 0)
        """Owners of devices, by the address of each as it is packed since 4.2."""
        self.clock_ns = _BOOTED_NS
        self.wallclock_ns = 0
        self.last_domid = 0
        self.lock = RLock()
        self.store = Xenstored(Host(self), self.lock)
        self._commands = {family: self._commands_of(family) for family in _FAMILIES.values()}
        self._families = {
            number: family
            for number, family in _FAMILIES.items()
            if self._commands[family]
            and self.interface.number(family.name) != 0
            and (profile.xsm or family is not XSM_OP)
        }
        order = "<" if self.interface.byteorder == "little" else ">"
        self._entry, self._buffer = struct.Struct(f"{order}Qq6Q"), struct.Struct(f"{order}QQ")
        residents = guests_2006 if profile.dom0_op else guests
        residents.start_dom0(self)
        self.store_runs = with_store
        if with_store:
            channels.listen_to_virq(self, Virq.DOM_EXC, self.store.check_domains)
        self.console.print(debug_keys.boot_log(self))
        if with_guests:
            residents.start_guests(self)

    def _commands_of(self, family: Family) -> Commands:
        """The operations of a family that this release has, by command."""
        commands: Commands = {}
        for operation, handler, arch in REGISTER.values():
            if operation.family is family and arch in (None, self.profile.arch):
                try:
                    layout = operation.at(self.interface)
                except NotInInterface:
                    continue
                commands[operation.command] = (layout if layout.size else None, handler)
        return commands

    def layout(self, table: Table) -> Layout:
        """The layout of a structure in this release."""
        return table.at(self.interface)

    def connect(self, target: str = "sim:") -> SimLink:
        """A new link to this hypervisor, with memory of its own."""
        from pyxc.sim.link import SimLink

        return SimLink(self, target)

    @property
    def possible_pcpus(self) -> int:
        """The most cpus that a set of cpus can name: up to 4.1 as many as Xen was built for."""
        if self.profile.since(4, 2):
            return self.pcpus
        return 128 if self.profile.since(4, 0) else 32

    @property
    def current(self) -> Vcpu:
        """The vcpu that makes all hypercalls: dom0's first."""
        return self.domains[0].live_vcpus[0]

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

    def vcpus(self) -> list[Vcpu]:
        """All vcpus of all domains, in order."""
        return [vcpu for domain in self.sorted_domains() for vcpu in domain.live_vcpus]

    def add_vcpu(self, domain: Domain, index: int) -> Vcpu:
        """A new vcpu of a domain, offline, which may run anywhere."""
        everywhere = (1 << self.possible_pcpus) - 1
        vcpu = domain.vcpus[index] = Vcpu(domain, index, self.pcpus, everywhere, self.clock_ns)
        return vcpu

    def idle_ns(self, pcpu: int) -> int:
        """Nanoseconds that a pcpu had nothing to run."""
        busy = sum(vcpu.cpu_time_ns(self.clock_ns) for vcpu in self.vcpus() if vcpu.pcpu == pcpu)
        return max(0, self.clock_ns - busy)

    def schedule(self) -> None:
        """After whatever makes a vcpu runnable or not."""
        schedule(self.vcpus(), self.pcpus, self.clock_ns)

    def hypercall(self, memory: ClientMemory, number: int, arguments: tuple[int, ...]) -> int:
        """Carry out one hypercall: its result, or a negative errno."""
        with self.lock:
            self.clock_ns += _TICK_NS
            self.reap()
            self.counters.count(number)
            if number != MULTICALL:
                return self._single(memory, number, arguments)
            try:
                return self._multicall(memory, arguments[0], arguments[1])
            except Refusal as refusal:
                return -refusal.errno

    def _single(self, memory: ClientMemory, number: int, arguments: tuple[int, ...]) -> int:
        family = self._families.get(number)
        if family is None:
            return -XenErrno.ENOSYS
        try:
            call, handler = self._way(family)(family, memory, arguments)
            return handler(call) or 0
        except Refusal as refusal:
            return -refusal.errno

    def _way(self, family: Family) -> Callable[..., tuple[Call, Handler]]:
        if family is DM_OP:
            return self._in_buffers
        return self._by_argument if family.command_argument else self._enveloped

    def _in_buffers(
        self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]
    ) -> tuple[Call, Handler]:
        """dm_op: a domain and a list of buffers, of which the first is the structure; in Xen's order."""
        domid, count, address = arguments[:3]
        if count > _MOST_BUFFERS:
            raise Refusal(XenErrno.E2BIG)
        if count == 0 and self.profile.since(4, 20):
            raise Refusal(XenErrno.ENODATA)
        buffers = [self._buffer.unpack(memory.read(address + 16 * index, 16)) for index in range(count)]
        target = self.find(domid)
        if target is self.current.domain:
            raise Refusal(XenErrno.EPERM)
        if not target.hvm:
            raise Refusal(XenErrno.EINVAL)
        start, size = buffers[0] if buffers else (0, 0)
        envelope = Layout(family.name, family.envelope, self.interface.byteorder)
        if size < envelope.size:
            raise Refusal(XenErrno.EFAULT)
        command = envelope.unpack(memory.read(start, envelope.size))["op"]
        layout, handler = self._commands[family].get(command, (None, _not_for_devices))
        if layout and size < layout.size:
            raise Refusal(XenErrno.EFAULT)
        return Call(self, memory, layout, start, target), handler

    def _multicall(self, memory: ClientMemory, address: int, count: int) -> int:
        """Each entry's result goes into the entry; one multicall in another is refused there."""
        for place in range(address, address + count * self._entry.size, self._entry.size):
            number, _, *arguments = self._entry.unpack(memory.read(place, self._entry.size))
            self.counters.count(number)
            self.counters.from_multicall += 1
            nested = number == MULTICALL
            result = -XenErrno.EINVAL if nested else self._single(memory, number, tuple(arguments))
            self._entry.pack_into(memory.view(place, self._entry.size), 0, number, result, *arguments)
        return 0

    def _by_argument(
        self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]
    ) -> tuple[Call, Handler]:
        """Families whose command is the first argument and whose structure's address is the second."""
        command = arguments[0] & _MEMORY_COMMAND if family is MEMORY_OP else arguments[0]
        layout, handler = self._commands[family].get(command, (None, _unknown))
        call = Call(self, memory, layout, arguments[1])
        if family.by_value and layout:
            call.take(dict(zip(layout.names, arguments[1:])))
        return call, handler

    def _enveloped(
        self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]
    ) -> tuple[Call, Handler]:
        """domctl, sysctl, dom0_op, xsm_op: the copy, the version, the domain, the command, in Xen's order.

        Up to 4.2 the command came before the domain.
        """
        envelope = Layout(family.name, family.envelope, self.interface.byteorder)
        header = envelope.unpack(memory.read(arguments[0], family.size))
        if header["interface_version"] != (family.interface or self.interface.version(family.name)[0]):
            raise Refusal(XenErrno.ENOSYS if family is XSM_OP else XenErrno.EACCES)
        command = header["cmd"]
        layout, handler = self._commands[family].get(command, (None, _unknown))
        target = None
        if family is DOMCTL and command not in _FINDS_ITSELF:
            if handler is _unknown and not self.profile.since(4, 3):
                raise Refusal(XenErrno.ENOSYS)
            target = self._target(command, header["domid"])
            if command in guards.BY_COMMAND:
                self.demand(target.ssidref, *guards.BY_COMMAND[command])
        return Call(self, memory, layout, arguments[0], target), handler

    def demand(self, sid: int, tclass: str, permission: str) -> None:
        """Refusal (EACCES) where a security policy does not let the caller do something to a label."""
        if self.policy:
            self.policy.demand(self.current.domain.ssidref, sid, tclass, permission)

    def _target(self, command: int, domid: int) -> Domain:
        """The domain of a domctl. Refusal: ESRCH, and up to 4.2 EINVAL from getmemlist."""
        own_look = command == domctl_abi.GETMEMLIST.command and not self.profile.since(4, 3)
        if own_look and domid not in self.domains:
            raise Refusal(XenErrno.EINVAL)
        return self.find(domid)

    @property
    def claimed_pages(self) -> int:
        """Pages that domains claim and have not got yet."""
        return sum(domain.outstanding_pages for domain in self.domains.values())

    @property
    def unclaimed_pages(self) -> int:
        """Free pages that nobody claims."""
        return self.machine.heap.free - self.claimed_pages

    def shut_down(self, domain: Domain, reason: int) -> None:
        """Stop a domain. The first reason stays."""
        if domain.shutdown_code is None:
            domain.shutdown_code = reason & 0xFF
            channels.raise_virq(self, Virq.DOM_EXC)
        self.schedule()

    def kill(self, domain: Domain) -> None:
        """End a domain. It stays, dying, as long as somebody maps its memory."""
        domain.dying = True
        domain.outstanding_pages = 0
        self.pci.update({device: 0 for device, owner in self.pci.items() if owner == domain.domid})
        channels.close_all(self, domain)
        self.take_frames(domain, self.machine.frames_of(domain.domid).runs)
        self.schedule()
        channels.raise_virq(self, Virq.DOM_EXC)
        self.reap()

    def take_frames(self, domain: Domain, runs: Iterable[range]) -> None:
        """Free frames of a domain; those that are mapped from outside stay its own until the mapping goes."""
        leaving = FrameSet(*runs)
        for mfn in self.holdings.frames_of(domain.domid):
            leaving.remove(range(mfn, mfn + 1))
        domain.own(sum(mfn in leaving for mfn in self.machine.special) - len(leaving))
        self.machine.release(domain.domid, leaving)

    def reap(self) -> None:
        """After mappings may have gone: end what they lent, let dying domains go that nothing holds."""
        for holding in self.holdings.ended():
            grants.revoke(self, holding.lent)
        for domain in [domain for domain in self.domains.values() if domain.dying]:
            self.take_frames(domain, self.machine.frames_of(domain.domid).runs)
            targeted = any(other.target is domain for other in self.domains.values())
            if not self.machine.frames_of(domain.domid) and not targeted:
                del self.domains[domain.domid]
                channels.raise_virq(self, Virq.DOM_EXC)

    def write_as_guest(self, domid: int, frame: int, offset: int, data: bytes) -> None:
        """What a guest does to write into one of its frames, named as the domain's kind names them."""
        with self.lock:
            domain = self.find(domid)
            mfn = domain.machine_frame(frame)
            self.machine.memory.write(mfn, offset, data)
            if domain.dirty is not None:
                domain.dirty.add(frame if domain.hvm else self.machine.pfn_of(mfn))

    def ring(self, domid: int, port: int) -> None:
        """What a guest does to ring the other end of one of its ports."""
        with self.lock:
            channels.send(self, self.find(domid), port)


def _unknown(call: Call) -> int:
    return -XenErrno.ENOSYS


def _not_for_devices(call: Call) -> int:
    return -XenErrno.EOPNOTSUPP
