# SPDX-License-Identifier: MIT
"""A hypervisor: what it is, what the host has, and the way to its domains."""

from __future__ import annotations

import sys
from array import array
from functools import cached_property
from types import TracebackType
from typing import Any, SupportsIndex

from pyxc import answers, arguments, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import dom0_ops, registry, sysctl, version
from pyxc.abi.domctl import Scheduler
from pyxc.abi.operation import DM_OP, DOM0_OP, DOMCTL, SYSCTL, Family, Operation
from pyxc.abi.sysctl import Capability
from pyxc.abi.version import Feature
from pyxc.call.caller import Caller, Reply
from pyxc.domain import affinity, usage
from pyxc.domain.affinity import Affinity
from pyxc.domain.domains import Domains
from pyxc.domain.pci import PciAddress
from pyxc.domain.usage import Sample
from pyxc.domain.vcpus import VcpuInfo, read_infos
from pyxc.domain.watcher import DomainWatcher
from pyxc.host import topology
from pyxc.host.console import Console
from pyxc.host.cpu_policy import CpuPolicies
from pyxc.host.events import EventChannels
from pyxc.host.flask import Flask
from pyxc.host.hypfs import Hypfs
from pyxc.host.livepatches import Livepatches
from pyxc.host.perfc import PerformanceCounters
from pyxc.host.pm import PowerManagement
from pyxc.host.pools import Pools
from pyxc.host.records import PHYSINFO, Build, CpuTopology, NumaNode, PhysInfo, Version, counted, text
from pyxc.link import Link
from pyxc.store import Names, StoreClient

_DEBUG_KEYS_MOST = 1024


class Xen:
    """An open hypervisor. `with pyxc.open() as xen:`; see pyxc.open().

    Threads: one may be used by many. After a fork only the parent may use it.
    """

    own_domid = 0
    """The domain that this process runs in: tools run in dom0."""

    def __init__(self, link: Link, caller: Caller, names: bool = True) -> None:
        self.link = link
        self.caller = caller
        self.call = caller.call
        self.interface = caller.interface
        self.names = Names(link.connect_store, link.target, names)
        self.store = StoreClient(link.connect_store, readonly=caller.readonly)
        self.domains = Domains(self)
        self.pools = Pools(self)
        self.console = Console(self)
        self.cpu_policies = CpuPolicies(self)
        self.flask = Flask(self)
        self.hypfs = Hypfs(self)
        self.livepatches = Livepatches(self)
        self.perfc = PerformanceCounters(self)
        self.pm = PowerManagement(self)

    @property
    def readonly(self) -> bool:
        return self.caller.readonly

    @cached_property
    def version(self) -> Version:
        """Which Xen it is (xen_version version, extraversion)."""
        packed = self.call(version.VERSION).result
        extra = self._told(version.EXTRAVERSION2, version.EXTRAVERSION)
        return Version(packed >> 16, packed & 0xFFFF, extra)

    @cached_property
    def capabilities(self) -> tuple[str, ...]:
        """Kinds of guests that it runs, as "xen-3.0-x86_64", "hvm-3.0-x86_64" (xen_version capabilities)."""
        return tuple(self._told(version.CAPABILITIES2, version.CAPABILITIES).split())

    @cached_property
    def commandline(self) -> str | None:
        """What it was booted with (xen_version commandline). None before Xen 4.0."""
        if not self.caller.supports(version.COMMANDLINE):
            return None
        return self._told(version.COMMANDLINE2, version.COMMANDLINE)

    def _told(self, whole: Operation, cut: Operation) -> str:
        """What it says of itself: all of it (Xen 4.20 and later), or what a structure has room for."""
        if self.caller.supports(whole):
            reply = self.call(whole, len=PAGE_SIZE - 4)
            return text(reply.field("buf")[: reply.result])
        return text(self.call(cut).field(cut.name))

    @cached_property
    def features(self) -> Feature:
        """What it offers to dom0 (xen_version get_features, submap 0: there is no other)."""
        return Feature(self.call(version.GET_FEATURES, submap_idx=0).field("submap"))

    @cached_property
    def virt_start(self) -> int:
        """Where its own addresses begin in a PV guest (xen_version platform_parameters)."""
        return int(self.call(version.PLATFORM_PARAMETERS).field("virt_start"))

    @cached_property
    def build(self) -> Build:
        """How it was built (xen_version compile_info, changeset, build_id)."""
        reply = self.call(version.COMPILE_INFO)
        return Build(
            compiler=text(reply.field("compiler")),
            compile_by=text(reply.field("compile_by")),
            compile_domain=text(reply.field("compile_domain")),
            compile_date=text(reply.field("compile_date")),
            changeset=self._told(version.CHANGESET2, version.CHANGESET),
            build_id=self._build_id(),
        )

    def _build_id(self) -> str | None:
        try:
            reply = self.call(version.BUILD_ID, len=PAGE_SIZE - 4)
        except errors.HypercallError:
            return None
        return bytes(reply.field("buf")[: reply.result]).hex()

    def physinfo(self) -> PhysInfo:
        """The host now: cpus, memory, what the platform can do (sysctl physinfo)."""
        return counted(self.caller.read(sysctl.PHYSINFO, PHYSINFO))

    @cached_property
    def nr_cpus(self) -> int:
        """Physical cpus, counting up to the highest id."""
        info = self.physinfo()
        count = info.nr_cpus if info.max_cpu_id is None else info.max_cpu_id + 1
        return answers.number("number of cpus", count, answers.MOST_CPUS, 1)

    @property
    def platform(self) -> Capability:
        """What the platform can do: hvm, hap, ... (sysctl physinfo capabilities).

        Before Xen 3.3 nothing says that but the kinds of guests, see `capabilities`.
        """
        bits = self.physinfo().capability_bits
        if bits is not None:
            return sysctl.capabilities(bits, self.interface.sysctl)
        hvm = any(kind.startswith("hvm-") for kind in self.capabilities)
        return Capability.PV | (Capability.HVM if hvm else Capability(0))

    @cached_property
    def grant_version(self) -> int:
        """The newest grant table version that a new domain may use."""
        return 2 if Capability.GNTTAB_V2 in self.platform else 1

    @cached_property
    def scheduler(self) -> str:
        """Name of the default scheduler (sysctl sched_id)."""
        number = self.call(sysctl.SCHED_ID).field("sched_id")
        schedulers = dom0_ops.Scheduler if self.interface.dom0_op else Scheduler
        try:
            return schedulers(number).name.lower()
        except ValueError:
            return f"scheduler {number}"

    def topology(self) -> list[CpuTopology]:
        """Core, socket and node of each physical cpu (sysctl cputopoinfo; before Xen 4.6 topologyinfo).

        Before 4.1 only the nodes are told, before 3.2 nothing but how many cpus there are.
        """
        return topology.cpus(self)

    def numa(self) -> list[NumaNode]:
        """Memory of each node and distances between them (sysctl numainfo).

        Before 4.1 only free memory is told (sysctl availheap), before 3.2 it is Unsupported.
        """
        return topology.nodes(self)

    def idle_ns(self) -> list[int]:
        """Nanoseconds since the boot that each physical cpu was idle (sysctl getcpuinfo, from 3.2 on)."""
        return topology.idle_ns(self)

    def available_bytes(self, node: int | None = None, *, least_bits: int = 0, most_bits: int = 0) -> int:
        """Free memory, of all nodes unless one is named (sysctl availheap, from 3.2 on).

        With `least_bits` or `most_bits` only that whose addresses have no fewer or no more bits: 32 at most
        are what a device can reach that knows 4 GiB.
        """
        return topology.available_bytes(self, node, least_bits, most_bits)

    def debug_keys(self, keys: str) -> None:
        """Press debug keys (sysctl debug_keys): what they print is in the console ring. "h" lists them."""
        pressed = keys.encode("ascii")
        arguments.natural("number of keys", len(pressed), _DEBUG_KEYS_MOST)
        if not pressed:
            raise ValueError("no debug key is given")
        self.call(sysctl.DEBUG_KEYS, keys=pressed, nr_keys=len(pressed))

    def vcpus(self) -> list[VcpuInfo]:
        """All vcpus of all domains, in one multicall (domctl getvcpuinfo)."""
        return read_infos(self, *self._all_vcpus())

    def affinities(self) -> dict[tuple[int, int], Affinity]:
        """Affinities of all vcpus by (domid, vcpu), in one multicall (domctl getvcpuaffinity)."""
        return affinity.read_many(self, *self._all_vcpus())

    def _all_vcpus(self) -> tuple[list[int], list[int]]:
        pairs = [(info.domid, vcpu) for info in self.domains.infos() for vcpu in range(info.nr_vcpus)]
        return [domid for domid, _ in pairs], [vcpu for _, vcpu in pairs]

    def sample(self) -> Sample:
        """All domains and vcpus with the time: two of them tell what each used, `now.since(before)`."""
        return usage.sample(self)

    def events(self) -> EventChannels:
        """Event channels of this domain, to bind, ring and wait for. Close them, or use them in a `with`."""
        return EventChannels(self)

    def watch_domains(self, source: str | None = None, interval: float = 1.0) -> DomainWatcher:
        """Domains that come, shut down and go from now on, as a stream of events; see DomainWatcher.

        `source` says when to look: "virq", the hypervisor's word (VIRQ_DOM_EXC) at the moment when a domain
        shuts down or goes, which has one holder, and xenstored needs it when it starts; "xenstore", the word
        of xenstored, for domains that use it; "poll", nothing but time. None takes the first of them that
        this host has. Whatever it is, the domains are listed every `interval` seconds as well, since Xen does
        not say when one is created.
        """
        return DomainWatcher(self, source, interval)

    def pci_group(self, device: PciAddress | str) -> list[PciAddress]:
        """dom0's other devices that the IOMMU cannot tell from this one (domctl get_device_group).

        They can only be assigned together.
        """
        return self.domains[self.own_domid].pci.group(device)

    def domctl(self, operation: str | Operation, domid: int | None = None, /, **fields: Any) -> Reply:
        """A domctl by name and fields, for what pyxc has no method for; see Caller.call() for fields.

        `xen.domctl("max_mem", 5, max_memkb=1 << 20)`. A program may declare an Operation of its own, as for
        a vendor's command. Names and structures are in pyxc.abi.domctl. ValueError for an unknown name.
        """
        return self._raw(DOMCTL, operation, domid, fields)

    def sysctl(self, operation: str | Operation, /, **fields: Any) -> Reply:
        """A sysctl by name and fields, as domctl(); names are in pyxc.abi.sysctl."""
        return self._raw(SYSCTL, operation, None, fields)

    def dom0_op(self, operation: str | Operation, domid: int | None = None, /, **fields: Any) -> Reply:
        """A dom0_op by name and fields, as domctl(), on a Xen of 2006; names are in pyxc.abi.dom0_ops."""
        return self._raw(DOM0_OP, operation, domid, fields)

    def dm_op(
        self, operation: str | Operation, domid: SupportsIndex, /, *buffers: bytes, **fields: Any
    ) -> Reply:
        """A device model operation on an HVM or PVH domain by name and fields; names are in pyxc.abi.dm_op.

        `xen.dm_op("inject_msi", 5, addr=0xFEE00000, data=0x41)`. Buffers behind the structure are given by
        position, and come back in Reply.buffers as "1", "2". The kernel takes 16 buffers of up to 4096 bytes.
        Xen trusts a device model: on a domain without those devices some have brought down the whole host.
        """
        asked = self._asked(DM_OP, operation)
        return self.caller.dm_op(asked, arguments.domid(domid), *buffers, **fields)

    def restrict(self, domid: SupportsIndex) -> None:
        """Give up everything but one domain, for good: as a process should before it reads a guest's data.

        What is left is mapping its memory by frame number, and dm_op(). All else is PermissionDenied, by the
        kernel: a domain must be looked up, and its frames listed, before. Maps that are open stay. Event
        channels are restricted by themselves (EventChannels.restrict). Should the id be used again, the new
        domain is meant.
        """
        self.caller.restrict(arguments.domid(domid))

    def _raw(
        self, family: Family, operation: str | Operation, domid: int | None, fields: dict[str, Any]
    ) -> Reply:
        return self.call(self._asked(family, operation), domid, **fields)

    def _asked(self, family: Family, operation: str | Operation) -> Operation:
        asked = registry.named(family, operation) if isinstance(operation, str) else operation
        if asked.family is not family:
            raise ValueError(f"{asked.full_name} is not a {family.name}")
        return asked

    @property
    def swapped(self) -> bool:
        """Whether its byte order is not this machine's."""
        return self.interface.byteorder != sys.byteorder

    def words(self, data: bytes | memoryview) -> array[int]:
        """u64s between the hypervisor's byte order and this machine's, either way."""
        words = array("Q")
        words.frombytes(data)
        if self.swapped:
            words.byteswap()
        return words

    def words32(self, data: bytes) -> array[int]:
        """The same of u32s."""
        words = array("I", data)
        if self.swapped:
            words.byteswap()
        return words

    def check_writable(self, what: str) -> None:
        """ReadOnlyError on a handle that was opened read-only."""
        if self.readonly:
            raise errors.ReadOnlyError(f"{what} changes something and this handle is read-only")

    def close(self) -> None:
        """Close devices, mappings and xenstore. BufferError while a memoryview still holds a mapping."""
        self.link.close()
        self.names.close()
        self.store.close()

    def __enter__(self) -> Xen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Xen {'.'.join(map(str, self.interface.xen))} at {self.link.target}>"
