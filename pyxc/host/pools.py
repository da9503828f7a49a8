# SPDX-License-Identifier: MIT
"""Cpu pools: sets of physical cpus, each with its own scheduler and domains."""

from __future__ import annotations

import errno
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Protocol, SupportsIndex

from pyxc import arguments, errors, undoing
from pyxc.abi import bitmap, sysctl_cpupool
from pyxc.abi.domctl import Scheduler
from pyxc.abi.operation import Operation
from pyxc.abi.sysctl_cpupool import CPUPOOL_ANY
from pyxc.abi.sysctl_scheduler import TSLICE_MAX
from pyxc.call.reply import Reply
from pyxc.host import scheduling
from pyxc.host.host import Host
from pyxc.host.scheduling import CreditPoolParams, PoolParams
from pyxc.store import StoreClient

_LAST_ID: Final = CPUPOOL_ANY - 1
_BUSY_FOR_A_MOMENT = (errno.EAGAIN, errno.EADDRINUSE)
_NO_STORE = (errno.ENODEV, errno.ETIMEDOUT)
"""The error of a request without a running xenstored: the kernel's device accepts it, without a reply."""
_PATIENCE_S = 5.0
_POLL_S = 0.05
_CRASHING: Final = frozenset((4, minor) for minor in range(14, 23))


class Member(Protocol):
    """The part of a domain that a pool needs."""

    domid: int

    def look(self) -> None:
        """Check that it still has its id. DomainNotFound, DomainGone."""


class PoolInfo(NamedTuple):
    """A pool at one moment (sysctl cpupool_op info, public/sysctl.h). Threads: safe to share.

    `scheduler` is a plain int if pyxc has no name for it.

    Example:

    >>> xen.pools[0].info()
    PoolInfo(pool_id=0, scheduler=<Scheduler.CREDIT2: 6>, nr_domains=4, cpus=frozenset({0, 1}))
    """

    pool_id: int
    scheduler: Scheduler | int
    nr_domains: int
    cpus: frozenset[int]


class Pool:
    """One cpu pool, identified by its id, which a later pool may reuse. Threads: safe to share.

    Example:

    >>> pool = xen.pools[0]
    >>> pool.name, pool.info().nr_domains
    ('Pool-0', 4)
    """

    def __init__(self, xen: Host, pool_id: int) -> None:
        self.xen = xen
        self.pool_id = pool_id
        self._name: str | None = None

    @property
    def name(self) -> str | None:
        """Its name in xenstore, cached once it is known. Pool 0 is "Pool-0" by default.

        None if it has none, or, with a warning, if xenstore is not available at the moment.
        """
        if self._name is None:
            self._name = self.xen.names.pool_name(self.pool_id)
        return self._name

    def info(self) -> PoolInfo:
        """Its present state (sysctl cpupool_op info). HypercallError ENOENT if there is no such pool."""
        info = _next_info(self.xen, self.pool_id)
        if info is None or info.pool_id != self.pool_id:
            raise self.xen.caller.error(sysctl_cpupool.CPUPOOL_OP_INFO, errno.ENOENT, None)
        return info

    def scheduler(self) -> Scheduler | int:
        """Its scheduler (sysctl cpupool_op info)."""
        return self.info().scheduler

    def scheduling(self) -> PoolParams | None:
        """The parameters of its scheduler (sysctl scheduler_op getinfo).

        None for a scheduler without such parameters, and if this Xen does not report them: before 4.2 for
        credit, before 4.8 for credit2.
        """
        return scheduling.read(self.xen, self.pool_id, self.info().scheduler)

    def set_scheduling(
        self,
        *,
        tslice_ms: int | None = None,
        ratelimit_us: int | None = None,
        vcpu_migr_delay_us: int | None = None,
    ) -> None:
        """Change the parameters of its scheduler; None keeps a value (sysctl scheduler_op putinfo).

        credit has all three, credit2 has `ratelimit_us`. ValueError for a parameter that its scheduler does
        not have, and for values that Xen would refuse: see scheduling.CreditPoolParams.
        """
        scheduling.write(
            self.xen,
            self.pool_id,
            self.info().scheduler,
            tslice_ms=tslice_ms,
            ratelimit_us=ratelimit_us,
            vcpu_migr_delay_us=vcpu_migr_delay_us,
        )

    def add_cpu(self, cpu: int | None = None) -> None:
        """Add a free cpu, any if None (sysctl cpupool_op addcpu).

        OSError ENODEV: the cpu is not free, or none is.
        """
        self._call(sysctl_cpupool.CPUPOOL_OP_ADDCPU, cpu=self._cpu(cpu))

    def remove_cpu(self, cpu: int | None = None) -> None:
        """Remove a cpu, its last one if None (sysctl cpupool_op rmcpu); the cpu becomes free.

        Waits up to 5 s while a vcpu cannot leave the cpu. The removal of the last cpu of a credit pool takes
        one more time slice, without which Xen may hang. OSError EADDRNOTAVAIL: the cpu is not in this pool;
        EBUSY, for pool 0 EINVAL: the pool has domains and no other cpu. Unsupported, before any change, for
        an rtds pool of Xen 4.14 to 4.22, which may crash.
        """
        number = self._cpu(cpu)
        info = self.info()
        self._refuse_to_crash(info)
        if info.scheduler is Scheduler.CREDIT and len(info.cpus) == 1:
            with self._without_accounting():
                self._take(number)
        else:
            self._take(number)

    def _take(self, number: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._call(sysctl_cpupool.CPUPOOL_OP_RMCPU, cpu=number)
                return
            except errors.HypercallError as error:
                if error.errno not in _BUSY_FOR_A_MOMENT or time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_S)

    def _refuse_to_crash(self, info: PoolInfo) -> None:
        """Xen crashes if the cpu has the timer of an rtds pool, which cannot be detected from here.

        sr->cpupool is NULL in move_repl_timer(), xen/common/sched/rt.c; fixed in Xen 4.23.
        """
        if self.xen.interface.xen in _CRASHING and info.scheduler is Scheduler.RTDS:
            operation = sysctl_cpupool.CPUPOOL_OP_RMCPU.full_name
            hint = "Xen 4.14 to 4.22 can crash when a cpu leaves an rtds pool"
            raise errors.Unsupported(errno.EOPNOTSUPP, operation, hint=hint)

    @contextmanager
    def _without_accounting(self) -> Iterator[None]:
        """Prevent the accounting of the credit scheduler while a pool's last cpu is removed.

        If both happen at once, the host hangs: csched_deinit_pdata() waits for the end of csched_acct() while
        it holds the lock for which that waits (xen/common/sched/credit.c, up to at least Xen 4.22). The
        accounting runs once in a time slice: after one of the old length, the next has the longest length.
        """
        before = self.scheduling()
        if not isinstance(before, CreditPoolParams):
            yield
            return

        def restore() -> None:
            self.set_scheduling(tslice_ms=before.tslice_ms)

        with undoing.always(restore, f"pool {self.pool_id} keeps a time slice of {TSLICE_MAX} ms"):
            self.set_scheduling(tslice_ms=TSLICE_MAX)
            time.sleep(before.tslice_ms / 1000 + _POLL_S)
            yield

    def add_domain(self, domain: Member) -> None:
        """Move a domain here from its pool (sysctl cpupool_op movedomain).

        Afterwards its vcpus may run on all cpus of the pool, and have the default parameters of the pool's
        scheduler unless that is the same. OSError ENOENT: this pool has no cpu; EPERM: dom0 cannot be moved.
        """
        domain.look()
        self._call(sysctl_cpupool.CPUPOOL_OP_MOVEDOMAIN, domid=domain.domid)

    def rename(self, name: str) -> None:
        """Set its name in xenstore. ValueError if another pool has the name; StoreError."""
        _check_name(self.xen, name)
        self.info()
        self.xen.store.write(f"{_node(self.pool_id)}/name", name)
        self._name = name

    def destroy(self, *, free_cpus: bool = False) -> None:
        """Remove it, and its name (sysctl cpupool_op destroy). OSError EBUSY while it has cpus or domains.

        `free_cpus` removes its cpus first; if anything fails, it has them again. StoreError, before any
        change, if its name cannot be looked up: a later pool with this id would inherit the name. A handle
        that does not look up names (names=False) does not remove it.
        """
        has_name = self._has_name()
        cpus = self.info().cpus if free_cpus else frozenset()

        def restore() -> None:
            if cpus and self.exists():
                self._add_again(cpus)

        with undoing.on_failure(restore, f"pool {self.pool_id} has lost cpus"):
            for cpu in sorted(cpus):
                self.remove_cpu(cpu)
            if not has_name:
                self._call(sysctl_cpupool.CPUPOOL_OP_DESTROY)
                return
            with undoing.always(self._forget_name, f"{_node(self.pool_id)} stays in xenstore"):
                self._call(sysctl_cpupool.CPUPOOL_OP_DESTROY)

    def _add_again(self, cpus: frozenset[int]) -> None:
        """Those of some cpus that it has lost."""
        for cpu in sorted(cpus - self.info().cpus):
            self.add_cpu(cpu)

    def _forget_name(self) -> None:
        if not self.exists():
            _remove_node(self.xen, self.pool_id)

    def exists(self) -> bool:
        """Whether there is a pool with its id."""
        info = _next_info(self.xen, self.pool_id)
        return info is not None and info.pool_id == self.pool_id

    def _has_name(self) -> bool:
        try:
            return self.xen.names.use and _name_of(self.xen, self.pool_id) is not None
        except errors.StoreError as error:
            if error.errno == errno.EOPNOTSUPP:  # a recording, which has no xenstore
                return False
            raise

    def _cpu(self, cpu: int | None) -> int:
        return CPUPOOL_ANY if cpu is None else arguments.natural("cpu", cpu, self.xen.nr_cpus - 1)

    def _call(self, operation: Operation, **fields: Any) -> Reply:
        return self.xen.call(operation, cpupool_id=self.pool_id, **fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pool):
            return NotImplemented
        return (self.xen, self.pool_id) == (other.xen, other.pool_id)

    def __hash__(self) -> int:
        return hash((self.xen, self.pool_id))

    def __repr__(self) -> str:
        return f"<Pool {self.pool_id} on {self.xen.link.target}>"


class Pools(Mapping[int, Pool]):
    """All cpu pools: `xen.pools[0]`, `xen.pools["Pool-0"]`. Iterates over ids, in order. Since Xen 4.1.

    Threads: safe to share.

    Example:

    >>> xen.pools[0].remove_cpu(1)
    >>> pool = xen.pools.create(pyxc.Scheduler.CREDIT, name="batch")
    >>> pool.add_cpu(1)
    >>> xen.pools["batch"].info().cpus, len(xen.pools)
    (frozenset({1}), 2)
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def infos(self) -> list[PoolInfo]:
        """All pools in order of their ids (sysctl cpupool_op info, once for each)."""
        found: list[PoolInfo] = []
        info = _next_info(self._xen, 0)
        while info is not None:
            found.append(info)
            info = _next_info(self._xen, info.pool_id + 1)
        return found

    def __getitem__(self, key: SupportsIndex | str | Pool) -> Pool:
        """The pool with an id, a string of digits, or a name. KeyError if there is none.

        Ambiguous if several have the name; StoreError if names cannot be looked up; ValueError, TypeError for
        an invalid key.
        """
        if isinstance(key, str) and not (key.isascii() and key.isdigit()):
            return Pool(self._xen, self._called(key))
        number = _pool_id(key)
        info = _next_info(self._xen, number)
        if info is not None and info.pool_id == number:
            return Pool(self._xen, number)
        raise KeyError(f"no cpu pool has the id {number}")

    def _called(self, name: str) -> int:
        """The id of the pool with a name."""
        if not name:
            raise ValueError("the name of a cpu pool is empty")
        found = [pool_id for pool_id in self if _name_of(self._xen, pool_id) == name]
        if len(found) > 1:
            raise errors.Ambiguous("cpu pools", name, found)
        if not found:
            raise KeyError(f"no cpu pool has the name {name}")
        return found[0]

    def __iter__(self) -> Iterator[int]:
        return iter([info.pool_id for info in self.infos()])

    def __len__(self) -> int:
        return len(self.infos())

    def free_cpus(self) -> frozenset[int]:
        """The free cpus, which are in no pool (sysctl cpupool_op freeinfo)."""
        room = bitmap.wanted("cpumap", self._xen.nr_cpus)
        reply = self._xen.call(sysctl_cpupool.CPUPOOL_OP_FREEINFO, **room)
        return bitmap.unpack(reply.buffers["cpumap.bitmap"])

    def create(
        self,
        scheduler: Scheduler | int | None = None,
        pool_id: int | None = None,
        name: str | None = None,
        cpus: Collection[int] = (),
    ) -> Pool:
        """A new pool with some free cpus, or none (sysctl cpupool_op create, addcpu).

        The defaults are the host's default scheduler and the next id; `name` is written to xenstore. OSError
        ENOENT: this hypervisor was built without the scheduler; EEXIST: the id is in use; ENODEV: a cpu is
        not free. ValueError for a name that another pool has. If anything fails, no pool remains.
        """
        xen = self._xen
        if name is not None:
            _check_name(xen, name)
        if scheduler is None:
            scheduler = xen.scheduler
        fields = {
            "sched_id": arguments.natural("scheduler", scheduler, CPUPOOL_ANY),
            "cpupool_id": CPUPOOL_ANY if pool_id is None else arguments.natural("pool id", pool_id, _LAST_ID),
        }
        with undoing.made(
            lambda: int(xen.call(sysctl_cpupool.CPUPOOL_OP_CREATE, **fields).field("cpupool_id")),
            lambda made: self._destroy(made, name),
            lambda: self._just_made(pool_id, name),
            "a cpu pool is left behind",
        ) as made:
            pool = Pool(xen, made)
            for cpu in sorted(cpus):
                pool.add_cpu(cpu)
            if name is not None:  # last: a pool without a name is what a killed program left
                xen.store.write(f"{_node(made)}/name", name)
            return pool

    def split(self, parts: Mapping[str, Collection[int]]) -> list[Pool]:
        """Cut pool 0, which must be the only one, in pools with these names and cpus; all or nothing.

        It keeps its first part, and its scheduler is that of all. ValueError if there are other pools.
        Example: `xen.pools.split({"Pool-node0": {0, 1}, "Pool-node1": {2, 3}})`
        """
        if len(self.infos()) > 1:
            raise ValueError("there are cpu pools already")
        first = self[0]
        cpus, name, scheduler = first.info().cpus, _name_of(self._xen, 0), first.scheduler()
        (own, _), *others = parts.items()

        def restore() -> None:
            for info in self.infos()[1:]:
                self._destroy(info.pool_id, self._xen.names.pool_name(info.pool_id))
            first._add_again(cpus)
            _write_name(self._xen, 0, name)

        with undoing.on_failure(restore, "pool 0 is cut in pools"):
            for _, moved in others:
                for cpu in sorted(moved):
                    first.remove_cpu(cpu)
            first.rename(own)
            return [first, *(self.create(scheduler, name=other, cpus=moved) for other, moved in others)]

    def _just_made(self, pool_id: int | None, name: str | None) -> list[int]:
        """The new pool, found by the requested id, or else as the one with the highest id.

        It is empty, and has no other name.
        """
        infos = self.infos()
        wanted = infos[-1].pool_id if pool_id is None else pool_id
        return [
            info.pool_id
            for info in infos
            if info.pool_id == wanted and not info.cpus and not info.nr_domains
            and self._xen.names.pool_name(wanted) in (None, name)
        ]  # fmt: skip

    def _destroy(self, pool_id: int, name: str | None) -> None:
        info = _next_info(self._xen, pool_id)
        if info is not None and info.pool_id == pool_id:
            for cpu in sorted(info.cpus):
                Pool(self._xen, pool_id).remove_cpu(cpu)
            self._xen.call(sysctl_cpupool.CPUPOOL_OP_DESTROY, cpupool_id=pool_id)
        if name is not None:
            _remove_node(self._xen, pool_id)

    def __repr__(self) -> str:
        return f"<Pools of {self._xen.link.target}>"


def _node(pool_id: int) -> str:
    """The node of a pool in xenstore."""
    return f"/local/pool/{pool_id}"


def _remove_node(xen: Host, pool_id: int) -> None:
    """Through a separate connection: the host's connection may have failed before."""
    with StoreClient(xen.link.connect_store) as store:
        store.remove(_node(pool_id))


def _write_name(xen: Host, pool_id: int, name: str | None) -> None:
    """The same; None for no name."""
    with StoreClient(xen.link.connect_store) as store:
        path = f"{_node(pool_id)}/name"
        if name is None:
            store.remove(path)
        elif store.read(path) != name.encode():
            store.write(path, name)


def _check_name(xen: Host, name: str) -> None:
    """ValueError if a pool has the name; StoreError if this cannot be looked up."""
    if not name:
        raise ValueError("the name of a cpu pool is empty")
    if any(_name_of(xen, pool_id) == name for pool_id in Pools(xen)):
        raise ValueError(f"another cpu pool has the name {name}")


def _name_of(xen: Host, pool_id: int) -> str | None:
    """The name of a pool. StoreError if it cannot be looked up, which does not mean that it has none."""
    try:
        return xen.names.pool_name(pool_id, strictly=True)
    except errors.StoreError as error:
        reason = f"the names of cpu pools cannot be looked up: {error}"
        raise errors.StoreError(error.errno or errno.EIO, reason) from error


def _pool_id(key: SupportsIndex | str | Pool) -> int:
    if isinstance(key, Pool):
        return key.pool_id
    if isinstance(key, bool) or not (isinstance(key, str) or hasattr(key, "__index__")):
        raise TypeError(f"expected an id (int) or a name, not {type(key).__name__}")
    return arguments.natural("pool id", int(key), _LAST_ID)


def _next_info(xen: Host, pool_id: int) -> PoolInfo | None:
    """The pool with this id or the next higher one; None after the last."""
    if pool_id > _LAST_ID:
        return None
    room = bitmap.wanted("cpumap", xen.nr_cpus)
    try:
        reply = xen.call(sysctl_cpupool.CPUPOOL_OP_INFO, cpupool_id=pool_id, **room)
    except errors.HypercallError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return PoolInfo(
        reply.reported("cpupool_id", CPUPOOL_ANY, pool_id),
        scheduler_named(reply.field("sched_id")),
        reply.field("n_dom"),
        bitmap.unpack(reply.buffers["cpumap.bitmap"]),
    )


def scheduler_named(number: int) -> Scheduler | int:
    """A scheduler, or its number if pyxc has no name for it."""
    try:
        return Scheduler(number)
    except ValueError:
        return number
