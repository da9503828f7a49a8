# SPDX-License-Identifier: MIT
"""The simulated hypervisor: its state, and what happens to it."""

from __future__ import annotations

from collections.abc import Iterable
from threading import RLock
from typing import TYPE_CHECKING

from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.abi.event_channel import Virq
from pyxc.abi.layout import Layout, Table
from pyxc.sim.dispatch import Dispatch
from pyxc.sim.guests import residents, residents_2006, toolstack
from pyxc.sim.model import channels, debug_keys, grants
from pyxc.sim.model.access import ClientMemory, Refusal
from pyxc.sim.model.console import ConsoleRing
from pyxc.sim.model.cpupools import CpuPool
from pyxc.sim.model.domain import Domain, Vcpu
from pyxc.sim.model.frame_set import FrameSet
from pyxc.sim.model.holdings import Holdings
from pyxc.sim.model.machine import Machine
from pyxc.sim.model.policy import Policy
from pyxc.sim.model.scheduler import schedule
from pyxc.sim.ops import hypfs
from pyxc.sim.ops.livepatch import Patch
from pyxc.sim.ops.perfc import Counters
from pyxc.sim.ops.pm import Frequencies
from pyxc.sim.profiles import Profile
from pyxc.sim.xenstored import Host, Xenstored

if TYPE_CHECKING:
    from pyxc.sim.link import SimLink

_TICK_NS = 10_000
_BOOTED_NS = 60_000_000_000


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
        self.pools = {0: CpuPool(0, profile.schedulers[0], (1 << self.pcpus) - 1)}
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
        self._dispatch = Dispatch(self)
        inhabitants = residents_2006 if profile.dom0_op else residents
        inhabitants.start_dom0(self)
        self.store_runs = with_store
        if with_store:
            channels.listen_to_virq(self, Virq.DOM_EXC, self.store.check_domains)
        self.console.print(debug_keys.boot_log(self))
        if with_guests:
            inhabitants.start_guests(self)

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
    def free_cpus(self) -> int:
        """The pcpus that are in no pool, as a bit mask."""
        return (1 << self.pcpus) - 1 & ~sum(pool.cpus for pool in self.pools.values())

    def cpus_of(self, domain: Domain) -> int:
        """The pcpus of a domain's pool, as a bit mask."""
        return self.pools[domain.pool_id].cpus

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
        schedule(self.vcpus(), self.cpus_of, self.clock_ns)

    def hypercall(self, memory: ClientMemory, number: int, arguments: tuple[int, ...]) -> int:
        """Carry out one hypercall: its result, or a negative errno."""
        with self.lock:
            self.clock_ns += _TICK_NS
            self.reap()
            self.counters.count(number)
            return self._dispatch.carry_out(memory, number, arguments)

    def demand(self, sid: int, tclass: str, permission: str) -> None:
        """Refusal (EACCES) where a security policy does not let the caller do something to a label."""
        if self.policy:
            self.policy.demand(self.current.domain.ssidref, sid, tclass, permission)

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

    def introduce(self, domid: int, name: str) -> None:
        """What a toolstack does for a new domain: it gets its nodes in xenstore, and is introduced there."""
        with self.lock:
            toolstack.introduce(self, self.domains[domid], name)

    def ring(self, domid: int, port: int) -> None:
        """What a guest does to ring the other end of one of its ports."""
        with self.lock:
            channels.send(self, self.find(domid), port)
