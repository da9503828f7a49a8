# SPDX-License-Identifier: MIT
"""The scheduler parameters of a domain and its vcpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pyxc import errors, undoing
from pyxc.abi import domctl_scheduler
from pyxc.abi.domctl import Scheduler
from pyxc.abi.domctl_scheduler import RtdsFlag
from pyxc.abi.operation import Operation
from pyxc.call.reply import Reply
from pyxc.domain.identity import Identity
from pyxc.host.host import Host
from pyxc.host.pools import Pool
from pyxc.host.scheduling import (
    Credit2Params,
    CreditParams,
    DomainParams,
    Kind,
    RtdsParams,
    changed,
    checked,
    describe,
    kind_of,
)

_PERCENT_OF_A_VCPU = 100


def _rtds(period_us: int, budget_us: int, flags: int | None) -> RtdsParams:
    return RtdsParams(period_us, budget_us, None if flags is None else bool(flags & RtdsFlag.EXTRA))


_RTDS = Kind(
    domctl_scheduler.SCHEDULER_OP_GETINFO_RTDS,
    domctl_scheduler.SCHEDULER_OP_PUTINFO_RTDS,
    _rtds,
    {"period_us": "u.rtds.period", "budget_us": "u.rtds.budget", "extratime": "u.rtds.flags"},
)
_OF_DOMAINS: Mapping[int, Kind[Any]] = {
    Scheduler.CREDIT: Kind(
        domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT,
        domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT,
        CreditParams,
        {"weight": "u.credit.weight", "cap": "u.credit.cap"},
    ),
    Scheduler.CREDIT2: Kind(
        domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
        domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2,
        Credit2Params,
        {"weight": "u.credit2.weight", "cap": "u.credit2.cap"},
    ),
    Scheduler.RTDS: _RTDS,
}


def scheduler_of(domain: Identity) -> Scheduler | int:
    """See Domain.scheduler()."""
    pool_id = domain.info().cpupool
    return domain.xen.scheduler if pool_id is None else Pool(domain.xen, pool_id).info().scheduler


def read(domain: Identity) -> DomainParams | None:
    """See Domain.scheduling()."""
    kind = _OF_DOMAINS.get(scheduler_of(domain))
    return None if kind is None else kind.decode(domain.call(kind.get).fields())


def write(domain: Identity, **wanted: int | None) -> None:
    """See Domain.set_scheduling()."""
    changes = checked(wanted)
    nr_vcpus = domain.info().nr_vcpus
    scheduler = scheduler_of(domain)
    kind = kind_of(_OF_DOMAINS, scheduler, "of domains")
    if scheduler is Scheduler.RTDS and _has_vcpu_params(domain.xen):
        _write_vcpus(domain, range(nr_vcpus), changes)
        return
    params = changed(kind.decode(domain.call(kind.get).fields()), changes, scheduler)
    if isinstance(params, RtdsParams):
        _check_budget(params)
    most = _PERCENT_OF_A_VCPU * nr_vcpus
    if changes.get("cap", 0) > most:
        raise ValueError(
            f"cap is {changes['cap']}: it must be from 0 to {most}, "
            f"{_PERCENT_OF_A_VCPU} for each of {nr_vcpus} vcpus"
        )
    domain.change(kind.put, **kind.encode(params))


def read_vcpus(domain: Identity, indices: Sequence[int]) -> list[RtdsParams] | None:
    """Parameters of some vcpus (domctl scheduler_op getvcpuinfo); None if vcpus have none."""
    if scheduler_of(domain) is not Scheduler.RTDS or not _has_vcpu_params(domain.xen):
        return None
    return _read_vcpus(domain, indices)


def write_vcpu(domain: Identity, index: int, **wanted: int | None) -> None:
    """See Vcpu.set_scheduling()."""
    changes = checked(wanted)
    scheduler = scheduler_of(domain)
    if scheduler is not Scheduler.RTDS or not _has_vcpu_params(domain.xen):
        raise ValueError(f"{describe(scheduler)} has no parameters per vcpu in this hypervisor")
    _write_vcpus(domain, [index], changes)


def _has_vcpu_params(xen: Host) -> bool:
    """Since Xen 4.7."""
    return xen.caller.supports(domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS)


def _read_vcpus(domain: Identity, indices: Sequence[int]) -> list[RtdsParams]:
    asked = [{"vcpuid": index} for index in indices]
    found = _vcpu_array(domain, domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS, asked)
    return [_RTDS.decode(vcpu) for vcpu in found]


def _write_vcpus(domain: Identity, indices: Sequence[int], changes: Mapping[str, int]) -> None:
    """All new values are checked before the first is written; all or none are written."""
    before = _read_vcpus(domain, indices)
    new = [changed(params, changes, Scheduler.RTDS) for params in before]
    for params in new:
        _check_budget(params)

    def restore() -> None:
        with suppress(errors.DomainNotFound, errors.DomainGone):
            _put_vcpus(domain, indices, before)

    with undoing.on_failure(restore, f"some vcpus of domain {domain.domid} keep their new parameters"):
        _put_vcpus(domain, indices, new)


def _put_vcpus(domain: Identity, indices: Sequence[int], wanted: Sequence[RtdsParams]) -> None:
    fields = [{"vcpuid": index, **_RTDS.encode(params)} for index, params in zip(indices, wanted)]
    _vcpu_array(domain, domctl_scheduler.SCHEDULER_OP_PUTVCPUINFO_RTDS, fields)


def _check_budget(params: RtdsParams) -> None:
    if params.budget_us > params.period_us:
        raise ValueError(f"budget_us is {params.budget_us}: it must not exceed period_us, {params.period_us}")


def _vcpu_array(
    domain: Identity, operation: Operation, vcpus: Sequence[Mapping[str, int]]
) -> list[Mapping[str, Any]]:
    """Pass an array of vcpus to Xen and return the result. Xen may stop early and report how far it got."""
    layout = domctl_scheduler.SCHEDPARAM_VCPU_RTDS_STRUCT.at(domain.xen.interface)
    issue = domain.change if operation.changes else domain.call
    found: list[Mapping[str, Any]] = []
    while len(found) < len(vcpus):
        rest = vcpus[len(found) :]
        array = b"".join(layout.pack(vcpu) for vcpu in rest)
        reply: Reply = issue(operation, **{"u.v.vcpus": array, "u.v.nr_vcpus": len(rest)})
        done = reply.field("u.v.nr_vcpus")
        if not 0 < done <= len(rest):
            raise errors.DecodeError(f"the hypervisor reports that it handled {done} of {len(rest)} vcpus")
        found += [layout.unpack(reply.buffers["u.v.vcpus"], at * layout.size) for at in range(done)]
    return found
