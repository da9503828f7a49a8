# SPDX-License-Identifier: MIT
"""Scripts of calls that run unchanged on a real hypervisor, on a simulated one, and on a recording.

Every module of this package is one script, for the operations of one noun. Its run(script) issues them with
success and with mistakes of their own; the mistakes that every operation allows are tried after it.
A module may say which outcomes differ between hosts (VOLATILE), and which operations dom0 must be spared
(NOT_ON_DOM0).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from pyxc import Domain, Pool, Scheduler, Xen, errors
from pyxc.abi import domctl
from pyxc.abi.operation import DOMCTL, SYSCTL, Operation
from pyxc.call.plan import Address
from pyxc.call.reply import Reply

UUIDS = {"pv": "11111111-2222-4333-8444-555555555501", "pvh": "11111111-2222-4333-8444-555555555502"}
MEMORY_KB = 8192
POOL_ID = 9
ABSENT_DOMID = 0x7000
ABSENT_VCPU = 4096
WRONG_VERSION = 0x7777
NOWHERE = Address(0x10)

IDS = frozenset(("domid", "domain", "dom", "domain_id", "remote_dom"))
"""Ids of new domains depend on how many there were before."""
ALWAYS_VOLATILE = IDS | {"cpu_time", "shared_info_frame", "outstanding_pages", "gpaddr_bits"}
"""Fields that tell of time, of frames or of one host, and that many operations answer."""
VOLATILE_OF_DOM0 = frozenset(("flags", "tot_pages", "max_pages", "running", "blocked"))
"""Fields that tell how large dom0 is and what it does; of domains that a script makes they are compared."""

LAST = "rtds"
"""The script that cannot leave things as they were: a cpu that joins its pool stays there."""

POLICY_LABEL = 12
"""The label of guests (its sid) where there is a security policy; elsewhere nobody asks for one."""

Outcomes = dict[str, dict[str, Any]]
"""What came of a script: "operation/case" to outcome, as JSON holds it."""


class Volatile(NamedTuple):
    """What may differ between hosts: fields and buffers by name, and results; of any domain, or of dom0."""

    fields: Collection[str] = ()
    results: Collection[Operation] = ()
    results_of_dom0: Collection[Operation] = ()


def names() -> list[str]:
    """All scripts, in order; after the last one a hypervisor must boot again before others can run."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    return [*sorted(found - {LAST}), LAST]


def release(xen: Xen) -> str:
    """The name of recordings of this hypervisor: its release, and "-xsm" if it has a policy."""
    flavour = "-xsm" if xen.flask.present else ""
    return "xen-{}.{}".format(*xen.interface.xen) + flavour


def run(name: str, xen: Xen, release: str) -> Outcomes:
    """Run one script until its domains and pools have gone, on a hypervisor called RELEASE.

    dom0's vcpu 0 makes the calls, so that "own vcpu" is always the same.
    """
    os.sched_setaffinity(0, {0})
    module = importlib.import_module(f"{__name__}.{name}")
    ssidref = POLICY_LABEL if release.endswith("-xsm") else 0
    script = Script(xen, getattr(module, "VOLATILE", Volatile()), ssidref)
    try:
        module.run(script)
        script.try_mistakes(getattr(module, "NOT_ON_DOM0", ()))
    finally:
        script.clean_up()
    return script.outcomes


class Script:
    """Runs steps and keeps their outcomes."""

    def __init__(self, xen: Xen, volatile: Volatile, ssidref: int) -> None:
        self.xen = xen
        self.ssidref = ssidref
        self.volatile = volatile
        self.outcomes: Outcomes = {}
        self.samples: dict[Operation, tuple[int | None, dict[str, Any]]] = {}
        self.domains: list[Domain] = []
        self.pools: list[Pool] = []

    def pv(self) -> int:
        """The id of a new PV domain of two vcpus that may own MEMORY_KB."""
        return self._create("pv", max_vcpus=2)

    def pvh(self) -> int:
        """The same of a PVH domain of one vcpu."""
        return self._create("pvh", hvm=True, hap=True)

    def _create(self, kind: str, **options: Any) -> int:
        domain = self.xen.domains.create(uuid=UUIDS[kind], ssidref=self.ssidref, **options)
        self.domains.append(domain)
        self.xen.call(domctl.MAX_MEM, domain.domid, max_memkb=MEMORY_KB)
        return domain.domid

    def pool(self, scheduler: Scheduler) -> int:
        """The id of a new cpu pool with the host's cpu 1, taken from pool 0."""
        pool = self.xen.pools.create(scheduler, pool_id=POOL_ID)
        self.pools.append(pool)
        self.xen.pools[0].remove_cpu(1)
        pool.add_cpu(1)
        return pool.pool_id

    def clean_up(self) -> None:
        """Leave nothing behind: pool 0 has all cpus again, except one of an rtds pool."""
        for domain in self.domains:
            domain.destroy()
        for pool in self.pools:
            info = pool.info()
            if info.scheduler is not Scheduler.RTDS:
                for cpu in info.cpus:
                    pool.remove_cpu(cpu)
                pool.destroy()
        if self.pools:
            for cpu in self.xen.pools.free_cpus():
                self.xen.pools[0].add_cpu(cpu)

    def step(
        self, case: str, operation: Operation, domid: int | None = None, /, **fields: Any
    ) -> Reply | None:
        """One call; if it succeeds, mistakes are made from it later."""
        if not self.xen.caller.supports(operation):
            return None
        reply: Reply | None = None
        try:
            reply = self.xen.call(operation, domid, **fields)
            outcome = {"result": self._result(reply, operation, domid), **self._visible(reply, domid)}
        except errors.HypercallError as error:
            outcome = {"errno": error.errno, "kind": type(error).__name__}
        self.outcomes[f"{operation.full_name}/{case}"] = outcome
        if reply is not None:
            self.samples.setdefault(operation, (domid, fields))
        return reply

    def without_mistakes(self, *operations: Operation) -> None:
        """Make no mistakes with these: the effect would be unpredictable, or could not be undone."""
        for operation in operations:
            self.samples.pop(operation, None)

    def _result(self, reply: Reply, operation: Operation, domid: int | None) -> int | None:
        hidden = operation in self.volatile.results
        hidden_of_dom0 = domid == 0 and operation in self.volatile.results_of_dom0
        return None if hidden or hidden_of_dom0 else reply.result

    def _visible(self, reply: Reply, domid: int | None) -> dict[str, Any]:
        """A reply as JSON: without volatile fields and addresses."""
        hidden = ALWAYS_VOLATILE.union(self.volatile.fields, VOLATILE_OF_DOM0 if domid == 0 else ())
        shown = {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in reply.fields().items()
            if name not in hidden and name not in reply.layout.handles
        }
        kept = {name: data for name, data in reply.buffers.items() if name not in hidden}
        buffers = {name: data.rstrip(b"\0").hex() for name, data in kept.items()}
        return {"fields": shown, "buffers": buffers}

    def try_mistakes(self, not_on_dom0: Collection[Operation]) -> None:
        """Repeat every successful operation with each mistake that it allows."""
        for operation, (domid, fields) in self.samples.items():
            layout = operation.at(self.xen.interface)
            if domid is not None:
                self.step("unknown domid", operation, ABSENT_DOMID, **fields)
                if operation not in not_on_dom0:
                    self.step("dom0 itself", operation, 0, **fields)
            if operation.family in (DOMCTL, SYSCTL):
                self.step(
                    "wrong interface version", operation, domid, **fields, interface_version=WRONG_VERSION
                )
            if "vcpu" in layout.index:
                self.step("missing vcpu", operation, domid, **{**fields, "vcpu": ABSENT_VCPU})
                self.step("own vcpu", operation, 0, **{**fields, "vcpu": 0})
            for name in sorted(layout.handles):
                if fields.get(name):
                    self.step(f"bad {name}", operation, domid, **{**fields, name: NOWHERE})
            self._bad_structure(operation)

    def _bad_structure(self, operation: Operation) -> None:
        """The structure itself at an address without memory; of a dm_op that is a domain without buffers."""
        family = operation.family
        if family.by_value or not operation.at(self.xen.interface).size:
            return
        before = (operation.command,) if family.command_argument else ()
        result = self.xen.link.hypercall(family.hypercall, *before, NOWHERE, *family.extra)
        self.outcomes[f"{operation.full_name}/bad handle"] = {"result": result}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Steps whose outcomes differ between two runs, with both outcomes."""
    return {
        step: (one.get(step), other.get(step))
        for step in {**one, **other}
        if one.get(step) != other.get(step)
    }
