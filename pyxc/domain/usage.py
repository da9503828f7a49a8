# SPDX-License-Identifier: MIT
"""The cpu usage of domains: the difference of two samples."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from pyxc.domain import details
from pyxc.domain.details import Details
from pyxc.domain.domains import Domains
from pyxc.domain.info import DomainInfo
from pyxc.domain.vcpus import VcpuInfo, read_infos
from pyxc.host import backends
from pyxc.host.backends import DiskCounters, NetworkCounters


class VcpuUsage(NamedTuple):
    """The usage of a vcpu between two samples, in percent of one physical cpu; None: not in the first.

    Example:

    >>> before = xen.sample()
    >>> info = xen.physinfo()               # on a real host: time.sleep(1)
    >>> xen.sample().since(before)[2].vcpus[0].cpu_percent
    100.0
    """

    info: VcpuInfo
    cpu_percent: float | None


class DomainUsage(NamedTuple):
    """The usage of a domain between two samples.

    `cpu_percent` is in percent of one physical cpu: two busy vcpus make 200. None: the domain was not in the
    first sample, or another domain had its id. `disks` and `networks` are those of the later sample, None if
    they are unknown.

    Example:

    >>> before = xen.sample()
    >>> info = xen.physinfo()               # on a real host: time.sleep(1)
    >>> busy = xen.sample().since(before)[2]
    >>> busy.info.domid, busy.cpu_percent, len(busy.vcpus)
    (2, 100.0, 1)
    """

    info: DomainInfo
    cpu_percent: float | None
    vcpus: tuple[VcpuUsage, ...]
    disks: tuple[DiskCounters, ...] | None = None
    networks: tuple[NetworkCounters, ...] | None = None


class Sample(NamedTuple):
    """All domains and their vcpus at one moment; only differences of `time_ns` are meaningful.

    `disks` and `networks` are those that this domain's kernel serves to others, by domain and device: None if
    it is not available, as in a recording. `details` has further facts, None unless requested. Threads: safe
    to share.

    Example:

    >>> before = xen.sample()
    >>> info = xen.physinfo()               # on a real host: time.sleep(1)
    >>> [used.cpu_percent for used in xen.sample().since(before)]
    [100.0, 0.0, 100.0, 0.0]
    """

    time_ns: int
    domains: tuple[DomainInfo, ...]
    vcpus: tuple[VcpuInfo, ...]
    disks: tuple[DiskCounters, ...] | None = None
    networks: tuple[NetworkCounters, ...] | None = None
    details: Details | None = None

    def since(self, before: Sample) -> list[DomainUsage]:
        """The usage of each domain of this sample since an earlier one. ValueError if it is not earlier."""
        elapsed_ns = self.time_ns - before.time_ns
        if elapsed_ns <= 0:
            raise ValueError("the given sample must be older than this one")
        handles = {info.domid: info.handle for info in before.domains}
        lived = {info.domid for info in self.domains if handles.get(info.domid) == info.handle}
        domain_ns = {info.domid: info.cpu_time_ns for info in before.domains}
        vcpu_ns = {(vcpu.domid, vcpu.vcpu): vcpu.cpu_time_ns for vcpu in before.vcpus}

        def percent(now_ns: int, then_ns: int | None, domid: int) -> float | None:
            return None if then_ns is None or domid not in lived else 100 * (now_ns - then_ns) / elapsed_ns

        of_domain: dict[int, list[VcpuUsage]] = {info.domid: [] for info in self.domains}
        for vcpu in [one for one in self.vcpus if one.domid in of_domain]:
            used = percent(vcpu.cpu_time_ns, vcpu_ns.get((vcpu.domid, vcpu.vcpu)), vcpu.domid)
            of_domain[vcpu.domid].append(VcpuUsage(vcpu, used))
        return [
            DomainUsage(
                info,
                percent(info.cpu_time_ns, domain_ns.get(info.domid), info.domid),
                tuple(of_domain[info.domid]),
                _of(self.disks, info.domid),
                _of(self.networks, info.domid),
            )
            for info in self.domains
        ]


C = TypeVar("C", DiskCounters, NetworkCounters)


def _of(counters: tuple[C, ...] | None, domid: int) -> tuple[C, ...] | None:
    return None if counters is None else tuple(one for one in counters if one.domid == domid)


def sample(domains: Domains, *, full: bool = False) -> Sample:
    """One list of all domains, one multicall for all their vcpus, and the files of the kernel's drivers."""
    xen = domains.xen
    infos = domains.infos()
    time_ns = xen.link.clock_ns()
    pairs = [(info.domid, vcpu) for info in infos for vcpu in range(info.nr_vcpus)]
    vcpus = read_infos(xen, [domid for domid, _ in pairs], [vcpu for _, vcpu in pairs])
    root = xen.link.kernel_files
    return Sample(
        time_ns,
        tuple(infos),
        tuple(vcpus),
        None if root is None else tuple(backends.disks(root)),
        None if root is None else tuple(backends.networks(root)),
        details.read(xen, infos) if full else None,
    )
