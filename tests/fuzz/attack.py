# SPDX-License-Identifier: MIT
"""Hostile hypercalls to a simulated host: arbitrary structures, and the invariants after each.

A client of the simulator sends bytes, as a program on a real Xen does. Whatever they are, the answer is a
result or one of Xen's errors, it does not take long, and the host stays one that honest clients understand.
"""

from __future__ import annotations

import itertools
import random
import resource
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pyxc
from pyxc import errors, sim
from pyxc.abi import registry
from pyxc.abi.domid import DOMID_IO, DOMID_SELF, DOMID_XEN
from pyxc.abi.layout import Layout, NotInInterface
from pyxc.abi.multicall import ENTRY_STRUCT
from pyxc.abi.operation import DM_OP, MEMORY_OP, MULTICALL, Family, Operation
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.frame_set import FrameSet
from pyxc.sim.model.machine import GUEST_FRAMES, MACHINE_FRAMES
from pyxc.sim.ops.call import REGISTER

TARGETS = tuple(sim.PROFILES)
PATIENCE_S = 10.0
"""Of processor time for one call. Even those that have a lot to do take some tenths of a second."""
GROWTH_KB = 65 << 10
"""By how much the process may grow in one call."""
_ARENA = 1 << 16
_STRUCTURE, _DATA, _BUFFERS, _ENTRIES = 0, 0x2000, 0x3000, 0x4000
"""Places in the arena: of the structure, what it points to, the buffers of a dm_op, and a multicall."""
_MOST_DOMAINS = 24
_IDS = ("domid", "dom", "domain", "domain_id", "remote_dom")
_EDGES = (
    *range(17), 31, 32, 63, 64, 127, 128, 255, 256, 1023, 1024, 4095, 4096, 0x7FEF, DOMID_SELF, DOMID_IO,
    DOMID_XEN, 0x7FF4, 0x7FF5, 0xFFFF, 0x10000, 1 << 20, 1 << 24, (1 << 28) - 1, 1 << 28, 1 << 30,
    (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 52) - 1, 1 << 52, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 4096, (1 << 64) - 2, (1 << 64) - 1,
)  # fmt: skip


class Choices:
    """Numbers made from bytes; zeros after their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        self._at += size
        return data.ljust(size, b"\0")

    def below(self, count: int) -> int:
        """A number below 65536."""
        return int.from_bytes(self.take(1 if count <= 256 else 2), "little") % count

    def one(self, choices: Any) -> Any:
        return choices[self.below(len(choices))]

    def number(self, size: int) -> int:
        """Of so many bytes: small, an edge, or any."""
        kind = self.below(8)
        if kind < 3:
            return self.below(8)
        value = self.one(_EDGES) if kind < 6 else int.from_bytes(self.take(size), "little")
        return value & ((1 << 8 * size) - 1)


class Attack:
    """One client of one host, controlled by bytes."""

    def __init__(self, target: str, choices: Choices) -> None:
        self.host = sim.Hypervisor(sim.named(target))
        self._choices = choices
        self._link = self.host.connect(target)
        self._arena = self._link.pool.take(_ARENA)
        self._order = self.host.interface.byteorder
        self._operations = list(_operations(self.host))
        self._mapped: list[Any] = []

    def run(self) -> None:
        """Everything that the bytes encode. AssertionError if an invariant is broken."""
        try:
            while self._choices and len(self.host.domains) < _MOST_DOMAINS:
                if self._choices.below(16) == 0:
                    self._map()
                else:
                    self._call()
        finally:
            for mapped in self._mapped:
                mapped.close()
            self._arena.release()
            self._link.close()
        check(self.host)
        look_around(self.host)

    def _map(self) -> None:
        """Map some frames of a domain, or unmap those that are mapped: a dying domain waits for that."""
        if self._mapped and self._choices.below(2):
            self._mapped.pop().close()
        elif len(self._mapped) < 4:
            domid = self._choices.one([*self.host.domains, DOMID_SELF, DOMID_XEN])
            domain = self.host.domains.get(domid)
            frames = sorted(domain.p2m)[:64] if domain and domain.hvm else []
            frames = frames or [mfn for run in self.host.machine.frames_of(domid).runs for mfn in run[:32]]
            wanted = [self._choices.one(frames) for _ in range(3)] if frames else [self._choices.number(8)]
            with suppress(OSError):
                found = self._link.map_frames(domid, array("Q", wanted), bool(self._choices.below(2)))
                self._mapped.append(found)
        check(self.host)

    def _call(self) -> None:
        """One hypercall, mostly of an existing operation, sometimes through a multicall."""
        kind = self._choices.below(16)
        if kind == 0:
            number = self._choices.one((*range(64), self._choices.number(8)))
            arguments = tuple(self._choices.one((self._place(), self._choices.number(8))) for _ in range(5))
        else:
            operation, layout = self._choices.one(self._operations)
            number, arguments = operation.family.hypercall, self._prepared(operation, layout)
        if kind == 1:
            number, arguments = self._in_multicall(number, arguments)
        self._issue(number, arguments)

    def _issue(self, number: int, arguments: tuple[int, ...]) -> None:
        started, before = time.thread_time(), _peak_kb()
        result = self._link.hypercall(number, *arguments)
        spent, grown = time.thread_time() - started, _peak_kb() - before
        what = f"{number}{tuple(map(hex, arguments))} {bytes(self._arena.view[:160]).hex()}"
        assert isinstance(result, int), what
        assert spent < PATIENCE_S, f"{spent:.1f} s for {what}"
        assert grown < GROWTH_KB, f"{grown} KiB for {what}"
        check(self.host)

    def _place(self) -> int:
        return self._arena.address + self._choices.one((_STRUCTURE, _DATA, _BUFFERS, _ARENA - 8, _ARENA))

    def _prepared(self, operation: Operation, layout: Layout | None) -> tuple[int, ...]:
        """Lay out the structure of an operation and its buffers; returns the hypercall's arguments."""
        family, address = operation.family, self._arena.address + _STRUCTURE
        self._arena.view[_DATA : _DATA + 512] = self._contents()
        body = self._structure(operation, layout) if layout else b""
        self._arena.view[_STRUCTURE : _STRUCTURE + len(body)] = body
        if family is DM_OP:
            return self._in_buffers(len(body))
        if not family.envelope and not family.command_argument:
            words = (body[at : at + 8] for at in range(0, len(body), 8))
            return tuple(int.from_bytes(word, self._order) for word in words)
        if not family.command_argument:
            return address, 0, 0, 0, 0
        command = operation.command
        if family is MEMORY_OP and self._choices.below(8) == 0:
            command |= self._choices.number(4) << 6
        rest = family.extra or (self._choices.one((1, self._choices.number(4))),)
        if family.by_value:
            rest = tuple(self._choices.one((self._place(), self._choices.number(8))) for _ in range(4))
            return command, *rest
        return command, address if layout else 0, *rest, 0, 0

    def _contents(self) -> bytes:
        """What buffers hold: nothing, some numbers, or any bytes."""
        kind = self._choices.below(4)
        if kind == 0:
            return bytes(512)
        if kind == 1:
            return self._choices.take(64) * 8
        number = self._sensible if kind == 2 else lambda: self._choices.number(8)
        words = [number().to_bytes(8, self._order) for _ in range(4)]
        return b"".join(words) * 16

    def _structure(self, operation: Operation, layout: Layout) -> bytes:
        body = bytearray(layout.size)
        for name, (offset, _, length) in layout.places.items():
            unit = layout.sizes[name] // length
            for index in range(min(length, 8)):
                value = self._field(operation, layout, name, unit)
                place = offset + index * unit
                body[place : place + unit] = value.to_bytes(unit, self._order)
        return bytes(body)

    def _field(self, operation: Operation, layout: Layout, name: str, unit: int) -> int:
        """A value: the envelope is correct, and ids are mostly those of existing domains."""
        fixed = {**operation.fixed, **_envelope(self.host, operation)}
        if name in fixed and self._choices.below(64):
            return int(fixed[name]) & ((1 << 8 * unit) - 1)
        if name in _IDS and self._choices.below(8):
            return int(self._choices.one((*self.host.domains, DOMID_SELF)))
        if name in layout.handles and self._choices.below(8):
            return self._place()
        if self._choices.below(2):
            return self._sensible() & ((1 << 8 * unit) - 1)
        return self._choices.number(unit) if self._choices.below(4) else 0

    def _sensible(self) -> int:
        """A number that means something on this host: a size or count, a frame, a port, a device."""
        domain = self.host.domains[self._choices.one([*self.host.domains])]
        runs = self.host.machine.frames_of(domain.domid).runs[:8]
        gfns = list(itertools.islice(domain.p2m, 8))
        numbers = (
            *range(8), 8, 16, 64, 128, 512, 1 << 18, *(run[0] for run in runs), *(run[-1] for run in runs),
            *gfns, domain.highest_gfn, domain.max_pages, domain.max_pages * 4, domain.shared_info,
            *domain.ports.opened()[:8], *self.host.pci, *(device << 8 for device in self.host.pci),
        )  # fmt: skip
        return int(self._choices.one(numbers))

    def _in_buffers(self, size: int) -> tuple[int, ...]:
        """A dm_op: its structure is the first of some buffers."""
        sizes = [self._choices.one((size, 0, 4096, self._choices.number(8))), self._choices.number(8)]
        places = [self._arena.address + _STRUCTURE, self._place()]
        words = [word for pair in zip(places, sizes) for word in pair]
        self._arena.view[_BUFFERS : _BUFFERS + 32] = b"".join(word.to_bytes(8, self._order) for word in words)
        count = self._choices.one((1, 2, 0, self._choices.number(4)))
        return self._choices.one([*self.host.domains]), count, self._arena.address + _BUFFERS, 0, 0

    def _in_multicall(self, number: int, arguments: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        entry = ENTRY_STRUCT.at(self.host.interface)
        twice = [
            entry.pack({"op": op, "args": (*arguments, *(0,) * (6 - len(arguments)))})
            for op in (number, self._choices.one((number, MULTICALL, self._choices.number(8))))
        ]
        data = b"".join(twice)
        self._arena.view[_ENTRIES : _ENTRIES + len(data)] = data
        count = self._choices.one((1, 2, self._choices.number(8)))
        return MULTICALL, (self._arena.address + _ENTRIES, count, 0, 0, 0)


def _peak_kb() -> int:
    """The most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _operations(host: sim.Hypervisor) -> Iterator[tuple[Operation, Layout | None]]:
    """All operations of this release: those that the simulator implements, and the others."""
    families = {entry.operation.family for entry in REGISTER.values()}
    for family in sorted(families, key=lambda family: family.name):
        for operation in registry.of_family(family).values():
            with suppress(NotInInterface):
                layout = operation.at(host.interface)
                yield operation, layout if layout.size else None


def _envelope(host: sim.Hypervisor, operation: Operation) -> dict[str, int]:
    family: Family = operation.family
    if family.command_argument or not family.envelope:
        return {}
    version = family.interface or host.interface.number(family.name) or 0
    return {str(family.envelope[0].name): operation.command, "interface_version": version}


# What holds on every host at any time.


def check(host: sim.Hypervisor) -> None:
    """The invariants of a host. AssertionError names the one that does not hold."""
    assert 0 in host.domains and host.domains[0].live_vcpus, "dom0 is gone"
    _check_frames(host)
    for domid, domain in host.domains.items():
        assert domid == domain.domid
        _check_domain(host, domain)
    _check_cpus(host)
    _check_channels(host)
    assert all(owner in (*host.domains, 0x7FF1) for owner in host.pci.values()), "a device belongs to nobody"
    assert 0 <= host.claimed_pages <= host.machine.heap.free, "more is claimed than there is"


def _check_frames(host: sim.Hypervisor) -> None:
    """Each frame is free or has one owner, who exists."""
    machine = host.machine
    owners = {domid: machine.frames_of(domid) for domid in machine.owners()}
    for domid, owned in owners.items():
        assert not owned or domid in host.domains or domid == DOMID_XEN, f"frames of {domid}, who is gone"
    everywhere = FrameSet(*machine.heap.runs)
    for owned in owners.values():
        for run in owned.runs:
            everywhere.add(run)
    assert len(everywhere) == machine.heap.free + sum(map(len, owners.values())), "a frame is there twice"
    assert not everywhere or max(run.stop for run in everywhere.runs) <= machine.frames
    assert len(everywhere) == machine.frames - machine.m2p_frames.start, "a frame is lost"
    used = FrameSet(*itertools.chain.from_iterable(owned.runs for owned in owners.values()))
    marked = itertools.chain(machine.special, machine.types)
    assert all(mfn in used for mfn in marked), "a free frame is special"


def _check_domain(host: sim.Hypervisor, domain: Domain) -> None:
    owned = host.machine.frames_of(domain.domid)
    special = [mfn for mfn in host.machine.special if mfn in owned]
    placed = set(domain.p2m.values())
    kept = placed.union(domain.pod_cache)
    irqs = domain.hardware.pirqs.values()
    gfns = [*domain.p2m.gfns.runs, *domain.pod_gfns.runs, *(run for run, _ in domain.mmio.runs())]
    mmio = [range(mfn, mfn + len(run)) for run, mfn in domain.mmio.runs()]
    holds = {
        "counts its pages": domain.tot_pages == len(owned) - len(special),
        "has each frame at one place": len(placed) == len(domain.p2m),
        "keeps frames that are not in use": len(kept) == len(placed) + len(domain.pod_cache),
        "owns its memory": not kept or kept.issubset(itertools.chain.from_iterable(owned.runs)),
        "has no gfn beyond the last": _ends_below(GUEST_FRAMES, gfns),
        "knows its highest gfn": 0 <= domain.highest_gfn < GUEST_FRAMES,
        "maps what the processor can address": _ends_below(MACHINE_FRAMES, mmio),
        "has memory, or will have some": not any(map(domain.p2m.gfns.meets, domain.pod_gfns.runs)),
        "knows where its frames are": len(domain.p2m.gfns) == len(domain.p2m),
        "has room for its tables": len(domain.paging_tables) <= domain.paging_pages,
        "counts claims and pauses": domain.outstanding_pages >= 0 <= domain.pauses,
        "has its grant table": all(mfn in owned for mfn in domain.grant_frames),
        "has a grant table within limits": len(domain.grant_frames) <= max(domain.max_grant_frames, 4),
        "has a target that is there": domain.target in (None, *host.domains.values()),
        "has an interrupt once": len(set(irqs)) == len(irqs),
    }
    only_while_alive = {"owns its memory", "has its grant table", "has room for its tables"}
    for what, true in holds.items():
        assert true or (domain.dying and what in only_while_alive), f"not true of {domain}: it {what}"


def _ends_below(limit: int, runs: Iterable[range]) -> bool:
    return all(run.start >= 0 and run.stop <= limit for run in runs)


def _check_cpus(host: sim.Hypervisor) -> None:
    pools = host.pools.values()
    assert sum(pool.cpus.bit_count() for pool in pools) == sum(pool.cpus for pool in pools).bit_count()
    running = [vcpu.pcpu for vcpu in host.vcpus() if vcpu.running]
    assert len(set(running)) == len(running), "a cpu runs two vcpus"
    for domain in host.domains.values():
        assert domain.pool_id in host.pools, f"{domain} is in no pool"
    for vcpu in host.vcpus():
        assert vcpu.hard, f"{vcpu} may run nowhere"
        assert 0 <= vcpu.pcpu < host.pcpus


def _check_channels(host: sim.Hypervisor) -> None:
    """Both ends of a channel know each other."""
    for domid, domain in host.domains.items():
        for number in domain.ports.opened():
            port = domain.ports[number]
            if port.port and port.domid in host.domains:
                other = host.domains[port.domid].ports[port.port]
                assert (other.domid, other.port) == (domid, number), f"port {number} of {domain}"


QUESTIONS: tuple[Callable[[pyxc.Domain], object], ...] = (
    lambda domain: domain.info(),
    lambda domain: domain.vcpus.infos(),
    lambda domain: domain.vcpu(0).affinity(),
    lambda domain: domain.vcpu(0).context(),
    lambda domain: domain.tsc_info(),
    lambda domain: domain.vnuma(),
    lambda domain: domain.node_affinity(),
    lambda domain: domain.scheduling(),
    lambda domain: domain.hvm_params.all(),
    lambda domain: domain.hvm_context.read(),
    lambda domain: domain.grants.info(),
    lambda domain: domain.channels.ports(),
    lambda domain: domain.memory.maximum_gpfn(),
    lambda domain: domain.memory.pod_target(),
    lambda domain: domain.memory.paging_pool_kb(),
    lambda domain: domain.guest_bits(),
)


def look_around(host: sim.Hypervisor) -> None:
    """What an honest client asks after the attack; it gets answers, or documented errors."""
    link = host.connect()
    with pyxc.connect(link, names=False) as xen:
        for ask in (xen.domains.infos, xen.vcpus, xen.physinfo, xen.console.read, xen.affinities):
            ask()
        with suppress(errors.Error):
            xen.pools.infos()
        for domain in list(xen.domains.values()):
            for question in QUESTIONS:
                with suppress(errors.Error, OSError):
                    question(domain)


def attack(data: bytes) -> None:
    """The first byte chooses the host."""
    choices = Choices(data)
    Attack(choices.one(TARGETS), choices).run()


def samples(size: int = 1500) -> list[bytes]:
    """An attack on each host, of some dozens of calls."""
    return [bytes([place]) + random.Random(place).randbytes(size) for place in range(len(TARGETS))]
