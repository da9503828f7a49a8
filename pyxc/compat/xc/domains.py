# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: domains, their life and their vcpus."""

from __future__ import annotations

import errno
import os
from typing import Any, SupportsIndex

from pyxc.abi import domctl, sched
from pyxc.abi.domctl import DomainFlag
from pyxc.abi.domctl_create import CreateFlag, EmulationFlag
from pyxc.abi.domid import DOMID_ANY, DOMID_FIRST_RESERVED
from pyxc.abi.sched import ShutdownReason
from pyxc.compat.xc import base as c
from pyxc.compat.xc.base import Handle, failed, raises_error
from pyxc.domain import affinity
from pyxc.domain.info import DomainInfo
from pyxc.domain.vcpus import INFO as VCPU_INFO

_DEFAULT_HANDLE = [0xDE, 0xAD, 0xBE, 0xEF] * 4
_NO_LIMIT = 2**32 - 1
_GRANT_VERSION_MASK = 15
_ALL_DEVICES = EmulationFlag(2 * EmulationFlag.VPCI - 1)
_NOT_SHUT_DOWN = 255
_DOMIDS = 2**16
_DUMP_MODE = 0o600
_LISTED = (4, 18)
"""Since when the original lists domains in one call. Before, crashed and missing ones look otherwise."""


@raises_error
class Domains(Handle):
    """Domains and vcpus."""

    def domain_create(
        self,
        domid: SupportsIndex = 0,
        ssidref: SupportsIndex = 0,
        handle: list[int] | None = None,
        flags: SupportsIndex = 0,
        target: SupportsIndex = 0,
        max_vcpus: SupportsIndex = 1,
        max_grant_version: SupportsIndex = 2,
    ) -> int:
        """Create a domain: paused, without memory and vcpus.

         domid     [int, 0]: its id; 0 takes any free one, on every Xen
         ssidref   [int, 0]: the number of its security label
         handle    [list of 16 ints, 0xde 0xad 0xbe 0xef ...]: its UUID
         flags     [int, 0]: 1: HVM, 2: with hardware-assisted paging, ... (XEN_DOMCTL_CDF_*)
         target    [int, 0]: the domain that it may control, as a device model does; 0: none
         max_vcpus [int, 1]: how many vcpus it will have, see domain_max_vcpus
         max_grant_version [int, 2]: the newest grant table that it may use

        Returns: [int] its id.
        """
        options = c.unsigned(flags)
        controlled = c.domid(target)
        created = self._open.domains.create_bare(
            _wanted(domid),
            ssidref=c.unsigned(ssidref),
            handle=c.handle(_DEFAULT_HANDLE if handle is None else handle),
            flags=options,
            max_vcpus=c.unsigned(max_vcpus),
            max_evtchn_port=_NO_LIMIT,
            grant_opts=c.unsigned(max_grant_version) & _GRANT_VERSION_MASK,
            **{"arch.emulation_flags": self._devices() if options & CreateFlag.HVM else 0},
        )
        if controlled:
            self._give_target(created, controlled)
        return created

    def _devices(self) -> int:
        """What an HVM domain has emulated: everything but vPCI, and as the release has it pirqs."""
        has_pirqs = (4, 9) <= self._open.interface.xen < (4, 19)
        without = EmulationFlag.VPCI if has_pirqs else EmulationFlag.VPCI | EmulationFlag.USE_PIRQ
        return int(_ALL_DEVICES & ~without)

    def _give_target(self, created: int, target: int) -> None:
        """If that fails, no domain remains."""
        try:
            self._open.call(domctl.SET_TARGET, created, target=target)
        except BaseException:
            self._open.call(domctl.DESTROYDOMAIN, created)
            raise

    def domain_max_vcpus(self, dom: SupportsIndex, max: SupportsIndex, /) -> int:
        """Give a new domain its vcpus.

         dom [int]: the domain's id
         max [int]: how many; from Xen 4.12 on what it was created with

        Returns: [int] 0.
        """
        self._open.call(domctl.MAX_VCPUS, c.domid(dom), max=c.unsigned(max))
        return 0

    def domain_dumpcore(self, dom: SupportsIndex, corefile: str, /) -> int:
        """Write a core dump of a domain. Pause it before, for one that is of one moment.

         dom      [int]: the domain's id
         corefile [str]: the file: whatever can be opened for writing, a pipe or a link to a file, too

        Returns: [int] 0.
        """
        from pyxc.guest import core_dump  # it brings pyxattr along, which nothing else here needs

        domain = self._domain(c.domid(dom))
        if not c.text(corefile):
            raise failed(errno.EINVAL)
        opened = os.open(corefile, os.O_CREAT | os.O_RDWR | os.O_TRUNC | os.O_CLOEXEC, _DUMP_MODE)
        with open(opened, "wb") as stream:
            core_dump.write_core(domain, stream, force=True, everywhere=False)
        return 0

    def domain_pause(self, dom: SupportsIndex, /) -> int:
        """Stop all vcpus of a domain for a while.

         dom [int]: the domain's id

        Returns: [int] 0.
        """
        self._open.call(domctl.PAUSEDOMAIN, c.domid(dom))
        return 0

    def domain_unpause(self, dom: SupportsIndex, /) -> int:
        """Undo one domain_pause, or start a new domain.

         dom [int]: the domain's id

        Returns: [int] 0.
        """
        self._open.call(domctl.UNPAUSEDOMAIN, c.domid(dom))
        return 0

    def domain_destroy(self, dom: SupportsIndex, /) -> int:
        """Destroy a domain. It disappears when its memory is no longer mapped; this does not wait.

         dom [int]: the domain's id

        Returns: [int] 0.
        """
        self._open.call(domctl.DESTROYDOMAIN, c.domid(dom))
        return 0

    def domain_destroy_hook(self, *_: object) -> int:
        """Do nothing: it was for ia64.

        Returns: [int] 0.
        """
        return 0

    def domain_shutdown(self, dom: SupportsIndex, reason: SupportsIndex, /) -> int:
        """Shut a domain down without asking it; it remains until it is destroyed.

         dom    [int]: the domain's id
         reason [int]: 0: poweroff, 1: reboot, 2: suspend, 3: crash, 4: watchdog

        Returns: [int] 0.
        """
        self._open.call(sched.REMOTE_SHUTDOWN, c.domid(dom), reason=c.unsigned(reason))
        return 0

    def domain_resume(self, dom: SupportsIndex, fast: SupportsIndex, /) -> int:
        """Resume a domain that suspended itself.

         dom  [int]: the domain's id
         fast [int]: 1: it learns that the suspend was cancelled, and must support that; 0: as if it
                     had been moved

        Returns: [int] 0.
        """
        wanted = bool(c.integer(fast))
        domain = self._domain(c.domid(dom))
        suspended = domain.info().shutdown_reason is ShutdownReason.SUSPEND
        domain.resume(wanted if wanted or suspended else None)
        return 0

    def domain_sethandle(self, dom: SupportsIndex, handle: list[int], /) -> int:
        """Give a domain another UUID.

         dom    [int]: the domain's id
         handle [list of 16 ints]: the UUID

        Returns: [int] 0.
        """
        self._open.call(domctl.SETDOMAINHANDLE, c.domid(dom), handle=c.handle(handle))
        return 0

    def domain_getinfo(
        self, first_dom: SupportsIndex = 0, max_doms: SupportsIndex = 1024
    ) -> list[dict[str, Any]]:
        """Get what domains do, in order of their ids, which are `first_dom` or higher: look at "domid".

         first_dom [int, 0]:    the lowest id
         max_doms  [int, 1024]: of how many domains at most

        Returns: [list of dicts], of no domain an empty one (before Xen 4.18 that is an Error)
         domid           [int]:  the domain's id
         online_vcpus    [int]:  how many vcpus are up
         max_vcpu_id     [int]:  the highest vcpu's number
         hvm             [int]:  1: HVM or PVH
         dying           [int]:  1: is being destroyed
         crashed         [int]:  1: shut down because it crashed
         shutdown        [int]:  1: shut down (before Xen 4.18 not of a crashed one)
         paused          [int]:  1: paused by the toolstack
         blocked         [int]:  1: waits for an event
         running         [int]:  1: a vcpu of it runs
         mem_kb          [int]:  KiB that it has
         cpu_time        [int]:  nanoseconds that all its vcpus together ran
         maxmem_kb       [int]:  KiB that it may have
         ssidref         [int]:  the number of its security label
         shutdown_reason [int]:  see domain_shutdown; 255: it is not shut down
         cpupool         [int]:  its cpu pool; -1: none
         handle          [list of 16 ints]: its UUID
        """
        first, most = c.integer(first_dom), c.integer(max_doms)
        listed = self._open.interface.xen >= _LISTED
        found = self._infos(first, most)
        if not found and most and not listed:
            raise failed(errno.ESRCH)
        return [_domain_dict(info, listed) for info in found]

    def _infos(self, first: int, most: int) -> list[DomainInfo]:
        """No domain has an id out of range: the original cut off what did not fit 16 bits."""
        if not 0 <= first < DOMID_FIRST_RESERVED:
            return []
        return self._open.domains.infos(first, min(most, DOMID_FIRST_RESERVED))

    def vcpu_getinfo(self, domid: SupportsIndex, vcpu: SupportsIndex = 0) -> dict[str, Any]:
        """Get what a vcpu does.

         domid [int]:    the domain's id
         vcpu  [int, 0]: the vcpu's number

        Returns: [dict]
         online   [int]: 1: the guest has brought it up
         blocked  [int]: 1: waits for an event
         running  [int]: 1: is on a cpu now
         cpu_time [int]: nanoseconds that it ran
         cpu      [int]: the cpu that it is on, or was on last
         cpumap   [list of ints]: the cpus that it may run on
        """
        dom, index = c.domid(domid), c.unsigned(vcpu)
        reply = self._open.call(domctl.GETVCPUINFO, dom, vcpu=index)
        info = VCPU_INFO.at(self._open.interface).one(reply.answer)
        return {
            "online": int(info.online),
            "blocked": int(info.blocked),
            "running": int(info.running),
            "cpu_time": info.cpu_time_ns,
            "cpu": info.cpu,
            "cpumap": sorted(affinity.read(self._open, dom, index).hard),
        }

    def vcpu_setaffinity(
        self, domid: SupportsIndex, vcpu: SupportsIndex = 0, cpumap: list[Any] | None = None
    ) -> int:
        """Say on which cpus a vcpu may run (hard affinity).

         domid  [int]:      the domain's id
         vcpu   [int, 0]:   the vcpu's number
         cpumap [list, []]: the cpus; an Error (EINVAL) when there is none that it could have

        Returns: [int] 0.
        """
        dom, index = c.domid(domid), c.unsigned(vcpu)
        wanted = cpumap if isinstance(cpumap, list) else []
        nr_cpus = self._open.nr_cpus
        if not all(isinstance(cpu, int) and 0 <= cpu < nr_cpus for cpu in wanted):
            raise failed(errno.EINVAL)
        operation, fields = affinity.assignment(self._open, frozenset(wanted), None)
        self._open.call(operation, dom, vcpu=index, **fields)
        return 0


def _wanted(domid: SupportsIndex) -> int:
    """0, -1 and reserved ids request any free id, as in one release or another."""
    number = c.integer(domid)
    reserved = DOMID_FIRST_RESERVED <= number < _DOMIDS
    return DOMID_ANY if number in (0, -1) or reserved else c.domid(number)


def _domain_dict(info: DomainInfo, listed: bool) -> dict[str, Any]:
    reason = info.shutdown_reason
    crashed = reason is ShutdownReason.CRASH
    return {
        "domid": info.domid,
        "online_vcpus": info.nr_online_vcpus,
        "max_vcpu_id": c.signed(info.max_vcpu_id),
        "hvm": int(info.is_hvm),
        "dying": int(info.dying),
        "crashed": int(crashed),
        "shutdown": int(reason is not None and (listed or not crashed)),
        "paused": int(info.paused),
        "blocked": int(DomainFlag.BLOCKED in info.flags),
        "running": int(DomainFlag.RUNNING in info.flags),
        "mem_kb": info.memory_kb,
        "cpu_time": info.cpu_time_ns,
        "maxmem_kb": info.max_memory_kb,
        "ssidref": c.signed(info.ssidref),
        "shutdown_reason": _NOT_SHUT_DOWN if reason is None else int(reason),
        "cpupool": c.signed(info.cpupool or 0),
        "handle": list(info.handle),
    }
