# SPDX-License-Identifier: MIT
"""The link to a simulated hypervisor: what a client sees instead of the privcmd device."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from pyxc._core import PAGE_SIZE, ForeignMap, Pool, fork_count
from pyxc.abi.domid import DOMID_SELF, DOMID_XEN
from pyxc.abi.memory import Resource
from pyxc.abi.operation import DM_OP
from pyxc.errors import StoreError
from pyxc.link import Direct
from pyxc.link.doors import Doors
from pyxc.link.exchange import exchange_buffers
from pyxc.sim.event_device import SimEvtchn
from pyxc.sim.model import grant_tables, grants, lifecycle
from pyxc.sim.model.access import ClientMemory, Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.holdings import Holding, Lease
from pyxc.sim.model.host import Host
from pyxc.sim.xenstored import Xenstored
from pyxc.sim.xenstored.channel import SimChannel

Issue = Callable[[ClientMemory, int, tuple[int, ...]], int]
"""Carries out a hypercall of a client: its result, or a negative errno."""

_INT_RANGE = 1 << 32
_DM_OP_BUFFERS = 16
"""How many the kernel passes on; each has a page at most."""
_LAST_FRAME = (1 << 40) - 2
"""The highest number that a page table entry can name, but for the one of all ones."""


class SimLink:
    """One client's link to a Hypervisor. Threads: safe to share; in a child after fork it refuses.

    `hypervisor` is the simulated host itself.
    """

    kernel_bits = 64
    gated = False
    direct: Direct | None = None

    def __init__(self, hypervisor: Host, issue: Issue, store: Xenstored | None, target: str) -> None:
        self.hypervisor = hypervisor
        self._issue = issue
        self._store = store
        self.target = target
        self.pool = Pool(locked=False)
        self._open = True
        self._doors = Doors()
        self._forks = fork_count()

    @property
    def byteorder(self) -> Literal["little", "big"]:
        return self.hypervisor.interface.byteorder

    @property
    def kernel_files(self) -> str | None:
        return self.hypervisor.kernel_files

    @property
    def maps(self) -> list[ForeignMap]:
        return [one for one in self.hypervisor.holdings.of_client(self) if not isinstance(one, Lease)]

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        """The result travels through an int, as it does through the kernel's ioctl."""
        self._check()
        if self._doors.only is not None:
            return -errno.EPERM
        return self._hypercall(op, a1, a2, a3, a4, a5)

    def hypercall_on(self, memory: ClientMemory, op: int, arguments: Sequence[int]) -> int:
        """A hypercall of a client whose memory is not this link's."""
        self._check()
        if self._doors.only is not None:
            return -errno.EPERM
        return self._issued(memory, op, *arguments)

    def _hypercall(self, op: int, *arguments: int) -> int:
        return self._issued(ClientMemory(self.pool.live()), op, *arguments)

    def _issued(self, memory: ClientMemory, op: int, *arguments: int) -> int:
        result = self._issue(memory, op, arguments)
        return (result + _INT_RANGE // 2) % _INT_RANGE - _INT_RANGE // 2

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        self._check()
        if self._doors.only not in (None, domid):
            return -errno.EPERM, list(buffers)
        if len(buffers) > _DM_OP_BUFFERS or any(len(content) > PAGE_SIZE for content in buffers):
            return -errno.E2BIG, list(buffers)
        if not buffers:
            return 0, []

        def issue(count: int, address: int) -> int:
            return self._hypercall(DM_OP.hypercall, domid, count, address)

        return exchange_buffers(self.pool, self.byteorder, buffers, issue)

    def restrict(self, domid: int) -> int:
        """-EINVAL when it is restricted to another domain."""
        self._check()
        if self._doors.only not in (None, domid):
            return -errno.EINVAL
        self._doors.restrict(domid)
        return 0

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        """Each frame that cannot be mapped gets its errno, as Xen gives it.

        ESRCH: no such domain, or oneself by one's own id. EINVAL: no such gfn, or no frame number at all.
        EPERM: a machine frame beyond memory. EBUSY: a frame of another domain, or writing to a page table.
        """
        self._check(domid)
        if not frames:
            raise _failure(errno.EINVAL)
        with self.hypervisor.lock:
            lifecycle.reap(self.hypervisor)
            return self._map(domid, *self._resolve(domid, frames, writable), writable)

    def _resolve(self, domid: int, frames: array[int], writable: bool) -> tuple[list[int], list[int]]:
        """Machine frame and errno for each frame."""
        owner = self._foreign(domid)
        domain = self.hypervisor.domains.get(domid)
        if owner is not None and domain and domain.lacks(frames):
            return [0] * len(frames), [errno.EINVAL] * len(frames)
        found = [self._frame_of(owner, frame, writable) for frame in frames]
        return [mfn for mfn, _ in found], [number for _, number in found]

    def _foreign(self, domid: int) -> int | None:
        """The id under which the frames are owned, None for an unknown domain and for one's own id."""
        own = self.hypervisor.current.domain.domid
        if domid == DOMID_SELF:
            return own
        foreign = domid == DOMID_XEN or (domid in self.hypervisor.domains and domid != own)
        return domid if foreign else None

    def _frame_of(self, owner: int | None, frame: int, writable: bool) -> tuple[int, int]:
        machine = self.hypervisor.machine
        if owner is None:
            return 0, errno.ESRCH
        domain = self.hypervisor.domains.get(owner)
        mfn = domain.machine_frame(frame) if domain else frame
        if not machine.valid(mfn):
            no_frame = mfn < 0 or mfn > _LAST_FRAME
            return 0, errno.EINVAL if no_frame else errno.EPERM
        of_xen = owner == DOMID_XEN and not self.hypervisor.trace_buffers.writable(mfn)
        locked = writable and (mfn in machine.types or of_xen)
        if locked or not machine.owned_by(mfn, owner):
            return 0, errno.EBUSY
        return mfn, 0

    def _map(
        self,
        domid: int,
        frames: list[int],
        errors: list[int],
        writable: bool,
        lent: Iterable[int] = (),
    ) -> ForeignMap:
        mapped = self.hypervisor.machine.memory.map_frames(domid, array("Q", frames), writable, errors)
        kept = frozenset(mfn for mfn, number in zip(frames, errors) if not number)
        self.hypervisor.holdings.add(mapped, Holding(self, domid, kept, tuple(lent)))
        return mapped

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        """OSError as the kernel: ESRCH, EPERM (oneself), EINVAL; up to 4.17 EOPNOTSUPP for other kinds.

        ENOSYS before 4.12, when there were none.
        """
        self._check_resources(domid)
        with self.hypervisor.lock:
            if not self.hypervisor.profile.since(4, 11):
                raise _failure(errno.ENOSYS)
            domain = self._owner(domid)
            if kind != Resource.GRANT_TABLE:
                raise _failure(errno.EINVAL if self.hypervisor.profile.since(4, 20) else errno.EOPNOTSUPP)
            try:
                frames = grant_tables.acquire(self.hypervisor, domain, ident, first, count)
            except Refusal as refusal:
                raise _failure(refusal.errno) from refusal
            return self._map(domid, frames, [0] * count, writable)

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        """Frames of a resource; before Xen 4.15 the hypervisor reports only how many it maps at once (32)."""
        self._check_resources(domid)
        if not self.hypervisor.profile.since(4, 15):
            return 32
        domain = self._owner(domid)
        size = grant_tables.resource_frames(domain, ident) if kind == Resource.GRANT_TABLE else 0
        if not size:
            raise _failure(errno.EINVAL)
        return size

    def _check_resources(self, domid: int) -> None:
        self._check(domid)
        if not self.hypervisor.profile.since(4, 12):
            raise _failure(errno.ENOSYS)

    def _owner(self, domid: int) -> Domain:
        domain = self.hypervisor.domains.get(domid)
        if domain is self.hypervisor.current.domain or domid == DOMID_SELF:
            raise _failure(errno.EPERM)
        if domain is None:
            raise _failure(errno.ESRCH)
        return domain

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        """OSError EINVAL, as the kernel, whatever is wrong with one of them."""
        self._check()
        self._doors.check_grants()
        xen = self.hypervisor
        with xen.lock:
            lifecycle.reap(xen)
            try:
                frames = [grants.frame_of(xen, xen.find(domid), ref, writable) for ref in refs]
            except Refusal as refusal:
                raise _failure(errno.EINVAL) from refusal
            return self._map(domid, frames, [0] * len(frames), writable)

    def lend_pages(self, domid: int, count: int, writable: bool = False) -> tuple[list[int], ForeignMap]:
        """OSError ENOSPC when no references are left."""
        self._check()
        self._doors.check_grants()
        xen = self.hypervisor
        with xen.lock:
            lifecycle.reap(xen)
            try:
                refs, frames = grants.lend(xen, domid, count, writable)
            except Refusal as refusal:
                raise _failure(refusal.errno) from refusal
            return refs, self._map(DOMID_SELF, frames, [0] * count, True, refs)

    def open_events(self) -> SimEvtchn:
        self._check()
        self._doors.check_events()
        device = SimEvtchn(self.hypervisor)
        self._doors.events(device)
        return device

    def connect_store(self) -> SimChannel:
        self._check()
        self._doors.check_store()
        if self._store is None:
            raise StoreError(errno.ENODEV, "no xenstored runs on this simulated host")
        channel = self._store.connect()
        self._doors.store(channel)
        return channel

    def clock_ns(self) -> int:
        return self.hypervisor.clock_ns

    def close(self) -> None:
        """Unmap everything; BufferError when a memoryview still holds a mapping."""
        held = [mapped for mapped in self.maps if mapped.exports]
        if held:
            raise BufferError(f"{len(held)} mapping(s) are held by memoryviews: {held[0]!r}")
        for mapped in self.maps:
            mapped.close()
        self._open = False
        self.pool.close()

    def _check(self, domid: int | None = None) -> None:
        """OSError (EPERM) for a domain that a restricted link may not reach."""
        if not self._open:
            raise ValueError("this link is closed")
        if fork_count() != self._forks:
            raise RuntimeError("this link was opened before a fork: open a new one in the child")
        if domid is not None and self._doors.only not in (None, domid):
            raise _failure(errno.EPERM)

    def __repr__(self) -> str:
        return f"<SimLink {self.target}>"


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))
