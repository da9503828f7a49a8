# SPDX-License-Identifier: MIT
"""A domain, the roof: how it stops, continues and ends, and the way to everything else about it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from pyxc import arguments, errors, undoing
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl, sched
from pyxc.abi.domctl import Scheduler, Trigger
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.identity import Identity
from pyxc.domain.info import MOST_VCPUS, read_info

if TYPE_CHECKING:  # each is imported by what hands it out: most programs use few
    import uuid

    from pyxc.abi.domctl_tsc import TscMode
    from pyxc.domain.ask import Ask
    from pyxc.domain.channels import Channels
    from pyxc.domain.console import Console
    from pyxc.domain.grants import Grants
    from pyxc.domain.hvm_context import HvmContexts
    from pyxc.domain.hvm_params import HvmParams
    from pyxc.domain.log_dirty import LogDirty
    from pyxc.domain.memory import Memory
    from pyxc.domain.pci import Pci
    from pyxc.domain.permissions import Permissions
    from pyxc.domain.state import DomainState
    from pyxc.domain.tsc import TscInfo
    from pyxc.domain.vcpus import Vcpu, Vcpus
    from pyxc.domain.vnuma import Vnuma
    from pyxc.guest.core_dump import CoreDump, Kept, Progress
    from pyxc.guest.save import Compress, Live, Saved, Suspend, Target
    from pyxc.guest.save import Progress as SaveWatcher
    from pyxc.host.cpu_policy import CpuPolicy
    from pyxc.host.pools import Pool
    from pyxc.host.scheduling import DomainParams

_POLL_S = 0.05
_LOOK_S = 0.1


class Domain(Identity):
    """One domain, known by (domid, uuid): domids are reused, so every change first checks whose it is.

    Between that check and the change a domain can still be replaced; the window is microseconds. DomainGone
    where another domain has the id by now, DomainNotFound where none has. Properties are known; what a method
    returns is asked of the hypervisor. Threads: may be shared.

    >>> web = xen.domains["web1"]
    >>> web.pause()
    >>> web.info().paused
    True
    """

    @property
    def name(self) -> str | None:
        """Its name in xenstore, kept once it is known.

        None where it has none, and where xenstore cannot be asked at the moment, of which a warning tells.
        """
        if self._name is None:
            self._name = self.xen.names.domain_name(self.domid, self.uuid)
        return self._name

    def set_name(self, name: str) -> None:
        """Give it another name in xenstore, which no other living domain has.

        ValueError for a name that is taken, or that could not be told from an id or a UUID.
        """
        from pyxc.domain import naming

        naming.write(self, name)
        self._name = name

    @property
    def ask(self) -> Ask:
        from pyxc.domain.ask import Ask

        return Ask(self)

    @cached_property
    def console(self) -> Console:
        from pyxc.domain.console import Console

        return Console(self)

    @property
    def memory(self) -> Memory:
        from pyxc.domain.memory import Memory

        return Memory(self)

    @property
    def channels(self) -> Channels:
        from pyxc.domain.channels import Channels

        return Channels(self)

    @property
    def grants(self) -> Grants:
        from pyxc.domain.grants import Grants

        return Grants(self)

    @property
    def permissions(self) -> Permissions:
        from pyxc.domain.permissions import Permissions

        return Permissions(self)

    @property
    def pci(self) -> Pci:
        from pyxc.domain.pci import Pci

        return Pci(self)

    @property
    def log_dirty(self) -> LogDirty:
        from pyxc.domain.log_dirty import LogDirty

        return LogDirty(self)

    @property
    def hvm_params(self) -> HvmParams:
        from pyxc.domain.hvm_params import HvmParams

        return HvmParams(self)

    @property
    def hvm_context(self) -> HvmContexts:
        from pyxc.domain.hvm_context import HvmContexts

        return HvmContexts(self)

    @property
    def vcpus(self) -> Vcpus:
        from pyxc.domain.vcpus import Vcpus

        return Vcpus(self)

    def vcpu(self, index: int) -> Vcpu:
        from pyxc.domain.vcpus import Vcpu

        return Vcpu(self, arguments.natural("vcpu", index, MOST_VCPUS - 1))

    def state(self) -> DomainState:
        """Its state, what it is for the host, and its unique id (domctl get_domain_state).

        Whoever has the id now answers. Unsupported before Xen 4.21.
        """
        from pyxc.domain.state import read_state

        return read_state(self.xen, self.domid)

    def pause(self) -> None:
        """Take all vcpus off the cpus (domctl pausedomain).

        Pauses nest, each needs its unpause; before Xen 4.5 a second one changes nothing.
        """
        self.change(domctl.PAUSEDOMAIN)

    def unpause(self) -> None:
        """Undo one pause (domctl unpausedomain). From Xen 4.5 on EINVAL when it was not paused from here."""
        self.change(domctl.UNPAUSEDOMAIN)

    def shutdown(self, reason: ShutdownReason | int | str = ShutdownReason.POWEROFF) -> None:
        """Stop it from outside, without asking the guest (sched_op remote_shutdown): it stays, shut down.

        ask.poweroff() asks the guest.
        """
        self.change(sched.REMOTE_SHUTDOWN, reason=arguments.member("reason", ShutdownReason, reason))

    def wait_shut_down(self, timeout: float | None = None) -> ShutdownReason | int | None:
        """Wait until it has shut down, and return why; None when it has gone instead.

        TimeoutError after `timeout` seconds. It looks ten times a second (domctl getdomaininfo).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                info = self.info()
            except (errors.DomainNotFound, errors.DomainGone):
                return None
            if info.shutdown_reason is not None or info.dying:
                return info.shutdown_reason
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"domain {self.domid} has not shut down within {timeout:g} s")
            time.sleep(_LOOK_S)

    def resume(self, fast: bool | None = None) -> None:
        """Let a domain that shut down go on (domctl resumedomain).

        A guest that suspended itself asks whether it went on in a new domain (its call returns 0) or not (1).
        `fast=True` tells it that the suspend was cancelled, by 1 in its registers; the guest must know that
        answer. `fast=False` makes it believe in a new domain, as every guest can: of a PV domain start_info
        is rewritten and all vcpus but the first are reset. With neither nothing is changed in the guest.
        ValueError for either unless it is suspended.
        """
        from pyxc.domain.resume import resume

        resume(self, fast)

    def destroy(self, timeout: float = 30.0) -> None:
        """End it and free its memory (domctl destroydomain); returns when no domain has its id.

        The id can then be given to another domain: domains.create() waits the moment for which Xen keeps it
        since 4.21. `timeout` in seconds. DomainStuck names what holds a domain that stays dying.

        What pyxc wrote to xenstore for a guest that it launched is removed, and its devices are; what another
        toolstack wrote stays.
        """
        from pyxc.guest import remains

        self.look()
        left = remains.of(self)
        try:
            self.xen.call(domctl.DESTROYDOMAIN, self.domid)
        except errors.DomainNotFound:
            left.remove()
            return
        self._wait_until_gone(timeout)
        left.remove()

    def _wait_until_gone(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.exists():
            if time.monotonic() >= deadline:
                raise errors.DomainStuck(errno.ETIMEDOUT, self._why_stuck(timeout))
            time.sleep(_POLL_S)

    def _why_stuck(self, timeout: float) -> str:
        ours = [held for held in self.xen.link.maps if held.domid == self.domid]
        if ours:
            pages = sum(held.size for held in ours) // PAGE_SIZE
            cause = f"this process still maps {pages} of its pages in {len(ours)} mapping(s); close them"
        else:
            cause = "another process or a backend still maps its memory or grants"
        return f"domain {self.domid} is still dying after {timeout:g} s: {cause}"

    def dump_core(
        self,
        path: str | os.PathLike[str],
        *,
        pause: bool = True,
        force: bool = False,
        replace: bool = False,
        progress: Progress | None = None,
        provenance: Kept = "attributes",
    ) -> CoreDump:
        """Write its memory and registers into a file, as `xl dump-core` does (dump-core-format.txt of Xen).

        `pause` False lets it run during the dump: the pages are then from different moments. `progress` is
        called with the number of pages done and of all pages. `provenance` says how the file records where it
        comes from, see pyxc.files.writer; the file gets its name when it is complete, in place of another
        core dump of that name; with `replace` in place of any regular file, else FileExistsError.

        Unsupported for a PV domain whose p2m cannot be read and, unless `force`, for an HVM domain that has
        memory on demand, which that populates, or whose memory is not where it is looked for: see
        Memory.frames(). DomainGone when another domain gets its id before the end: the file stays partial.
        DecodeError when the guest lists more memory than it owns. OSError (ENOSPC) before the domain is
        paused where there is not enough space. ValueError for the domain that this process runs in.
        """
        from pyxc.guest import core_dump

        return core_dump.dump_core(
            self, path, pause=pause, force=force, replace=replace, progress=progress, provenance=provenance
        )

    def save(
        self,
        target: Target,
        *,
        live: bool | Live = False,
        suspend: Suspend = "ask",
        timeout: float = 60.0,
        resume: bool = False,
        compress: Compress | None = None,
        replace: bool = False,
        provenance: Kept = "attributes",
        progress: SaveWatcher | None = None,
    ) -> Saved:
        """Write it, with its memory and registers, as the stream that `xl restore` and Xen.restore() read.

        `target` is a path, an open file or pipe, or a socket. A file that is named gets its name when it is
        complete, as one of dump_core() does. `live` sends the memory while the guest runs, and again what it
        writes meanwhile; a Live says when it is stopped. It is then asked to suspend itself, for `timeout`
        seconds; `suspend="force"` stops a PVH guest from outside, wherever it is. `compress` is "gzip",
        "zstd" (the package zstandard) or "lz4" (the package lz4). `progress` is called with a SaveProgress.

        In the end the domain is suspended: destroy() it, or resume() it (fast=True, after "force" without);
        `resume` lets it run on. When anything fails, also under Ctrl-C, it runs on where it was, out of
        log-dirty mode. GuestUnable, GuestSilent: see Ask.suspend(). Unsupported for a guest with a device
        model, or with memory on demand. Not more than some MiB are held in memory.

        >>> web.save("web1.save", live=True)
        Saved(pages=65536, rounds=3, sent_bytes=268968704, downtime_s=0.21, total_s=2.4)
        """
        from pyxc.guest import save

        wanted = save.Wanted(live, suspend, timeout, resume, compress, replace, provenance, progress)
        return save.save(self, target, wanted)

    def set_max_memory(self, kb: int) -> None:
        """The KiB that it may own (domctl max_mem).

        Below what it owns now it just cannot grow; before Xen 4.1 that is EINVAL.
        """
        arguments.natural("kb", kb, 2**54)
        self.change(domctl.MAX_MEM, max_memkb=kb)

    def set_max_vcpus(self, count: int) -> None:
        """How many vcpus it has (domctl max_vcpus): from Xen 4.12 on exactly what it was created with.

        Before, from 4.0 on, it is set once; before that the number can grow, up to 32.
        """
        arguments.natural("count", count, MOST_VCPUS)
        self.change(domctl.MAX_VCPUS, max=count)

    def set_uuid(self, handle: uuid.UUID | str | bytes) -> None:
        """Give it another handle (domctl setdomainhandle); this object stands for it from then on."""
        new, old = arguments.handle(handle), self.uuid

        def restore() -> None:
            self.uuid = old
            if read_info(self.xen, self.domid).uuid == new:
                self.xen.call(domctl.SETDOMAINHANDLE, self.domid, handle=old.bytes)

        with undoing.on_interrupt(restore, f"domain {self.domid} may already have the name {new}"):
            self.change(domctl.SETDOMAINHANDLE, handle=new.bytes)
            self.uuid = new

    def set_guest_bits(self, bits: int) -> None:
        """Make a PV domain one for 32- or 64-bit guests (domctl set_address_size), before it has memory.

        PermissionDenied (EACCES) once it has; Unsupported by a Xen without 32-bit PV guests.
        """
        if bits not in (32, 64):
            raise ValueError(f"bits is {bits}: expected 32 or 64")
        self.change(domctl.SET_ADDRESS_SIZE, size=bits)

    def set_time_offset(self, seconds: int) -> None:
        """How far its wall clock is from that of the host, in seconds (domctl settimeoffset).

        32 bits up to Xen 4.5. The guest sees it when it next reads the time.
        """
        self.change(domctl.SETTIMEOFFSET, time_offset_seconds=seconds)

    def tsc_info(self) -> TscInfo:
        """How its time stamp counter runs (domctl gettscinfo). Unsupported before Xen 4.0."""
        from pyxc.domain import tsc

        return tsc.read(self)

    def set_tsc(self, mode: TscMode, khz: int = 0, *, incarnation: int = 0, elapsed_ns: int = 0) -> None:
        """How its time stamp counter is to run (domctl settscinfo), before the guest starts.

        `khz` 0 is as fast as the host's. `incarnation` and `elapsed_ns` are those of a domain that goes on
        here. EINVAL for a mode that this Xen does not have; nobody sets it for himself.
        """
        from pyxc.domain import tsc

        tsc.write(self, mode, khz, incarnation, elapsed_ns)

    def send_trigger(self, trigger: Trigger | int | str, vcpu: int = 0) -> None:
        """Press a button of its virtual machine (domctl sendtrigger).

        NMI for one vcpu of any domain; POWER and SLEEP for an HVM domain, EINVAL for PV; no x86 Xen does the
        others (Unsupported).
        """
        number = arguments.member("trigger", Trigger, trigger)
        arguments.natural("vcpu", vcpu, MOST_VCPUS - 1)
        self.change(domctl.SENDTRIGGER, trigger=number, vcpu=vcpu)

    def set_target(self, domain: Domain) -> None:
        """Make it the device model of an HVM domain (domctl set_target): it may act on that one's memory.

        Once; the other domain's id is not free before this one is gone. EINVAL when it has a target already.
        """
        domain.look()
        self.change(domctl.SET_TARGET, target=domain.domid)

    def set_debugging(self, enabled: bool) -> None:
        """Whether a debugger in dom0 gets its exceptions (domctl setdebugging): it stops at each of them."""
        self.change(domctl.SETDEBUGGING, enable=bool(enabled))

    def map_pirq(self, gsi: int, pirq: int | None = None) -> int:
        """Give it an interrupt line of the host (physdev_op map_pirq); answers its number in the domain.

        Xen chooses the number unless `pirq` does. A line that the domain has already keeps its number, and is
        EPERM up to Xen 4.16. Unsupported before 3.3, and in a dom0 with a 32-bit kernel.
        """
        from pyxc.domain import pirq as pirqs

        return pirqs.map_gsi(self, gsi, pirq)

    def unmap_pirq(self, pirq: int) -> None:
        """Take an interrupt line back (physdev_op unmap_pirq)."""
        from pyxc.domain import pirq as pirqs

        pirqs.unmap(self, pirq)

    def vnuma(self) -> Vnuma | None:
        """The NUMA topology that it sees (memory_op get_vnumainfo). None: just one node."""
        from pyxc.domain import vnuma

        return vnuma.read(self)

    def set_vnuma(self, topology: Vnuma) -> None:
        """The NUMA topology that it sees (domctl setvnumainfo), before it starts. Unsupported before 4.5."""
        from pyxc.domain import vnuma

        vnuma.write(self, topology)

    def node_affinity(self) -> frozenset[int]:
        """The NUMA nodes from which it gets memory at first (domctl getnodeaffinity, from Xen 4.3 on)."""
        from pyxc.domain import node_affinity

        return node_affinity.read(self)

    def set_node_affinity(self, nodes: Iterable[int] | None) -> None:
        """Change them (domctl setnodeaffinity). None: those of the cpus on which its vcpus may run.

        ValueError for no node. OSError EINVAL when none of them is online.
        """
        from pyxc.domain import node_affinity

        node_affinity.write(self, nodes)

    def pool(self) -> Pool | None:
        """The cpu pool that it is in; None before Xen 4.1, which has none (domctl getdomaininfo)."""
        from pyxc.host.pools import Pool

        pool_id = self.info().cpupool
        return None if pool_id is None else Pool(self.xen, pool_id)

    def scheduler(self) -> Scheduler | int:
        """The scheduler of its pool, a plain int where pyxc has no name for it (sysctl cpupool_op info)."""
        from pyxc.domain import scheduling

        return scheduling.scheduler_of(self)

    def scheduling(self) -> DomainParams | None:
        """Its share of the cpus (domctl scheduler_op getinfo): see the records in pyxc.host.scheduling.

        None under a scheduler without such parameters. Under rtds it is what a new vcpu gets; what each has
        is in vcpus.scheduling().
        """
        from pyxc.domain import scheduling

        return scheduling.read(self)

    def set_scheduling(
        self,
        *,
        weight: int | None = None,
        cap: int | None = None,
        period_us: int | None = None,
        budget_us: int | None = None,
        extratime: bool | None = None,
    ) -> None:
        """Change its share of the cpus; None leaves as it is (domctl scheduler_op putinfo, putvcpuinfo).

        credit and credit2 have `weight` and `cap`, in percent of a cpu, 0: no limit. rtds has the others, and
        gives them to all vcpus. ValueError for one that its scheduler does not have, and for values that make
        no sense, of which Xen would keep some: a cap of more than 100 for each vcpu, more budget than period.
        """
        from pyxc.domain import scheduling

        scheduling.write(
            self, weight=weight, cap=cap, period_us=period_us, budget_us=budget_us, extratime=extratime
        )

    def cpu_policy(self) -> CpuPolicy:
        """What cpus show to it: CPUID leaves and MSRs (domctl get_cpu_policy, Xen 4.12)."""
        from pyxc.host.cpu_policy import domain_policy

        return domain_policy(self.xen, self.domid)

    def set_cpu_policy(self, policy: CpuPolicy) -> None:
        """Change that, before it is unpaused the first time (domctl set_cpu_policy, Xen 4.13).

        `domain.set_cpu_policy(domain.cpu_policy().with_(avx2=False))`. EINVAL: the host cannot show that.
        Xen leaves out features that need one that is not shown.
        """
        from pyxc.host.cpu_policy import setting

        operation, fields = setting(self.xen, policy)
        self.change(operation, **fields)

    def label(self) -> str:
        """Its label in the security policy (xsm_op sid_to_context). Unsupported without FLASK."""
        from pyxc.host.flask import Flask

        return Flask(self.xen).context(self.info().ssidref)

    def set_label(self, label: str) -> None:
        """Give it another label, where the policy lets dom0 (xsm_op relabel_domain, since Xen 4.3)."""
        from pyxc.abi import flask
        from pyxc.host.flask import Flask

        self.change(flask.RELABEL_DOMAIN, sid=Flask(self.xen).sid(label))

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<Domain {self.domid}{name} {self.uuid} on {self.xen.link.target}>"
