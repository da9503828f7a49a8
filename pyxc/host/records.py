# SPDX-License-Identifier: MIT
"""Records that describe a host and its hypervisor. None: not reported. Threads: safe to share."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.abi import sysctl
from pyxc.abi.page import PAGE_KB, pages_kb
from pyxc.call.records import Record


class Version(NamedTuple):
    """The version of Xen (xen_version, public/version.h).

    Example:

    >>> str(xen.version), xen.version.minor
    ('4.17.7', 17)
    """

    major: int
    minor: int
    extra: str

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{self.extra}"


class Build(NamedTuple):
    """Facts about its build (xen_version compile_info, changeset, build_id). `build_id` is hex digits.

    Example:

    >>> xen.build.compile_date
    'Wed Jul 29 13:37:29 UTC 2026'
    """

    compiler: str
    compile_by: str
    compile_domain: str
    compile_date: str
    changeset: str
    build_id: str | None


class PhysInfo(NamedTuple):
    """The host at one moment (sysctl physinfo, public/sysctl.h). Pages have 4096 bytes.

    Only Xen up to 3.1 reports `sockets_per_node`; there `nr_cpus` is computed from it.

    Example:

    >>> info = xen.physinfo()
    >>> info.nr_cpus, info.total_memory_kb, info.free_memory_kb
    (2, 2077024, 630592)
    """

    threads_per_core: int
    cores_per_socket: int
    nr_cpus: int
    max_cpu_id: int | None
    nr_nodes: int | None
    max_node_id: int | None
    cpu_khz: int
    capability_bits: int | None
    arch_capability_bits: int | None
    total_pages: int
    free_pages: int
    scrub_pages: int | None
    outstanding_pages: int | None
    max_mfn: int | None
    hw_cap: tuple[int, ...]
    sockets_per_node: int | None

    @property
    def free_memory_kb(self) -> int:
        return self.free_pages * PAGE_KB

    @property
    def total_memory_kb(self) -> int:
        return self.total_pages * PAGE_KB

    @property
    def scrub_memory_kb(self) -> int | None:
        """KiB that must be cleared before a domain can have them; None if not reported."""
        return pages_kb(self.scrub_pages)

    @property
    def outstanding_memory_kb(self) -> int | None:
        """KiB that domains have claimed and not yet received; None if not reported."""
        return pages_kb(self.outstanding_pages)


PHYSINFO = Record(
    PhysInfo, sysctl.PHYSINFO_STRUCT, capability_bits="capabilities", arch_capability_bits="arch_capabilities"
)


def counted(info: PhysInfo) -> PhysInfo:
    """With the number of cpus, for a hypervisor that reports that of sockets instead."""
    assert info.sockets_per_node is not None
    sockets = info.sockets_per_node * (info.nr_nodes or 1)
    return info._replace(nr_cpus=info.threads_per_core * info.cores_per_socket * sockets)


class CpuTopology(NamedTuple):
    """The core, socket and node of a physical cpu; None if not reported, and for an offline cpu.

    Example:

    >>> xen.topology()[1]
    CpuTopology(cpu=1, core=1, socket=0, node=0)
    """

    cpu: int
    core: int | None
    socket: int | None
    node: int | None


class NumaNode(NamedTuple):
    """A NUMA node (sysctl numainfo). `distances[n]` is the relative distance to node n, 10 to itself.

    None if not reported.

    Example:

    >>> xen.numa()
    [NumaNode(node=0, size_bytes=2147352576, free_bytes=645726208, distances=(10,))]
    """

    node: int
    size_bytes: int | None
    free_bytes: int | None
    distances: tuple[int | None, ...]


def text(raw: bytes) -> str:
    """A string of the hypervisor, up to the first NUL."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
