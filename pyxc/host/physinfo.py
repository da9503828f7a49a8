# SPDX-License-Identifier: MIT
"""The cpus and the memory of a host (sysctl physinfo). None: not reported. Threads: safe to share."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.abi import sysctl
from pyxc.abi.page import PAGE_KB, pages_kb
from pyxc.call.records import Record


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

    def _repr_html_(self) -> str:
        from pyxc.call import notebook

        return notebook.of_record(self)


PHYSINFO = Record(
    PhysInfo, sysctl.PHYSINFO_STRUCT, capability_bits="capabilities", arch_capability_bits="arch_capabilities"
)


def counted(info: PhysInfo) -> PhysInfo:
    """With the number of cpus, for a hypervisor that reports that of sockets instead."""
    assert info.sockets_per_node is not None
    sockets = info.sockets_per_node * (info.nr_nodes or 1)
    return info._replace(nr_cpus=info.threads_per_core * info.cores_per_socket * sockets)
