# SPDX-License-Identifier: MIT
"""A simulated host, the ground: its state, which all operations work on."""

from __future__ import annotations

from threading import RLock

from pyxc.abi.domid import DOMID_IO, DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import Layout, Table
from pyxc.sim.model import hypfs
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.console import ConsoleRing
from pyxc.sim.model.counters import Counters, LockProfile
from pyxc.sim.model.cpupools import CpuPool
from pyxc.sim.model.domain import Domain, Vcpu
from pyxc.sim.model.frequencies import Frequencies
from pyxc.sim.model.holdings import Holdings
from pyxc.sim.model.livepatches import Patch
from pyxc.sim.model.machine import Machine
from pyxc.sim.model.policy import Policy
from pyxc.sim.model.scheduler import schedule
from pyxc.sim.model.trace_buffers import TraceBuffers
from pyxc.sim.profiles import Profile

_BOOTED_NS = 60_000_000_000


class Host:
    """The state of a simulated host, and who is who on it. Used with its lock.

    Its attributes are the truth that tests compare with. `clock_ns` advances by a fixed step with every
    hypercall, so that two runs of one program give equal results; `wallclock_ns` is what it was at the boot.
    """

    pcpus = 2
    cpu_khz = 2_400_000
    gsis = 24
    irqs = 256
    gdbsx = True
    """Whether it was built with CONFIG_GDBSX, as only builds for developers and experts are."""
    monitor_trap = False
    """Whether processors can stop a translated vcpu after an instruction."""
    event_ring = 1024
    """How many ports that fired dom0's kernel keeps for one event channel device."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.interface = profile.interface
        self.machine = Machine(profile.frames, self.interface.byteorder, m2p=profile.arch == "x86_64")
        self.holdings = Holdings(self.machine.memory)
        self.domains: dict[int, Domain] = {}
        self.pools = {0: CpuPool(0, profile.schedulers[0], (1 << self.pcpus) - 1)}
        self.console = ConsoleRing()
        self.policy = Policy(profile.xen) if profile.xsm else None
        self.counters = Counters()
        self.lock_profile = LockProfile()
        self.hypfs = hypfs.tree(profile)
        self.livepatches: list[Patch] = []
        self.frequencies: Frequencies | None = None
        self.max_c_state: int | None = None
        """The limit that a program set; None before, which is that of the release."""
        self.trace_buffers = TraceBuffers(self.machine, self.pcpus, self.cpu_khz)
        self.io_domain = Domain(DOMID_IO, bytes(16), 0, 1)
        self.io_domain.iommu = profile.iommu
        self.pci = dict.fromkeys(profile.pci, 0)
        """Owners of devices, by packed address (the encoding since 4.2)."""
        self.kernel_files: str | None = None
        """A directory with what the kernel of dom0 says in sys and proc, if any."""
        self.clock_ns = _BOOTED_NS
        self.wallclock_ns = 0
        self.last_domid: int = 0
        self.last_unique_id = self.clock_ns
        self.changed_domids: set[int] = set()
        """Domains with a change that xenstored has not read yet; Xen records these since 4.21."""
        self.held_domids: dict[int, float] = {}
        """Ids that no domain has and none can get, each until a time as `clock_ns`."""
        self.lock = RLock()

    def layout(self, table: Table) -> Layout:
        """The layout of a structure in this release."""
        return table.at(self.interface)

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
        schedule(self.vcpus(), self.cpus_of, self.clock_ns, self.trace_buffers.runstate)

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
        """Free pages that are not claimed."""
        return self.machine.heap.free - self.claimed_pages
