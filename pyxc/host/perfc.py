# SPDX-License-Identifier: MIT
"""The performance counters of a hypervisor that was built with them."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from pyxc import errors
from pyxc.abi import perfc
from pyxc.host.host import Host
from pyxc.host.version import text

_VALUE_BYTES = 4
_COUNTERS_MOST = 1 << 14
_VALUES_MOST = 1 << 22
"""Limit: more than any Xen has, with a value for each counter and cpu."""
_ROOM = 2
"""How often to retry with the needed buffer: Xen does not check its size, and cpus may come online."""


class Counter(NamedTuple):
    """A counter at one moment: one value for each online cpu, or for each element of an array.

    Values are 32 bits wide and wrap.

    Example:

    >>> xsm = pyxc.open("sim:xen-4.17-xsm")
    >>> counter = xsm.perfc.read()[0]
    >>> counter.name, counter.total
    ('exceptions', 0)
    """

    name: str
    values: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.values)


class PerformanceCounters:
    """All counters of the hypervisor, as in `xenperf` (sysctl perfc_op). Threads: safe to share.

    Unsupported in a hypervisor that was built without CONFIG_PERF_COUNTERS, like those of distributions.
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def read(self) -> list[Counter]:
        """Every counter with its values."""
        sizes = self._xen.call(perfc.PERFC_OP_QUERY)
        description = perfc.DESC_STRUCT.at(self._xen.interface)
        counters = sizes.reported("nr_counters", _COUNTERS_MOST)
        room = sizes.reported("nr_vals", _VALUES_MOST) * _ROOM
        reply = self._xen.call(
            perfc.PERFC_OP_QUERY, desc=counters * description.size, val=room * _VALUE_BYTES
        )
        if reply.field("nr_counters") != counters or reply.field("nr_vals") > room:
            raise errors.DecodeError("the performance counters have changed")
        words = iter(self._xen.words32(reply.buffer("val")))
        rows = description.codec.iter_unpack(reply.buffer("desc"))
        return [Counter(text(name), tuple(islice(words, count))) for name, count in rows]

    def reset(self) -> None:
        """Reset all counters but those that show a state (sysctl perfc_op reset)."""
        self._xen.call(perfc.PERFC_OP_RESET)

    def __repr__(self) -> str:
        return f"<PerformanceCounters of {self._xen.link.target}>"
