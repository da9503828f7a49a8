# SPDX-License-Identifier: MIT
"""One scrape after the other: samples, and the lines that they make."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

import pyxc
from pyxc import errors
from pyxc.domain.usage import Sample
from pyxc.metrics.domain_families import DOMAIN
from pyxc.metrics.family import Facts, Family, Kind, Points, label, labels, written
from pyxc.metrics.host_families import HOST
from pyxc.metrics.steal import StealMeter
from pyxc.store.names import readable
from pyxc.xen import Xen

_DOMAINS_MOST = 4096


class Own(NamedTuple):
    """What the exporter says of itself. `seconds` is how long this scrape took."""

    scrapes: int
    failures: int
    seconds: float


def _own(name: str, kind: Kind, help: str, value: Callable[[Own], float]) -> Family:
    def points(own: Own) -> Points:
        return [("", value(own))]

    return Family(f"xen_exporter_{name}", kind, help, points)


ABOUT = Family("xen_info", "gauge", "The hypervisor; always 1.", lambda facts: [(facts.about, 1)])
OWN = (
    Family(
        "xen_exporter_info", "gauge", "The exporter; always 1.",
        lambda own: [(label("version", pyxc.__version__), 1)],
    ),
    _own("scrapes_total", "counter", "Scrapes since the start.", lambda own: own.scrapes),
    _own(
        "scrape_failures_total", "counter", "Scrapes that failed because Xen could not be queried.",
        lambda own: own.failures,
    ),
    _own("scrape_seconds", "gauge", "How long this scrape took.", lambda own: own.seconds),
    _own(
        "cpu_seconds_total", "counter", "Cpu time that the exporter has used.",
        lambda own: time.process_time(),
    ),
)  # fmt: skip
FAMILIES = (ABOUT, *HOST, *DOMAIN, *OWN)
"""All that an exporter knows; what a host does not have is not in a scrape."""


class Exporter:
    """Metrics of an open hypervisor. Scrapes wait for each other. Threads: safe to share.

    Open the hypervisor with `readonly=True`: nothing that is measured changes anything. A scrape for which
    Xen cannot be asked is counted, and has the exporter's own metrics alone. With `steal` it has runstates of
    vcpus, too.
    """

    def __init__(self, xen: Xen, steal: StealMeter | None = None) -> None:
        self._xen = xen
        self._steal = steal
        self._lock = threading.Lock()
        self._scrapes = 0
        self._failures = 0
        build = xen.build
        self._about = labels(version=xen.version, changeset=build.changeset, build_id=build.build_id or "")

    def render(self) -> str:
        """All metrics of this moment in Prometheus' text format (version 0.0.4)."""
        with self._lock:
            started = time.perf_counter()
            measured = self._measured()
            self._scrapes += 1
            own = Own(self._scrapes, self._failures, time.perf_counter() - started)
            return measured + written(OWN, own)

    def _measured(self) -> str:
        try:
            sample = self._xen.sample(full=True)
        except errors.Error:
            self._failures += 1
            return ""
        facts = _facts(sample, self._about)
        if self._steal is not None:
            runstates, lost = self._steal.totals({info.domid for info in sample.domains})
            facts = facts._replace(runstates=runstates, lost_records=lost)
        return written((ABOUT, *HOST, *DOMAIN), facts)


def _facts(sample: Sample, about: str) -> Facts:
    known = _domain_labels(sample)
    domains = [(known[info.domid], info) for info in sample.domains if info.domid in known]
    vcpus = [
        (f'{known[vcpu.domid]},vcpu="{vcpu.vcpu}"', vcpu) for vcpu in sample.vcpus if vcpu.domid in known
    ]
    return Facts(sample, about, known, domains, vcpus)


def _domain_labels(sample: Sample) -> dict[int, str]:
    """Name and UUID of each domain as labels, by id.

    A domain that is dying and its successor have the same, if it has one: then it is left out.
    """
    assert sample.details is not None, "a scrape takes full samples"
    found: dict[str, int] = {}
    for info in sorted(sample.domains, key=lambda info: (not info.dying, info.domid)):
        found[_identity(sample.details.domains[info.domid].name, info.handle)] = info.domid
    return {domid: text for text, domid in found.items()}


@lru_cache(_DOMAINS_MOST)
def _identity(name: str | None, handle: bytes) -> str:
    """They stay the same from scrape to scrape."""
    return labels(domain=readable(name) or "", uuid=UUID(bytes=handle))
