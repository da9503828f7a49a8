# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: the host and its hypervisor."""

from __future__ import annotations

import errno
from typing import Any, SupportsIndex

from pyxc._core import PAGE_SIZE
from pyxc.abi import sysctl, version
from pyxc.abi.sysctl import Capability
from pyxc.compat.xc import base as c
from pyxc.compat.xc.base import Handle, failed, raises_error
from pyxc.host.version import text

_GUESTS = (("hvm", Capability.HVM), ("pv", Capability.PV))
_DMA32_BITS = 32
_CONSOLE_PIECE = 16385
"""What the original reads of the console at once."""


@raises_error
class Host(Handle):
    """The host and its hypervisor."""

    def physinfo(self) -> dict[str, Any]:
        """Get what the host has.

        Returns: [dict]
         nr_nodes         [int]: NUMA nodes
         threads_per_core [int]
         cores_per_socket [int]
         nr_cpus          [int]: cpus that are online
         total_memory     [int]: KiB
         free_memory      [int]: KiB
         scrub_memory     [int]: KiB that are still to be cleared
         cpu_khz          [int]
         hw_caps          [str]: eight words of CPUID, as "%08x:%08x:..."
         virt_caps        [str]: "hvm pv hvm_directio pv_directio", those that it can do
        """
        info = self._open.physinfo()
        return {
            "nr_nodes": 1 if info.nr_nodes is None else info.nr_nodes,
            "threads_per_core": info.threads_per_core,
            "cores_per_socket": info.cores_per_socket,
            "nr_cpus": info.nr_cpus,
            "total_memory": info.total_memory_kb,
            "free_memory": info.free_memory_kb,
            "scrub_memory": info.scrub_memory_kb or 0,
            "cpu_khz": info.cpu_khz,
            "hw_caps": ":".join(f"{word:08x}" for word in info.hw_cap),
            "virt_caps": " ".join(self._virt_caps()),
        }

    def _virt_caps(self) -> list[str]:
        platform = self._open.platform
        guests = [name for name, flag in _GUESTS if flag in platform]
        return guests + [f"{name}_directio" for name in guests if Capability.DIRECTIO in platform]

    def getcpuinfo(self, max_cpus: SupportsIndex) -> list[dict[str, int]]:
        """Get how long each cpu had nothing to do.

         max_cpus [int]: of how many cpus at most

        Returns: [list of dicts]
         idletime [int]: nanoseconds since the host was booted
        """
        xen = self._open
        layout = sysctl.CPUINFO_STRUCT.at(xen.interface)
        count = min(c.integer(max_cpus), xen.nr_cpus)
        if count < 0:
            raise failed(errno.EINVAL)
        reply = xen.call(sysctl.GETCPUINFO, max_cpus=count, info=count * layout.size)
        data = reply.buffers.get("info", b"")[: reply.field("nr_cpus") * layout.size]
        return [{"idletime": idle} for (idle,) in layout.codec.iter_unpack(data)]

    def topologyinfo(self) -> dict[str, Any]:
        """Get where each cpu sits.

        Returns: [dict]; in the lists None is of a cpu that is offline, or that this Xen does not tell of
         max_cpu_index [int]:  the highest cpu's number
         cpu_to_core   [list]: the core of each cpu
         cpu_to_socket [list]: the socket of each cpu
         cpu_to_node   [list]: the NUMA node of each cpu
        """
        cpus = self._open.topology()
        return {
            "max_cpu_index": len(cpus) - 1,
            "cpu_to_core": [cpu.core for cpu in cpus],
            "cpu_to_socket": [cpu.socket for cpu in cpus],
            "cpu_to_node": [cpu.node for cpu in cpus],
        }

    def numainfo(self) -> dict[str, Any]:
        """Get the memory of each NUMA node.

        Returns: [dict]
         max_node_index    [int]:  the highest node's number
         node_memsize      [list]: MiB of each node
         node_memfree      [list]: MiB of each node that are free
         node_to_dma32_mem [list]: MiB of each node that are free and below 4 GiB
         node_to_node_dist [list of lists]: relative distance from node to node; None: not reported
        """
        nodes = self._open.numa()
        return {
            "max_node_index": len(nodes) - 1,
            "node_memsize": [(node.size_bytes or 0) >> 20 for node in nodes],
            "node_memfree": [(node.free_bytes or 0) >> 20 for node in nodes],
            "node_to_dma32_mem": [self._free_below_4_gib(node.node) >> 20 for node in nodes],
            "node_to_node_dist": [list(node.distances) for node in nodes],
        }

    def _free_below_4_gib(self, node: int) -> int:
        reply = self._open.call(sysctl.AVAILHEAP, max_bitwidth=_DMA32_BITS, node=node)
        return int(reply.field("avail_bytes"))

    def xeninfo(self) -> dict[str, Any]:
        """Get what the hypervisor says of itself.

        Returns: [dict]
         xen_major         [int]: 4 of 4.17.1
         xen_minor         [int]: 17 of 4.17.1
         xen_extra         [str]: ".1" of 4.17.1
         xen_caps          [str]: kinds of guests that it runs, as "xen-3.0-x86_64 hvm-3.0-x86_64"
         xen_pagesize      [int]: bytes
         platform_params   [str]: "virt_start=0xffff800000000000"
         xen_changeset     [str]
         xen_commandline   [str]: what it was booted with; "" before Xen 4.0
         cc_compiler       [str]
         cc_compile_by     [str]
         cc_compile_domain [str]
         cc_compile_date   [str]
        """
        xen = self._open
        told, build = xen.version, xen.build
        return {
            "xen_major": told.major,
            "xen_minor": told.minor,
            "xen_extra": told.extra,
            "xen_caps": text(xen.call(version.CAPABILITIES).field("capabilities")),
            "xen_pagesize": self._page_size(),
            "platform_params": f"virt_start=0x{xen.virt_start:x}",
            "xen_changeset": build.changeset,
            "xen_commandline": xen.commandline or "",
            "cc_compiler": build.compiler,
            "cc_compile_by": build.compile_by,
            "cc_compile_domain": build.compile_domain,
            "cc_compile_date": build.compile_date,
        }

    def _page_size(self) -> int:
        """Before Xen 3.1 it was not reported, and there was no other."""
        if not self._open.caller.supports(version.PAGESIZE):
            return PAGE_SIZE
        return self._open.call(version.PAGESIZE).result

    def buildid(self) -> str:
        """Get the number of the very binary that the hypervisor is.

        Returns: [str] in hexadecimal.
        """
        reply = self._open.call(version.BUILD_ID, len=PAGE_SIZE - 4)
        return bytes(reply.field("buf")[: reply.result]).hex()

    def readconsolering(
        self, clear: SupportsIndex = 0, index: SupportsIndex = 0, incremental: SupportsIndex = 0
    ) -> bytes:
        """Read the hypervisor's messages.

         clear       [int, 0]: 1: clear what was read, for all readers
         index       [int, 0]: with `incremental`: from where on
         incremental [int, 0]: 1: 16 KiB at most, from `index` on; 0, and with `clear`: everything

        Returns: [bytes] the messages.
        """
        clears, start, piecewise = c.integer(clear), c.unsigned(index), c.integer(incremental)
        console = self._open.console
        if clears:
            return console.clear()
        return console.read_from(start)[0][:_CONSOLE_PIECE] if piecewise else console.read()

    def send_debug_keys(self, keys: str) -> int:
        """Press debug keys; what they print is in the console ring. "h" lists them.

         keys [str]: the keys

        Returns: [int] 0.
        """
        pressed = c.text(keys)
        if pressed:
            self._open.debug_keys(pressed)
        return 0
