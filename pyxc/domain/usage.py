# SPDX-License-Identifier: MIT
"""How much of the physical cpus domains use: the difference of two samples."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.domain.domains import Domains
from pyxc.domain.info import DomainInfo
from pyxc.domain.vcpus import VcpuInfo, read_infos


class VcpuUsage(NamedTuple):
    """What a vcpu did between two samples: percent of one physical cpu; None: it was not in the first."""

    info: VcpuInfo
    cpu_percent: float | None


class DomainUsage(NamedTuple):
    """What a domain did between two samples.

    `cpu_percent` is of one physical cpu: two vcpus that never stopped make 200. None: it was not in the first
    sample, or another domain had its id.
    """

    info: DomainInfo
    cpu_percent: float | None
    vcpus: tuple[VcpuUsage, ...]


class Sample(NamedTuple):
    """All domains and their vcpus at one moment; only differences of `time_ns` say something.

    Frozen: safe in any thread.
    """

    time_ns: int
    domains: tuple[DomainInfo, ...]
    vcpus: tuple[VcpuInfo, ...]

    def since(self, before: Sample) -> list[DomainUsage]:
        """What each domain of this sample did since an earlier one. ValueError when it is not earlier."""
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
            )
            for info in self.domains
        ]


def sample(domains: Domains) -> Sample:
    """One list of all domains, and one multicall for all their vcpus."""
    xen = domains.xen
    infos = domains.infos()
    time_ns = xen.link.clock_ns()
    pairs = [(info.domid, vcpu) for info in infos for vcpu in range(info.nr_vcpus)]
    vcpus = read_infos(xen, [domid for domid, _ in pairs], [vcpu for _, vcpu in pairs])
    return Sample(time_ns, tuple(infos), tuple(vcpus))
