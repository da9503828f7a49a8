# SPDX-License-Identifier: MIT
"""Simulated hosts for tests, with access to their true state, and links that fail or lie on demand."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

import pyxc
from pyxc._core import ForeignMap
from pyxc.abi.arch import x86
from pyxc.abi.layout import Interface
from pyxc.abi.operation import Operation
from pyxc.compat.xc import xc
from pyxc.link.faults import FaultLink
from pyxc.sim import Hypervisor, named

RELEASES = ("3.1", "3.4", "4.1", "4.4", "4.7", "4.10", "4.14", "4.17", "4.20", "4.22")


class _Lie(NamedTuple):
    result: int | None
    fields: dict[str, Any]


class HostLink(FaultLink):
    """A link to a simulated host that can fail, falsify replies, and let a guest act at each mapping.

    It counts hypercalls, and records the sizes of the arenas that exist during them.
    """

    def __init__(self, hypervisor: Hypervisor, interface: Interface, target: str) -> None:
        super().__init__(hypervisor.connect(target))
        self._interface = interface
        self._lies: dict[Operation, _Lie] = {}
        self.guest_acts: Callable[[], None] | None = None
        self.hypercalls = 0
        self.largest_arena = 0

    def lie(self, operation: Operation, result: int | None = None, **fields: Any) -> None:
        """From now on falsify this operation's result, or some fields of its reply."""
        self._lies[operation] = _Lie(result, fields)

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        self.hypercalls += 1
        self.largest_arena = max([self.largest_arena, *(size for _, size in self.pool.live())])
        result = super().hypercall(op, a1, a2, a3, a4, a5)
        for operation, lie in self._lies.items():
            family = operation.family
            if family.hypercall == op and operation.command == self._command(op, a1):
                self._write(operation, a2 if family.command_argument else a1, lie.fields)
                return result if lie.result is None else lie.result
        return result

    def _write(self, operation: Operation, address: int, fields: dict[str, Any]) -> None:
        layout = operation.at(self._interface)
        if fields:
            told = {**layout.unpack(ctypes.string_at(address, layout.size)), **fields}
            ctypes.memmove(address, layout.pack(told), layout.size)

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        if self.guest_acts is not None:
            self.guest_acts()
        return super().map_frames(domid, frames, writable)


class Host(NamedTuple):
    """An open host: `xen` is what a program uses, `truth` the hypervisor itself, `link` is between them."""

    xen: pyxc.Xen
    truth: Hypervisor
    link: HostLink

    def publish(self, domid: int, **fields: int) -> None:
        """Write fields of a PV guest's shared_info.arch."""
        layout = self.truth.layout(x86.SHARED_INFO_STRUCT)
        for name, value in fields.items():
            place = layout.offsets[f"arch.{name}"]
            data = value.to_bytes(layout.sizes[f"arch.{name}"], "little")
            self.truth.machine.memory.write(self.truth.domains[domid].shared_info, place, data)

    def published(self, domid: int, name: str) -> int:
        """A field of shared_info.arch, as the guest wrote it."""
        layout = self.truth.layout(x86.SHARED_INFO_STRUCT)
        place, size = layout.offsets[f"arch.{name}"], layout.sizes[f"arch.{name}"]
        shared_info = self.truth.domains[domid].shared_info
        return int.from_bytes(self.truth.machine.memory.read(shared_info, place, size), "little")

    def owned(self, domid: int) -> set[int]:
        """The machine frames of a domain's memory."""
        machine = self.truth.machine
        return {mfn for mfn in machine.frames_of(domid) if mfn not in machine.special}

    def m2p(self, mfn: int) -> int:
        """The pfn of a machine frame, from the hypervisor's table."""
        machine = self.truth.machine
        return machine.word(machine.m2p_frames[mfn // 512], mfn % 512)


_PAGE = 4096
FOREIGN = b"of another tenant"


class Swap:
    """At the nth call, the domain is destroyed, and another one gets its id, with FOREIGN in its memory.

    As HostLink.guest_acts it is called at each mapping.
    """

    def __init__(self, truth: Hypervisor, domid: int, at: int = 1) -> None:
        self._truth = truth
        self._domid = domid
        self._left = at
        self._created: object = None

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            with self._truth.lock:
                self._truth.kill(self._truth.domains[self._domid])
                self._create()
                self._created = self._state()

    def _create(self) -> None:
        other = pyxc.connect(self._truth.connect()).domains.create(hvm=True, hap=True, domid=self._domid)
        other.set_max_memory(256 << 10)
        other.memory.set_paging_pool(4 << 10)
        other.memory.populate(range(0, 0x8000, 512), order=9)
        pages = range(0, 0x8000, 128)
        with other.memory.map(pages, writable=True) as mapped, memoryview(mapped) as view:
            view[:] = FOREIGN.ljust(_PAGE) * len(pages)

    def left_alone(self) -> bool:
        """Whether there is another domain, and it is as it was created."""
        return self._created == self._state()

    def _state(self) -> object:
        other, nodes = self._truth.domains[self._domid], pyxc.connect(self._truth.connect()).store
        name = nodes.read(f"/local/domain/{self._domid}/name")
        return other, other.pauses, other.shutdown_code, other.dirty is None, name


def start(
    release: str = "4.17", *, with_guests: bool = True, with_store: bool = True, **options: Any
) -> Host:
    """Boot a host, by its release or its target, and open it with options of pyxc.connect()."""
    target = release if release.startswith("sim:") else f"sim:xen-{release}"
    truth = Hypervisor(named(target), with_guests, with_store)
    link = HostLink(truth, truth.interface, target)
    return Host(pyxc.connect(link, **options), truth, link)


Boot = Callable[..., Host]
"""What start() is; the fixture `boot` is one that also checks each host in the end."""

Bind = Callable[..., xc]
"""Opens xen.lowlevel.xc on a freshly booted host; see the fixture `bind`."""


def truth_of(binding: xc) -> Hypervisor:
    """The simulated host that a binding has opened."""
    link: Any = binding._open.link
    found: Hypervisor = link.hypervisor
    return found
