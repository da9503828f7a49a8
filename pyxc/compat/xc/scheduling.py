# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: schedulers and cpu pools."""

from __future__ import annotations

import errno
from typing import Any, SupportsIndex

from pyxc import errors
from pyxc.abi import domctl_scheduler, sysctl, sysctl_cpupool
from pyxc.abi.domctl import Scheduler
from pyxc.abi.sysctl_cpupool import CPUPOOL_ANY
from pyxc.compat.xc import base as c
from pyxc.compat.xc.base import Handle, raises_error
from pyxc.host.pools import Pool

_LEAVE_CAP = 0xFFFF


@raises_error
class Scheduling(Handle):
    """Schedulers and cpu pools."""

    def sched_id_get(self) -> int:
        """Get the host's scheduler.

        Returns: [int] 5: credit, 6: credit2, ... (XEN_SCHEDULER_*)
        """
        return int(self._open.call(sysctl.SCHED_ID).field("sched_id"))

    def sched_credit_domain_get(self, domid: SupportsIndex, /) -> dict[str, int]:
        """Get a domain's share under the credit scheduler.

         domid [int]: the domain's id

        Returns: [dict]
         weight [int]: against the weights of other domains, which usually have 256
         cap    [int]: the most that it may use, in percent of a cpu; 0: as much as there is
        """
        reply = self._open.call(domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT, c.domid(domid))
        return {"weight": reply.field("u.credit.weight"), "cap": reply.field("u.credit.cap")}

    def sched_credit_domain_set(
        self, domid: SupportsIndex, weight: SupportsIndex = 0, cap: SupportsIndex = _LEAVE_CAP
    ) -> int:
        """Set a domain's share under the credit scheduler, see sched_credit_domain_get.

         domid  [int]:         the domain's id
         weight [int, 0]:      0 leaves it as it is
         cap    [int, 0xffff]: 0xffff leaves it as it is

        Returns: [int] 0.
        """
        fields = {"u.credit.weight": c.short(weight), "u.credit.cap": c.short(cap)}
        self._open.call(domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT, c.domid(domid), **fields)
        return 0

    def sched_credit2_domain_get(self, domid: SupportsIndex, /) -> dict[str, int]:
        """Get a domain's share under the credit2 scheduler.

         domid [int]: the domain's id

        Returns: [dict]
         weight [int]: against the weights of other domains, which usually have 256
         cap    [int]: the most that it may use, in percent of a cpu; 0: as much as there is
        """
        fields = self._credit2(c.domid(domid))
        return {"weight": fields["u.credit2.weight"], "cap": fields.get("u.credit2.cap", 0)}

    def _credit2(self, domid: int) -> dict[str, Any]:
        return self._open.call(domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2, domid).fields()

    def sched_credit2_domain_set(
        self, domid: SupportsIndex, weight: SupportsIndex = 0, cap: SupportsIndex | None = None
    ) -> int:
        """Set a domain's share under the credit2 scheduler, see sched_credit2_domain_get.

         domid  [int]:       the domain's id
         weight [int, 0]:    0 leaves it as it is
         cap    [int, None]: 0 takes the limit away, None leaves it as it is; no other before Xen 4.10

        Returns: [int] 0.
        """
        dom = c.domid(domid)
        fields = {"u.credit2.weight": c.short(weight)}
        put = domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2
        if self._open.caller.has_field(put, "u.credit2.cap"):
            kept = self._credit2(dom)["u.credit2.cap"] if cap is None else c.short(cap)
            fields["u.credit2.cap"] = kept
        elif cap:
            raise errors.Unsupported(errno.ENOSYS, put.full_name, dom, hint="caps exist since Xen 4.10")
        self._open.call(domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2, dom, **fields)
        return 0

    def cpupool_create(
        self, pool: SupportsIndex = CPUPOOL_ANY, sched: SupportsIndex = int(Scheduler.CREDIT)
    ) -> int:
        """Create a cpu pool without cpus.

         pool  [int, 0xffffffff]: its number; 0xffffffff or -1 takes a free one
         sched [int, 5]:          its scheduler, see sched_id_get

        Returns: [int] its number.
        """
        fields = {"cpupool_id": c.unsigned(pool), "sched_id": c.unsigned(sched)}
        return int(self._open.call(sysctl_cpupool.CPUPOOL_OP_CREATE, **fields).field("cpupool_id"))

    def cpupool_destroy(self, pool: SupportsIndex, /) -> int:
        """Remove a cpu pool that has neither cpus nor domains.

         pool [int]: its number

        Returns: [int] 0.
        """
        self._open.call(sysctl_cpupool.CPUPOOL_OP_DESTROY, cpupool_id=c.unsigned(pool))
        return 0

    def cpupool_getinfo(self) -> list[dict[str, Any]]:
        """Get all cpu pools, in order of their numbers.

        Returns: [list of dicts]
         cpupool [int]:          its number
         sched   [int]:          its scheduler, see sched_id_get
         n_dom   [int]:          how many domains it has
         cpulist [list of ints]: its cpus
        """
        return [
            {
                "cpupool": c.signed(info.pool_id),
                "sched": int(info.scheduler),
                "n_dom": info.nr_domains,
                "cpulist": sorted(info.cpus),
            }
            for info in self._open.pools.infos()
        ]

    def cpupool_addcpu(self, cpupool: SupportsIndex, cpu: SupportsIndex = -1) -> int:
        """Give a free cpu to a pool.

         cpupool [int]:     the pool's number
         cpu     [int, -1]: the cpu; -1: any

        Returns: [int] 0.
        """
        fields = {"cpupool_id": c.unsigned(cpupool), "cpu": _cpu(cpu)}
        self._open.call(sysctl_cpupool.CPUPOOL_OP_ADDCPU, **fields)
        return 0

    def cpupool_removecpu(self, cpupool: SupportsIndex, cpu: SupportsIndex = -1) -> int:
        """Take a cpu from a pool; it is free then.

         cpupool [int]:     the pool's number
         cpu     [int, -1]: the cpu; -1: its last

        Returns: [int] 0.
        """
        number = _cpu(cpu)
        Pool(self._open, c.unsigned(cpupool)).remove_cpu(None if number == CPUPOOL_ANY else number)
        return 0

    def cpupool_movedomain(self, cpupool: SupportsIndex, domid: SupportsIndex) -> int:
        """Move a domain to a pool.

         cpupool [int]: the pool's number
         domid   [int]: the domain's id

        Returns: [int] 0.
        """
        fields = {"cpupool_id": c.unsigned(cpupool), "domid": c.domid(domid)}
        self._open.call(sysctl_cpupool.CPUPOOL_OP_MOVEDOMAIN, **fields)
        return 0

    def cpupool_freeinfo(self) -> list[int]:
        """Get the cpus that are in no pool.

        Returns: [list of ints]
        """
        return sorted(self._open.pools.free_cpus())


def _cpu(cpu: SupportsIndex) -> int:
    """Below 0: whichever the hypervisor chooses."""
    number = c.integer(cpu)
    return CPUPOOL_ANY if number < 0 else number
