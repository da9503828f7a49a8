# SPDX-License-Identifier: MIT
"""Parameters of schedulers for domains, vcpus and cpu pools.

A change reads the parameters that are not given and writes them back. A change by another program between the
read and the write is lost; the window is microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from pyxc import arguments
from pyxc.abi import sysctl_scheduler
from pyxc.abi.domctl import Scheduler
from pyxc.abi.operation import Operation
from pyxc.host.host import Host

_U32_MAX = 2**32 - 1


class CreditParams(NamedTuple):
    """A domain's share under the credit scheduler (domctl scheduler_op, public/domctl.h).

    `weight` is relative to the weights of other domains, by default 256; `cap` is the most cpu time of all
    vcpus together, in percent of one physical cpu, 0: no limit. Threads: safe to share.

    Example:

    >>> pyxc.open("sim:xen-4.10").domains["web1"].scheduling()
    CreditParams(weight=256, cap=0)
    """

    weight: int
    cap: int


class Credit2Params(NamedTuple):
    """The same under credit2. `cap` is None before Xen 4.10, which has no caps.

    Example:

    >>> web.scheduling()
    Credit2Params(weight=256, cap=0)
    """

    weight: int
    cap: int | None


class RtdsParams(NamedTuple):
    """The parameters of a vcpu under the rtds scheduler (domctl scheduler_op, public/domctl.h).

    The vcpu gets `budget_us` microseconds in each `period_us`, and with `extratime` also idle time; that is
    None before Xen 4.10. For a domain these are the parameters of a new vcpu. Threads: safe to share.

    Example:

    >>> old = pyxc.open("sim:xen-4.14")
    >>> old.pools[0].remove_cpu(1)
    >>> pool = old.pools.create(pyxc.Scheduler.RTDS, name="realtime")
    >>> pool.add_cpu(1)
    >>> pool.add_domain(old.domains["web1"])
    >>> old.domains["web1"].vcpu(0).scheduling()
    RtdsParams(period_us=10000, budget_us=4000, extratime=True)
    """

    period_us: int
    budget_us: int
    extratime: bool | None


class CreditPoolParams(NamedTuple):
    """The parameters of the credit scheduler in one pool (sysctl scheduler_op, public/sysctl.h).

    A vcpu runs for at most `tslice_ms` milliseconds, and for at least `ratelimit_us` microseconds (0: no
    limit) before another replaces it; for `vcpu_migr_delay_us` its cache counts as hot (None before Xen
    4.11).

    Example:

    >>> pyxc.open("sim:xen-4.10").pools[0].scheduling()
    CreditPoolParams(tslice_ms=30, ratelimit_us=1000, vcpu_migr_delay_us=None)
    """

    tslice_ms: int
    ratelimit_us: int
    vcpu_migr_delay_us: int | None


class Credit2PoolParams(NamedTuple):
    """The credit2 scheduler of one pool: `ratelimit_us` as for credit (sysctl scheduler_op).

    Example:

    >>> xen.pools[0].scheduling()
    Credit2PoolParams(ratelimit_us=1000)
    """

    ratelimit_us: int


DomainParams = CreditParams | Credit2Params | RtdsParams
PoolParams = CreditPoolParams | Credit2PoolParams
Params = DomainParams | PoolParams

_RANGES = {
    "weight": (1, 65535),
    "cap": (0, 65534),
    "period_us": (10, _U32_MAX),
    "budget_us": (10, _U32_MAX),
    "extratime": (0, 1),
    "tslice_ms": (sysctl_scheduler.TSLICE_MIN, sysctl_scheduler.TSLICE_MAX),
    "ratelimit_us": (0, sysctl_scheduler.RATELIMIT_MAX),
    "vcpu_migr_delay_us": (0, sysctl_scheduler.MGR_DLY_MAX_US),
}
"""The smallest and largest value of each parameter, for any scheduler."""

P = TypeVar("P", bound=Params)


class Kind(Generic[P]):
    """One scheduler's parameters: the operations, the record, and the field of each parameter."""

    def __init__(
        self, get: Operation, put: Operation, record: Callable[..., P], fields: Mapping[str, str]
    ) -> None:
        self.get = get
        self.put = put
        self._record = record
        self._fields = fields

    def decode(self, fields: Mapping[str, Any]) -> P:
        """A record of a structure, None for what this interface does not have."""
        return self._record(*(fields.get(field) for field in self._fields.values()))

    def encode(self, params: P) -> dict[str, int]:
        """The parameters of a record as fields, without those that this interface does not have."""
        values = ((field, getattr(params, name)) for name, field in self._fields.items())
        return {field: int(value) for field, value in values if value is not None}


_OF_POOLS: Mapping[int, Kind[Any]] = {
    Scheduler.CREDIT: Kind(
        sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT,
        sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT,
        CreditPoolParams,
        {name: f"u.sched_credit.{name}" for name in CreditPoolParams._fields},
    ),
    Scheduler.CREDIT2: Kind(
        sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
        sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2,
        Credit2PoolParams,
        {"ratelimit_us": "u.sched_credit2.ratelimit_us"},
    ),
}


def read(xen: Host, pool_id: int, scheduler: Scheduler | int) -> PoolParams | None:
    """See Pool.scheduling()."""
    kind = _OF_POOLS.get(scheduler)
    if kind is None or not xen.caller.supports(kind.get):
        return None
    params: PoolParams = _read(xen, pool_id, kind)
    return params


def _read(xen: Host, pool_id: int, kind: Kind[P]) -> P:
    return kind.decode(xen.call(kind.get, cpupool_id=pool_id).fields())


def write(xen: Host, pool_id: int, scheduler: Scheduler | int, **wanted: int | None) -> None:
    """See Pool.set_scheduling()."""
    changes = checked(wanted)
    kind = kind_of(_OF_POOLS, scheduler, "of pools")
    params = changed(_read(xen, pool_id, kind), changes, scheduler)
    _check_ratelimit(params)
    xen.call(kind.put, cpupool_id=pool_id, **kind.encode(params))


def kind_of(kinds: Mapping[int, Kind[Any]], scheduler: Scheduler | int, what: str) -> Kind[Any]:
    """How to read and write a scheduler's parameters. ValueError if it has none."""
    if scheduler not in kinds:
        raise ValueError(f"{describe(scheduler)} has no parameters {what}")
    return kinds[scheduler]


def checked(wanted: Mapping[str, int | None]) -> dict[str, int]:
    """The given parameters, each in its range."""
    changes = {
        name: arguments.natural(name, value, _RANGES[name][1], _RANGES[name][0])
        for name, value in wanted.items()
        if value is not None
    }
    if not changes:
        raise ValueError(f"expected at least one of {', '.join(wanted)}")
    return changes


def changed(params: P, changes: Mapping[str, int], scheduler: Scheduler | int) -> P:
    """The parameters with some changed. ValueError for one that this scheduler does not have here."""
    known = [name for name in params._fields if getattr(params, name) is not None]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise ValueError(
            f"{describe(scheduler)} has no {' and no '.join(unknown)} here; it has {' and '.join(known)}"
        )
    values: dict[str, Any] = {**params._asdict(), **changes}
    return type(params)(**values)


def _check_ratelimit(params: PoolParams) -> None:
    least = sysctl_scheduler.RATELIMIT_MIN
    if 0 < params.ratelimit_us < least:
        raise ValueError(f"ratelimit_us is {params.ratelimit_us}: it must be 0 (none) or at least {least}")
    if isinstance(params, CreditPoolParams) and params.ratelimit_us > params.tslice_ms * 1000:
        raise ValueError(
            f"ratelimit_us is {params.ratelimit_us}: it must not exceed tslice_ms, {params.tslice_ms}"
        )


def describe(scheduler: Scheduler | int) -> str:
    """The name of a scheduler in messages."""
    return f"the scheduler {scheduler.name.lower() if isinstance(scheduler, Scheduler) else scheduler}"
