# SPDX-License-Identifier: MIT
"""Links whose nth step fails or is interrupted, and the state of a simulated host before and after."""

from __future__ import annotations

import ctypes
import errno
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyxc._core import PAGE_SIZE, Arena, ForeignMap, Pool
from pyxc.abi.operation import DOMCTL, SYSCTL
from pyxc.link import Link
from pyxc.link.wrapper import LinkWrapper
from pyxc.sim import Hypervisor
from pyxc.sim.model.domain import Domain, Vcpu
from pyxc.sim.model.frame_set import FrameSet
from pyxc.store.channel import Channel

WHOLE = os.environ.get("PYXC_FAULTS") == "all"
"""Whether everything is tried, as `make fuzz` does, or a sample."""


class Interrupted(KeyboardInterrupt):
    """A simulated Ctrl-C, distinct from that of a person."""


class Fault(NamedTuple):
    """What happens to a step: it fails with an errno, or Ctrl-C comes before or after it."""

    errno: int = 0
    before: bool = False

    def __str__(self) -> str:
        if self.errno:
            return errno.errorcode.get(self.errno, str(self.errno))
        return "Ctrl-C before" if self.before else "Ctrl-C after"


INTERRUPT, INTERRUPT_BEFORE = Fault(), Fault(before=True)

Kind = tuple[str | int, int]
"""What a step is: the number of a hypercall and its command, or a word, with the type of a request."""
MAP = ("map", 0)
REQUEST = "request"
_COMMAND_INSIDE = {DOMCTL.hypercall, SYSCTL.hypercall}


class Steps(LinkWrapper):
    """A link that counts steps: hypercalls, mappings, and requests to xenstored.

    `faults` has the faults by the numbers of their steps, counted since start(); `kinds` are those steps.
    """

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self.kinds: list[Kind] = []
        self.faults: dict[int, Fault] = {}
        self.forever: Fault | None = None
        """What befalls all steps from the first fault on."""
        self._struck = False
        self._pool = StarvedPool(inner.pool)

    @property
    def pool(self) -> Any:
        return self._pool

    @property
    def taken(self) -> int:
        """The number of steps since start()."""
        return len(self.kinds)

    def starve(self, number: int) -> None:
        """Let the allocation of the arena with this number, counted from now, fail."""
        self._pool.taken, self._pool.missing = 0, number

    @property
    def arenas(self) -> int:
        """The number of allocations, including failed ones, since starve()."""
        return self._pool.taken

    def start(self, faults: dict[int, Fault], forever: Fault | None = None) -> None:
        self.kinds, self.faults, self.forever, self._struck = [], faults, forever, False

    def stop(self) -> None:
        """No more faults; `kinds` stays."""
        self.faults, self.forever = {}, None

    def _next(self, kind: Kind) -> Fault | None:
        fault = self.faults.get(self.taken)
        self.kinds.append(kind)
        if fault is None and self._struck:
            fault = self.forever
        self._struck = self._struck or fault is not None
        if fault is not None and not fault.errno and fault.before:
            raise Interrupted
        return fault

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        fault = self._next((op, _command(a1) if op in _COMMAND_INSIDE else a1))
        if fault is not None and fault.errno:
            return -fault.errno
        result = super().hypercall(op, a1, a2, a3, a4, a5)
        _interrupt(fault)
        return result

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        fault = self._next(("dm_op", 0))
        if fault is not None and fault.errno:
            return -fault.errno, list(buffers)
        found = super().dm_op(domid, buffers)
        _interrupt(fault)
        return found

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        return self._mapped(lambda: super(Steps, self).map_frames(domid, frames, writable))

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        asked = (domid, kind, ident, first, count, writable)
        return self._mapped(lambda: super(Steps, self).map_resource(*asked))

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        return self._mapped(lambda: super(Steps, self).map_grants(domid, refs, writable))

    def _mapped(self, call: Callable[[], ForeignMap]) -> ForeignMap:
        fault = self._next(MAP)
        _fail(fault)
        mapped = call()
        try:
            _interrupt(fault)
        except BaseException:
            mapped.close()  # as the native core does, in which such an exception cannot arise
            raise
        return mapped

    def connect_store(self) -> Channel:
        return _Channel(super().connect_store(), self)


class StarvedPool:
    """Hypercall-safe memory, where one allocation fails: RLIMIT_MEMLOCK is reached."""

    def __init__(self, inner: Pool) -> None:
        self._inner = inner
        self.live, self.close = inner.live, inner.close
        self.taken = 0
        self.missing = -1

    def take(self, size: int) -> Arena:
        number, self.taken = self.taken, self.taken + 1
        if number == self.missing:
            raise MemoryError(f"cannot lock {size} bytes for a hypercall: RLIMIT_MEMLOCK is 65536 bytes")
        return self._inner.take(size)


class _Channel:
    """A connection to xenstored; each request is a step."""

    def __init__(self, inner: Channel, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps
        self.fileno, self.close, self.receive = inner.fileno, inner.close, inner.receive

    def send(self, data: bytes) -> int:
        fault = self._steps._next((REQUEST, int.from_bytes(data[:4], "little")))
        if fault is not None and fault.errno:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        count = self._inner.send(data)
        _interrupt(fault)
        return count


def _command(address: int) -> int:
    return int.from_bytes(ctypes.string_at(address, 4), "little")


def _fail(fault: Fault | None) -> None:
    if fault is not None and fault.errno:
        raise OSError(fault.errno, os.strerror(fault.errno))


def _interrupt(fault: Fault | None) -> None:
    if fault is not None and not fault.errno:
        raise Interrupted


# What a host is like.

_NOT_COMPARED = {
    Domain: {"vcpus", "highest_gfn", "paging_tables"},
    Vcpu: {"domain", "state", "times_ns", "_since", "pcpu"},
}
"""Time passes, and the highest frame that was ever there stays."""
_LARGE = 1000
_BLANK = bytes(PAGE_SIZE)


def state(host: Hypervisor) -> dict[str, Any]:
    """Everything that a program can observe, except time and the numbers of frames."""
    return {
        "domains": {domid: _plain(domain) for domid, domain in host.domains.items()},
        "vcpus": {(vcpu.domain.domid, vcpu.index): _plain(vcpu) for vcpu in host.vcpus()},
        "pages": {domid: len(host.machine.frames_of(domid)) for domid in host.domains},
        "contents": {domid: contents(host, domid) for domid in host.domains if domid},
        "pools": {pool_id: _plain(pool) for pool_id, pool in host.pools.items()},
        "store": {path: (node.value, node.permissions) for path, node in host.store.tree._nodes.items()},
        "devices": dict(host.pci),
        "tracing": {"on": host.trace_buffers.enabled},
        "livepatches": {patch.name: patch.state for patch in host.livepatches},
    }


def without_frames(found: dict[str, Any]) -> dict[str, Any]:
    """The same without frame numbers, which are also in page tables and registers."""
    domains = {
        domid: {**domain, "p2m": sorted(domain["p2m"]) if isinstance(domain["p2m"], dict) else None}
        for domid, domain in found["domains"].items()
    }
    vcpus = {name: {**vcpu, "context": None} for name, vcpu in found["vcpus"].items()}
    return {**found, "domains": domains, "vcpus": vcpus, "contents": None}


def contents(host: Hypervisor, domid: int) -> int:
    """A checksum of what was written into a domain's frames, in the domain's own order."""
    total = 0
    for run in host.machine.frames_of(domid).runs:
        for frame in _written(host.machine.memory.fd, run):
            page = host.machine.memory.read(frame, 0, PAGE_SIZE)
            total ^= zlib.crc32(page) if page != _BLANK else 0
    return total


def _written(fd: int, run: range) -> Iterator[int]:
    """The frames of a run that are not holes of a sparse file."""
    at, stop = run.start * PAGE_SIZE, run.stop * PAGE_SIZE
    while at < stop:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield from range(start // PAGE_SIZE, min(at, stop) // PAGE_SIZE)


def _plain(value: Any, depth: int = 0) -> Any:
    """As a value that can be compared."""
    if value is None or isinstance(value, int | str | bytes | range):
        return value
    if isinstance(value, Domain | Vcpu) and depth:
        return repr(value)
    if isinstance(value, dict):
        if len(value) > _LARGE:
            return value.copy()
        return {key: _plain(one, depth + 1) for key, one in value.items() if not callable(one)}
    if isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, FrameSet):
        return value.runs
    left_out = _NOT_COMPARED.get(type(value), set())
    return {key: _plain(one, depth + 1) for key, one in vars(value).items() if key not in left_out}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The differences of two states, as text."""
    found = []
    for key in one:
        if one[key] != other[key]:
            names = one[key].keys() | other[key].keys()
            found += [
                f"{key} {name}: {_difference(one[key].get(name), other[key].get(name))}"
                for name in sorted(names, key=str)
                if one[key].get(name) != other[key].get(name)
            ]
    return found


def _difference(one: Any, other: Any) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted((key for key in one.keys() | other.keys() if one.get(key) != other.get(key)), key=str)
        return ", ".join(f"{key} {one.get(key)!r:.60} -> {other.get(key)!r:.60}" for key in keys)
    return f"{one!r:.80} -> {other!r:.80}"


def files(directory: Path) -> dict[str, int]:
    """The files of a directory with their sizes."""
    return {entry.name: entry.stat().st_size for entry in directory.iterdir()}
