# SPDX-License-Identifier: MIT
"""Domains and vcpus as the simulated hypervisor keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from pyxc.sim.model.cpupools import domain_share, vcpu_reservation
from pyxc.sim.model.frame_set import FrameSet
from pyxc.sim.model.p2m import P2m
from pyxc.sim.model.ports import Ports


class RunState(IntEnum):
    """What a vcpu does; the times spent in each are what Xen calls its runstate."""

    RUNNING = 0
    RUNNABLE = 1
    BLOCKED = 2
    OFFLINE = 3


class Vcpu:
    """One vcpu. `hard` and `soft` are sets of pcpus as bit masks, at first all of `everywhere`; `context` is
    None until it has one; `reservation` is what rtds keeps of it. `extended`, `xstate` and `msrs` are what
    it has besides: fields, and bytes as Xen hands them out. A debugger holds it `held` times; `stepped`: it
    stops after each instruction; `event` is the exception that it met, 0 for none."""

    def __init__(self, domain: Domain, index: int, pcpus: int, everywhere: int, now: int) -> None:
        self.domain = domain
        self.index = index
        self.pcpu = index % pcpus
        self.hard = self.soft = everywhere
        self.down = True
        self.blocked = False
        self.context: bytes | None = None
        self.extended: dict[str, int] = {}
        self.xstate = bytes(16)
        self.msrs = b""
        self.held = 0
        self.stepped = False
        self.event = 0
        self.state = RunState.OFFLINE
        self.times_ns = [0, 0, 0, 0]
        self.reservation = vcpu_reservation()
        self._since = now

    @property
    def runnable(self) -> bool:
        return not (self.down or self.blocked or self.held or self.domain.stopped)

    @property
    def running(self) -> bool:
        return self.state is RunState.RUNNING

    def enter(self, state: RunState, now: int) -> None:
        """Change the state at a time, counted in nanoseconds since the host started."""
        self.times_ns[self.state] += now - self._since
        self.state = state
        self._since = now

    def cpu_time_ns(self, now: int) -> int:
        """Nanoseconds that it has run."""
        return self.times_ns[RunState.RUNNING] + (now - self._since if self.running else 0)

    def reset(self) -> None:
        """Back to how max_vcpus made it."""
        self.context = None
        self.down = True
        self.blocked = False

    def __repr__(self) -> str:
        return f"<Vcpu {self.index} of domain {self.domain.domid}, {self.state.name.lower()}>"


class Mmio:
    """Guest frames that are machine frames of devices, in ranges as they were given."""

    def __init__(self) -> None:
        self._gfns: dict[int, FrameSet] = {}
        """By how much further a machine frame is than its gfn."""

    def map(self, gfns: range, mfn: int) -> None:
        self._forget(gfns)
        self._gfns.setdefault(mfn - gfns.start, FrameSet()).add(gfns)

    def unmap(self, gfns: range, mfn: int) -> int:
        """Unmap those up to the first that is not what is said; returns their number."""
        mapped = self._gfns.get(mfn - gfns.start, FrameSet())
        count = next((at for at, gfn in enumerate(gfns) if not mapped.covers(range(gfn, gfn + 1))), len(gfns))
        self._forget(gfns[:count])
        return count

    def _forget(self, gfns: range) -> None:
        for mapped in self._gfns.values():
            mapped.remove(gfns)
        self._gfns = {by: mapped for by, mapped in self._gfns.items() if mapped.runs}

    def runs(self) -> list[tuple[range, int]]:
        """Consecutive gfns, with the machine frame of the first."""
        found = [(run, run.start + by) for by, gfns in self._gfns.items() for run in gfns.runs]
        return sorted(found, key=lambda mapped: mapped[0].start)


class Hardware:
    """What a domain may use of the host: ports, machine frames, interrupts and its own numbers for these."""

    def __init__(self) -> None:
        self.io_ports = FrameSet()
        self.io_memory = FrameSet()
        self.irqs = FrameSet()
        self.pirqs: dict[int, int] = {}


class Time:
    """A domain's view of time: its offset from the wall clock, and its time stamp counter."""

    def __init__(self) -> None:
        self.offset_seconds = 0
        self.tsc_mode = 0
        self.tsc_khz = 0
        self.tsc_started_ns = 0
        self.incarnation = 1


class Rings(NamedTuple):
    """The pages through which a guest uses xenstore and its console, as frames of the domain's kind."""

    store: int
    console: int


class Domain:
    """One domain. Its frames are those that the machine says it owns; `p2m` maps gfns of a translated one.

    `shutdown_code` stays None until it shuts down; `pauses` counts what the toolstack asked for.
    `shadow_mode` and the parameters of `sedf` are of a domain that dom0_op made. `pod_gfns` have no memory
    yet and get it from `pod_cache`, machine frames that the domain owns already; `mmio` are gfns that are
    frames of devices. `leaving` are frames that it has given back, but that are mapped from outside. `dirty`
    are the frames that it wrote, None unless log-dirty mode is on. `triggered` are triggers with their vcpus,
    `hvm_records` the contents of records by type and instance. `share` is what credit and credit2 keep of it;
    `started`: it was unpaused once; `policy` is what cpus show to it alone, None: what they show to all.
    `nodes` is its node affinity as a bit mask, None when that follows from its vcpus. `rings` are known of
    the guests that a host boots with.
    """

    def __init__(self, domid: int, handle: bytes, options: int, max_vcpus: int, hvm: bool = False) -> None:
        self.domid = domid
        self.unique_id = 0
        self.handle = handle
        self.options = options
        self.hvm = hvm
        self.hap = False
        self.iommu = False
        self.ssidref = 0
        self.emulation_flags = 0
        self.vcpus: list[Vcpu | None] = [None] * max_vcpus
        self.pauses = 1
        self.pool_id = 0
        self.nodes: int | None = None
        self.share = domain_share()
        self.shutdown_code: int | None = None
        self.started = False
        self.policy: dict[tuple[int, int | None], tuple[int, ...]] | None = None
        self.dying = False
        self.debugged = False
        self.tot_pages = 0
        self.max_pages = 0
        self.shared_info = 0
        self.address_size = 64
        self.p2m = P2m()
        self.highest_gfn = 0
        self.paging_pages = 0
        self.paging_tables: set[tuple[int, int]] = set()
        self.params: dict[int, int] = {}
        self.rings: Rings | None = None
        self.ports = Ports(0)
        self.grant_frames: list[int] = []
        self.max_grant_frames = 0
        self.grant_version = 1
        self.shadow_mode = 0
        self.sedf: dict[str, int] = {}
        self.outstanding_pages = 0
        self.pod_gfns = FrameSet()
        self.pod_cache: list[int] = []
        self.e820: list[dict[str, int]] = []
        self.vnuma: tuple[int, int, bytes, bytes, bytes] | None = None
        self.mmio = Mmio()
        self.leaving = FrameSet()
        self.dirty: set[int] | None = None
        self.shadowed = False
        self.hardware = Hardware()
        self.time = Time()
        self.target: Domain | None = None
        self.triggered: list[tuple[int, int]] = []
        self.hvm_records: dict[tuple[int, int], bytes] = {}

    @property
    def stopped(self) -> bool:
        """Whether no vcpu of it may run: paused, shut down or dying."""
        return self.pauses > 0 or self.shutdown_code is not None or self.dying

    @property
    def live_vcpus(self) -> list[Vcpu]:
        """The vcpus that exist, online or not."""
        return [vcpu for vcpu in self.vcpus if vcpu is not None]

    def machine_frame(self, frame: int) -> int:
        """The machine frame that a frame number of this domain's kind means, -1 for none.

        Asking for one that is populated on demand populates it.
        """
        if frame in self.pod_gfns and self.pod_cache:
            self.place(frame, self.pod_cache.pop(), 1)
        return self.p2m.get(frame, -1) if self.hvm else frame

    def lacks(self, frames: Iterable[int]) -> bool:
        """Whether it is a translated domain without memory at any of these, as in large holes: an answer
        without a look at each."""
        return self.hvm and not self.pod_gfns and self.p2m.keys().isdisjoint(frames)

    def own(self, pages: int) -> None:
        """Account for pages that it got, or lost if negative; what it gets counts against its claim."""
        self.tot_pages += pages
        if self.outstanding_pages:
            self.outstanding_pages = max(0, self.outstanding_pages - pages)

    def place(self, gfn: int, mfn: int, count: int) -> None:
        """Put consecutive machine frames into a translated domain."""
        self.pod_gfns.remove(range(gfn, gfn + count))
        self.p2m.place(gfn, mfn, count)
        self.highest_gfn = max(self.highest_gfn, gfn + count - 1)

    def vcpu(self, index: int) -> Vcpu | None:
        return self.vcpus[index] if index < len(self.vcpus) else None

    def __repr__(self) -> str:
        return f"<sim Domain {self.domid}, {'HVM' if self.hvm else 'PV'}, {self.tot_pages} pages>"
