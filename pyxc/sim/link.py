# SPDX-License-Identifier: MIT
"""The link to a simulated hypervisor: what a client sees instead of the privcmd device."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterable

from pyxc._core import ForeignMap, Pool, fork_count
from pyxc.abi.domid import DOMID_SELF, DOMID_XEN
from pyxc.abi.memory import Resource
from pyxc.sim import grant_table
from pyxc.sim.access import ClientMemory, Refusal
from pyxc.sim.domain import Domain
from pyxc.sim.hypervisor import Holding, Hypervisor
from pyxc.sim.store import Store


class SimLink:
    """One client's link to a Hypervisor. Threads: may be used by many.

    `hypervisor` is the simulated host itself, `store` its view of xenstore.
    """

    byteorder = "little"
    kernel_bits = 64

    def __init__(self, hypervisor: Hypervisor, target: str) -> None:
        self.hypervisor = hypervisor
        self.target = target
        self.pool = Pool(locked=False)
        self._open = True
        self._forks = fork_count()

    @property
    def store(self) -> Store:
        return self.hypervisor.store

    @property
    def maps(self) -> list[ForeignMap]:
        return [mapped for mapped, holding in self.hypervisor.open_maps() if holding.client is self]

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        self._check()
        return self.hypervisor.hypercall(ClientMemory(self.pool.live()), op, (a1, a2, a3, a4, a5))

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        """Each frame that cannot be mapped gets its errno: ESRCH (no such domain, or oneself), EINVAL, EPERM."""
        self._check()
        if not frames:
            raise _failure(errno.EINVAL)
        with self.hypervisor.lock:
            self.hypervisor.reap()
            return self._map(domid, *self._resolve(domid, frames, writable), writable)

    def _resolve(self, domid: int, frames: Iterable[int], writable: bool) -> tuple[list[int], list[int]]:
        """Machine frame and errno for each frame."""
        if domid == DOMID_XEN:
            shared = set(self.hypervisor.machine.m2p_frames)
            refused = errno.EBUSY if writable else 0
            found = [(frame, refused if frame in shared else errno.EINVAL) for frame in frames]
        else:
            domain = self._foreign(domid)
            found = [self._frame_of(domain, frame, writable) for frame in frames]
        return [mfn if not number else 0 for mfn, number in found], [number for _, number in found]

    def _foreign(self, domid: int) -> Domain | None:
        """The domain whose memory is meant; nobody may name himself by his own id."""
        own = self.hypervisor.current.domain
        if domid == DOMID_SELF:
            return own
        domain = self.hypervisor.domains.get(domid)
        return None if domain is own else domain

    def _frame_of(self, domain: Domain | None, frame: int, writable: bool) -> tuple[int, int]:
        if domain is None:
            return 0, errno.ESRCH
        machine = self.hypervisor.machine
        mfn = domain.machine_frame(frame)
        if not machine.owned_by(mfn, domain.domid):
            return 0, errno.EINVAL
        if writable and mfn in machine.types:
            return 0, errno.EBUSY
        return mfn, 0

    def _map(self, domid: int, frames: list[int], errors: list[int], writable: bool) -> ForeignMap:
        mapped = self.hypervisor.machine.memory.map_frames(domid, array("Q", frames), writable, errors)
        kept = frozenset(mfn for mfn, number in zip(frames, errors) if not number)
        self.hypervisor.hold(mapped, Holding(self, domid, kept))
        return mapped

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        """Raises OSError as the kernel does: ESRCH, EPERM (oneself), EINVAL, EOPNOTSUPP (a kind unknown here)."""
        self._check()
        with self.hypervisor.lock:
            domain = self._owner(domid)
            if kind != Resource.GRANT_TABLE:
                raise _failure(errno.EOPNOTSUPP)
            try:
                frames = grant_table.acquire(self.hypervisor, domain, ident, first, count)
            except Refusal as refusal:
                raise _failure(refusal.errno) from refusal
            return self._map(domid, frames, [0] * count, writable)

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        """Frames of a resource; before Xen 4.15 the hypervisor told only how many it maps at once (32)."""
        self._check()
        if not self.hypervisor.profile.since(4, 15):
            return 32
        domain = self._owner(domid)
        size = grant_table.resource_frames(domain, ident) if kind == Resource.GRANT_TABLE else 0
        if not size:
            raise _failure(errno.EINVAL)
        return size

    def _owner(self, domid: int) -> Domain:
        domain = self.hypervisor.domains.get(domid)
        if domain is self.hypervisor.current.domain or domid == DOMID_SELF:
            raise _failure(errno.EPERM)
        if domain is None:
            raise _failure(errno.ESRCH)
        return domain

    def close(self) -> None:
        """Unmap everything; BufferError when a memoryview still holds a mapping."""
        held = [mapped for mapped in self.maps if mapped.exports]
        if held:
            raise BufferError(f"{len(held)} mapping(s) are held by memoryviews: {held[0]!r}")
        for mapped in self.maps:
            mapped.close()
        self._open = False
        self.pool.close()

    def _check(self) -> None:
        if not self._open:
            raise ValueError("this link is closed")
        if fork_count() != self._forks:
            raise RuntimeError("this link was opened before a fork: open another one in the child")

    def __repr__(self) -> str:
        return f"<SimLink {self.target}>"


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))
