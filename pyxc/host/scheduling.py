# SPDX-License-Identifier: MIT
"""How schedulers share the cpus out: parameters of domains, of single vcpus, and of whole cpu pools.

What is not named in a change keeps its value: it is read, and written back. Between the reading and the
writing somebody else's change can be lost; the window is microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyxc import arguments, errors
from pyxc.abi import domctl_scheduler, sysctl_scheduler
from pyxc.abi.domctl import Scheduler
from pyxc.abi.domctl_scheduler import RtdsFlag
from pyxc.abi.operation import Operation

if TYPE_CHECKING:
    from pyxc.domain.domain import Domain
    from pyxc.host.pools import Pool
    from pyxc.xen import Xen

_PERCENT_OF_A_VCPU = 100
_U32_MAX = 2**32 - 1


class CreditParams(NamedTuple):
    """A domain's share under the credit scheduler (domctl scheduler_op, public/domctl.h).

    `weight` counts against the weights of other domains, which have 256 unless told otherwise; `cap` is the
    most that all vcpus together may use, in percent of one physical cpu, 0: as much as there is.
    """

    weight: int
    cap: int


class Credit2Params(NamedTuple):
    """The same under credit2. `cap` is None before Xen 4.10, which has none."""

    weight: int
    cap: int | None


class RtdsParams(NamedTuple):
    """A vcpu's time under the rtds scheduler (domctl scheduler_op, public/domctl.h).

    It gets `budget_us` microseconds in each `period_us`; with `extratime` also what others leave, None before
    Xen 4.10. Of a domain: what Xen gives a new vcpu, since each vcpu has its own.
    """

    period_us: int
    budget_us: int
    extratime: bool | None


class CreditPoolParams(NamedTuple):
    """The credit scheduler of one pool (sysctl scheduler_op, public/sysctl.h).

    A vcpu runs for at most `tslice_ms` milliseconds, and at least `ratelimit_us` microseconds (0: no limit)
    before another takes its place; for `vcpu_migr_delay_us` its cache counts as hot. That is None before
    Xen 4.11.
    """

    tslice_ms: int
    ratelimit_us: int
    vcpu_migr_delay_us: int | None


class Credit2PoolParams(NamedTuple):
    """The credit2 scheduler of one pool: `ratelimit_us` as for credit (sysctl scheduler_op)."""

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
"""The least and the most of each parameter, with whatever scheduler."""


class _Kind(NamedTuple):
    """How one scheduler is asked and told: the operations, the record, and the field of each parameter."""

    get: Operation
    put: Operation
    record: Callable[..., Any]
    fields: Mapping[str, str]


def _rtds(period_us: int, budget_us: int, flags: int | None) -> RtdsParams:
    return RtdsParams(period_us, budget_us, None if flags is None else bool(flags & RtdsFlag.EXTRA))


_OF_DOMAINS: Mapping[int, _Kind] = {
    Scheduler.CREDIT: _Kind(
        domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT,
        domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT,
        CreditParams,
        {"weight": "u.credit.weight", "cap": "u.credit.cap"},
    ),
    Scheduler.CREDIT2: _Kind(
        domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
        domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2,
        Credit2Params,
        {"weight": "u.credit2.weight", "cap": "u.credit2.cap"},
    ),
    Scheduler.RTDS: _Kind(
        domctl_scheduler.SCHEDULER_OP_GETINFO_RTDS,
        domctl_scheduler.SCHEDULER_OP_PUTINFO_RTDS,
        _rtds,
        {"period_us": "u.rtds.period", "budget_us": "u.rtds.budget", "extratime": "u.rtds.flags"},
    ),
}
_OF_POOLS: Mapping[int, _Kind] = {
    Scheduler.CREDIT: _Kind(
        sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT,
        sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT,
        CreditPoolParams,
        {name: f"u.sched_credit.{name}" for name in CreditPoolParams._fields},
    ),
    Scheduler.CREDIT2: _Kind(
        sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
        sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2,
        Credit2PoolParams,
        {"ratelimit_us": "u.sched_credit2.ratelimit_us"},
    ),
}


def of_domain(domain: Domain) -> DomainParams | None:
    """See Domain.scheduling()."""
    kind = _OF_DOMAINS.get(domain.scheduler)
    if kind is None:
        return None
    params: DomainParams = _domain_params(kind, domain)
    return params


def _domain_params(kind: _Kind, domain: Domain) -> Any:
    return _decode(kind, domain.xen.call(kind.get, domain.domid).fields())


def set_of_domain(domain: Domain, **wanted: int | None) -> None:
    """See Domain.set_scheduling()."""
    changes = _checked(wanted)
    info = domain.info()
    scheduler = domain.scheduler
    kind = _kind(_OF_DOMAINS, scheduler, "of domains")
    if scheduler is Scheduler.RTDS and _has_vcpu_params(domain.xen):
        _set_vcpus(domain, range(info.nr_vcpus), changes)
        return
    params = _changed(_domain_params(kind, domain), changes, scheduler)
    if changes.get("cap", 0) > _PERCENT_OF_A_VCPU * info.nr_vcpus:
        raise ValueError(
            f"cap is {changes['cap']}: it must be from 0 to {_PERCENT_OF_A_VCPU * info.nr_vcpus}, "
            f"{_PERCENT_OF_A_VCPU} for each of {info.nr_vcpus} vcpus"
        )
    domain.xen.call(kind.put, domain.domid, **_encode(kind.fields, params))


def of_vcpus(domain: Domain, indices: Sequence[int]) -> list[RtdsParams] | None:
    """Parameters of some vcpus (domctl scheduler_op getvcpuinfo); None where single vcpus have none."""
    if domain.scheduler is not Scheduler.RTDS or not _has_vcpu_params(domain.xen):
        return None
    return _read_vcpus(domain, indices)


def set_of_vcpu(domain: Domain, index: int, **wanted: int | None) -> None:
    """See Vcpu.set_scheduling()."""
    changes = _checked(wanted)
    domain.info()
    scheduler = domain.scheduler
    if scheduler is not Scheduler.RTDS or not _has_vcpu_params(domain.xen):
        raise ValueError(f"{_name(scheduler)} has no parameters of single vcpus in this hypervisor")
    _set_vcpus(domain, [index], changes)


def _has_vcpu_params(xen: Xen) -> bool:
    """From 4.7 on."""
    return xen.caller.supports(domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS)


def _read_vcpus(domain: Domain, indices: Sequence[int]) -> list[RtdsParams]:
    array = _vcpu_array(domain.xen, domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS, domain.domid,
                        [{"vcpuid": index} for index in indices])  # fmt: skip
    return [_decode(_OF_DOMAINS[Scheduler.RTDS], vcpu) for vcpu in array]


def _set_vcpus(domain: Domain, indices: Sequence[int], changes: Mapping[str, int]) -> None:
    """All new values are checked before the first is written."""
    now = _read_vcpus(domain, indices)
    new = [_changed(params, changes, Scheduler.RTDS) for params in now]
    fields = _OF_DOMAINS[Scheduler.RTDS].fields
    array = [{"vcpuid": index, **_encode(fields, params)} for index, params in zip(indices, new)]
    _vcpu_array(domain.xen, domctl_scheduler.SCHEDULER_OP_PUTVCPUINFO_RTDS, domain.domid, array)


def _vcpu_array(
    xen: Xen, operation: Operation, domid: int, vcpus: Sequence[Mapping[str, int]]
) -> list[Mapping[str, Any]]:
    """Give Xen an array of vcpus and answer what it has become. Xen may stop early and say how far it got."""
    layout = domctl_scheduler.SCHEDPARAM_VCPU_RTDS_STRUCT.at(xen.interface)
    answers: list[Mapping[str, Any]] = []
    while len(answers) < len(vcpus):
        rest = vcpus[len(answers) :]
        array = b"".join(layout.pack(vcpu) for vcpu in rest)
        reply = xen.call(operation, domid, **{"u.v.vcpus": array, "u.v.nr_vcpus": len(rest)})
        done = reply.field("u.v.nr_vcpus")
        if not 0 < done <= len(rest):
            raise errors.DecodeError(f"the hypervisor claims {done} of {len(rest)} vcpus")
        answers += [layout.unpack(reply.buffers["u.v.vcpus"], at * layout.size) for at in range(done)]
    return answers


def of_pool(pool: Pool) -> PoolParams | None:
    """See Pool.scheduling()."""
    kind = _OF_POOLS.get(pool.scheduler)
    if kind is None or not pool.xen.caller.supports(kind.get):
        return None
    params: PoolParams = _pool_params(kind, pool)
    return params


def _pool_params(kind: _Kind, pool: Pool) -> Any:
    return _decode(kind, pool.xen.call(kind.get, cpupool_id=pool.pool_id).fields())


def set_of_pool(pool: Pool, **wanted: int | None) -> None:
    """See Pool.set_scheduling()."""
    changes = _checked(wanted)
    scheduler = pool.scheduler
    kind = _kind(_OF_POOLS, scheduler, "of pools")
    params = _changed(_pool_params(kind, pool), changes, scheduler)
    pool.xen.call(kind.put, cpupool_id=pool.pool_id, **_encode(kind.fields, params))


def _kind(kinds: Mapping[int, _Kind], scheduler: Scheduler | int, what: str) -> _Kind:
    if scheduler not in kinds:
        raise ValueError(f"{_name(scheduler)} has no parameters {what}")
    return kinds[scheduler]


def _checked(wanted: Mapping[str, int | None]) -> dict[str, int]:
    """The parameters that are given, each in its range."""
    changes = {
        name: arguments.natural(name, value, _RANGES[name][1], _RANGES[name][0])
        for name, value in wanted.items()
        if value is not None
    }
    if not changes:
        raise ValueError(f"none of {', '.join(wanted)} is given")
    return changes


def _changed(params: Any, changes: Mapping[str, int], scheduler: Scheduler | int) -> Any:
    """The parameters with some changed. ValueError for those that are not there, or not with each other."""
    known = [name for name in params._fields if getattr(params, name) is not None]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise ValueError(
            f"{_name(scheduler)} has no {' and no '.join(unknown)} here; it has {' and '.join(known)}"
        )
    new = params._replace(**changes)
    if isinstance(new, RtdsParams) and new.budget_us > new.period_us:
        raise ValueError(f"budget_us is {new.budget_us}: it must not exceed period_us, {new.period_us}")
    if isinstance(new, PoolParams):
        _check_ratelimit(new)
    return new


def _check_ratelimit(params: PoolParams) -> None:
    least = sysctl_scheduler.RATELIMIT_MIN
    if 0 < params.ratelimit_us < least:
        raise ValueError(f"ratelimit_us is {params.ratelimit_us}: it must be 0 (none) or at least {least}")
    if isinstance(params, CreditPoolParams) and params.ratelimit_us > params.tslice_ms * 1000:
        raise ValueError(
            f"ratelimit_us is {params.ratelimit_us}: it must not exceed tslice_ms, {params.tslice_ms}"
        )


def _decode(kind: _Kind, fields: Mapping[str, Any]) -> Any:
    """A record of a structure, None for what this interface does not have."""
    return kind.record(*(fields.get(field) for field in kind.fields.values()))


def _encode(fields: Mapping[str, str], params: Any) -> dict[str, int]:
    """The parameters of a record as fields; those that this interface does not have are left out."""
    values = ((field, getattr(params, name)) for name, field in fields.items())
    return {field: int(value) for field, value in values if value is not None}


def _name(scheduler: Scheduler | int) -> str:
    name = scheduler.name.lower() if isinstance(scheduler, Scheduler) else str(scheduler)
    return f"the scheduler {name}"
