# SPDX-License-Identifier: MIT
"""A domain: what can be asked of it and done to it; what takes longer is in a module of its topic."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from pyxc import arguments
from pyxc.abi import domctl, sched
from pyxc.abi.domctl import Scheduler, Trigger
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.identity import Identity
from pyxc.domain.info import MOST_VCPUS

if TYPE_CHECKING:  # each is imported by what hands it out: most programs use few
    import uuid
    from contextlib import AbstractContextManager

    from pyxc.abi.domctl_tsc import TscMode
    from pyxc.domain.ask import Ask
    from pyxc.domain.channels import Channels
    from pyxc.domain.console import Console
    from pyxc.domain.ending import Condition, State
    from pyxc.domain.grants import Grants
    from pyxc.domain.hvm_context import HvmContexts
    from pyxc.domain.hvm_params import HvmParams
    from pyxc.domain.info import DomainInfo
    from pyxc.domain.log_dirty import LogDirty
    from pyxc.domain.memory import Memory
    from pyxc.domain.pci import Pci
    from pyxc.domain.permissions import Permissions
    from pyxc.domain.state import DomainState
    from pyxc.domain.tsc import TscInfo
    from pyxc.domain.vcpus import Vcpu, Vcpus
    from pyxc.domain.vnuma import Vnuma
    from pyxc.guest.core_dump import CoreDump, Form, Kept
    from pyxc.guest.core_format import Progress
    from pyxc.guest.migrate import Ends, Migrated
    from pyxc.guest.save import Compress, Live, Saved, Suspend, Target
    from pyxc.guest.save import Progress as SaveWatcher
    from pyxc.host.cpu_policy import CpuPolicy
    from pyxc.host.pools import Pool
    from pyxc.host.scheduling import DomainParams


class Domain(Identity):
    """One domain, identified by (domid, uuid): Xen reuses domids, so every change first checks both.

    A domain can still be replaced between that check and the change; the window is microseconds. DomainGone
    if another domain now has the id, DomainNotFound if none has. Properties are known or cached; methods ask
    the hypervisor. Threads: safe to share.

    Example:

    >>> web = xen.domains["web1"]
    >>> web.pause()
    >>> web.info().paused
    True
    """

    @property
    def name(self) -> str | None:
        """Its name in xenstore, cached once it is known.

        None if it has none, or, with a warning, if xenstore is not available at the moment.
        """
        if self._name is None:
            self._name = self.xen.names.domain_name(self.domid, self.uuid)
        return self._name

    def set_name(self, name: str) -> None:
        """Set its name in xenstore; no other living domain may have it.

        ValueError for a name that is in use, or that reads as an id or a UUID.
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
        """Its state, its role on the host, and its unique id (domctl get_domain_state).

        The state is that of whichever domain has the id now. Unsupported before Xen 4.21.
        """
        from pyxc.domain.state import read_state

        return read_state(self.xen, self.domid)

    def pause(self) -> None:
        """Pause it: its vcpus do not run (domctl pausedomain).

        Pauses nest, and each needs its unpause; before Xen 4.5 a second pause has no effect.

        Example:

        >>> web.pause()
        >>> web.info().paused
        True
        """
        self.change(domctl.PAUSEDOMAIN)

    def paused(self) -> AbstractContextManager[None]:
        """Pause it for a `with` block; a domain that is already paused is not changed.

        Example:

        >>> with web.paused():
        ...     web.info().paused
        True
        >>> web.info().paused
        False
        """
        from pyxc.domain.pausing import paused

        return paused(self)

    def unpause(self) -> None:
        """Undo one pause (domctl unpausedomain). Since Xen 4.5 EINVAL if no toolstack has paused it.

        Example:

        >>> build.unpause()
        >>> build.info().paused
        False
        """
        self.change(domctl.UNPAUSEDOMAIN)

    def shutdown(self, reason: ShutdownReason | int | str = ShutdownReason.POWEROFF) -> None:
        """Shut it down without asking the guest (sched_op remote_shutdown); the domain remains, shut down.

        ask.poweroff() asks the guest.

        Example:

        >>> web.shutdown("crash")
        >>> web.info().shutdown_reason
        <ShutdownReason.CRASH: 3>
        """
        self.change(sched.REMOTE_SHUTDOWN, reason=arguments.member("reason", ShutdownReason, reason))

    def wait(self, until: State | Condition, timeout: float | None = None) -> DomainInfo | None:
        """Wait until it is "blocked", "crashed", "dying", "paused", "running" or "shut_down", or until a
        function of its info returns something true; returns that info, or None if the domain has gone.

        TimeoutError after `timeout` seconds. It checks ten times a second (domctl getdomaininfo).

        Example:

        >>> web.pause()
        >>> web.wait("paused", timeout=10).paused
        True
        >>> web.wait(lambda info: info.memory_kb <= 64 << 10, timeout=10).memory_kb
        65536
        """
        from pyxc.domain import ending

        return ending.wait(self, until, timeout)

    def wait_shut_down(self, timeout: float | None = None) -> ShutdownReason | int | None:
        """Wait until it has shut down, and return the reason, or None if it has gone instead.

        TimeoutError after `timeout` seconds. It checks ten times a second (domctl getdomaininfo).
        """
        from pyxc.domain import ending

        return ending.wait_shut_down(self, timeout)

    def resume(self, fast: bool | None = None) -> None:
        """Resume a domain that has shut down (domctl resumedomain).

        To a guest that suspended itself, the result of its call says whether it continues in a new domain (0)
        or not (1). `fast=True` writes 1 to its registers, for a cancelled suspend, which the guest must
        support. `fast=False` works for every guest, and makes it believe that it is in a new domain: for a PV
        domain this rewrites start_info and resets all vcpus but the first. With None nothing is changed in
        the guest. xenstored, if it serves the domain, then reports its next end. ValueError for True and
        False unless it is suspended.
        """
        from pyxc.domain.resume import resume

        resume(self, fast)

    def destroy(self, timeout: float = 30.0) -> None:
        """Destroy it and free its memory (domctl destroydomain); returns when it has gone.

        Its id can then be reused: since 4.21 Xen keeps it for a moment, for which domains.create() waits.
        `timeout` is in seconds. DomainStuck says what holds a domain that remains dying.

        For a guest that pyxc launched this also removes its nodes in xenstore and its devices; of a guest of
        xl's only its disks and networks, which would keep it dying: xl's own nodes remain.

        Example:

        >>> web.destroy()
        >>> web.exists()
        False
        """
        from pyxc.domain import ending
        from pyxc.guest import remains

        ending.destroy(self, timeout, remains.of)

    def dump_core(
        self,
        path: str | os.PathLike[str],
        *,
        pause: bool = True,
        force: bool = False,
        replace: bool = False,
        progress: Progress | None = None,
        provenance: Kept = "attributes",
        format: Form = "xen",
        vmcoreinfo: bytes | None = None,
    ) -> CoreDump:
        """Write its memory and registers to a file, as `xl dump-core` does (Xen's dump-core-format.txt).

        With `format` "vmcore" the file is as Linux's own crash dumps are: for crash, drgn, makedumpfile, gdb;
        with "kdump" it is compressed.
        `vmcoreinfo` is then the kernel's description of itself, which is searched for if it is None.

        `pause` False lets it run during the dump: the pages are then not consistent. `progress` is called
        with the number of pages done and in total. `provenance` says how to record the provenance of the
        file, see pyxc.files.writer. The file gets its name when it is complete. It replaces another core
        dump, with `replace` any regular file; otherwise FileExistsError.

        Unsupported for a PV domain whose p2m cannot be read and, unless `force`, for an HVM domain with
        memory populated on demand, which this populates, or with memory far above the usual addresses: see
        Memory.frames(). DomainGone if another domain gets its id during the dump: the file remains
        incomplete. DecodeError if the guest lists more memory than it owns. OSError (ENOSPC), before the
        domain is paused, if there is not enough space. ValueError for the domain that this process runs in.

        Example:

        >>> build.dump_core("build.core")
        CoreDump(nr_pages=8192, nr_missing=0, nr_vcpus=1, kernel=None)
        """
        from pyxc.guest import core_dump

        return core_dump.dump_core(
            self,
            path,
            pause=pause,
            force=force,
            replace=replace,
            progress=progress,
            provenance=provenance,
            form=format,
            vmcoreinfo=vmcoreinfo,
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
        max_bytes_per_s: int | None = None,
    ) -> Saved:
        """Write it, with its memory and registers, as the stream that `xl restore` and Xen.restore() read.

        `target` is a path, an open file or pipe, or a socket. A file gets its name when it is complete, like
        that of dump_core(). `live` sends the memory while the guest runs, and sends pages again that it
        writes meanwhile; a Live object says when to stop the guest. Then the guest is asked to suspend
        itself, for `timeout` seconds; `suspend="force"` stops a PVH guest from outside, at any instruction.
        `compress` is "gzip", "zstd" (the package zstandard) or "lz4" (the package lz4). `progress` is called
        with a SaveProgress. `max_bytes_per_s` limits how fast the stream leaves, but for what is sent after a
        `live` save has stopped the guest.

        Afterwards the domain is suspended: destroy() it, or resume() it (with fast=True unless "force");
        `resume` does that. If anything fails, also under Ctrl-C, the domain continues to run, without
        log-dirty mode. GuestUnable, GuestSilent: see Ask.suspend(). Unsupported for a guest with a device
        model, or with memory on demand. At most some MiB are held in memory.

        Example:

        >>> saved = db1.save("db1.save", suspend="force")
        >>> saved.pages, saved.rounds
        (32776, 0)
        """
        from pyxc.guest import save

        wanted = save.Wanted(
            live, suspend, timeout, resume, compress, replace, provenance, progress, max_bytes_per_s
        )
        return save.save(self, target, wanted)

    def migrate(
        self,
        ends: Ends,
        *,
        live: bool | Live = True,
        suspend: Suspend = "ask",
        timeout: float = 60.0,
        progress: SaveWatcher | None = None,
        max_bytes_per_s: int | None = None,
    ) -> Migrated:
        """Move it to another host, where Xen.receive(), `pyxc migrate-receive` or `xl migrate-receive` waits.

        `ends` is a connected socket, or the descriptors to read from and to write to, for example those of an
        ssh process that runs one of these commands. For the other arguments see save(); `timeout` also bounds
        the silence of the other side once it has answered. Afterwards the guest runs there, and the domain
        here is suspended, with "--migratedaway" after its name: destroy() it.

        It never runs on both hosts: see pyxc.guest.handshake. If anything fails, also under Ctrl-C, it
        continues here, except after MigrationInDoubt: the connection broke when the other host was already
        allowed to run it. Then it remains suspended; check the other host, and resume() it here if it does
        not run there.
        """
        from pyxc.guest import migrate, save

        wanted = save.Wanted(live, suspend, timeout, False, None, False, "none", progress, max_bytes_per_s)
        return migrate.migrate(self, ends, wanted, timeout)

    def set_max_memory(self, kb: int) -> None:
        """Set the KiB that it may own (domctl max_mem).

        With less than it owns now it cannot grow; before Xen 4.1 that is EINVAL.
        """
        arguments.natural("kb", kb, 2**54)
        self.change(domctl.MAX_MEM, max_memkb=kb)

    def set_max_vcpus(self, count: int) -> None:
        """Set the number of its vcpus (domctl max_vcpus); since Xen 4.12 it must equal that of its creation.

        From 4.0 to 4.11 it can be set once; before 4.0 it can grow, up to 32.
        """
        arguments.natural("count", count, MOST_VCPUS)
        self.change(domctl.MAX_VCPUS, max=count)

    def set_uuid(self, handle: uuid.UUID | str | bytes) -> None:
        """Change its UUID (domctl setdomainhandle); this object then has the new one."""
        from pyxc.domain import naming

        naming.write_uuid(self, arguments.handle(handle))

    def set_guest_bits(self, bits: int) -> None:
        """Prepare a PV domain for a 32-bit or 64-bit guest (domctl set_address_size), before it has memory.

        PermissionDenied (EACCES) once it has memory; Unsupported by a Xen without 32-bit PV guests.
        """
        if bits not in (32, 64):
            raise ValueError(f"bits is {bits}: expected 32 or 64")
        self.change(domctl.SET_ADDRESS_SIZE, size=bits)

    def set_time_offset(self, seconds: int) -> None:
        """Set the difference of its wall clock from the host's, in seconds (domctl settimeoffset).

        32 bits up to Xen 4.5. The guest sees the change when it next reads the time.
        """
        self.change(domctl.SETTIMEOFFSET, time_offset_seconds=seconds)

    def tsc_info(self) -> TscInfo:
        """The mode of its time stamp counter (domctl gettscinfo). Unsupported before Xen 4.0."""
        from pyxc.domain import tsc

        return tsc.read(self)

    def set_tsc(self, mode: TscMode, khz: int = 0, *, incarnation: int = 0, elapsed_ns: int = 0) -> None:
        """Set the mode of its time stamp counter (domctl settscinfo), before the guest starts.

        `khz` 0 is the host's frequency. `incarnation` and `elapsed_ns` are for a restored domain. EINVAL for
        a mode that this Xen does not have, and for the calling domain.
        """
        from pyxc.domain import tsc

        tsc.write(self, mode, khz, incarnation, elapsed_ns)

    def send_trigger(self, trigger: Trigger | int | str, vcpu: int = 0) -> None:
        """Send it a trigger, such as a button press (domctl sendtrigger).

        NMI for one vcpu of any domain; POWER and SLEEP for an HVM domain, EINVAL for PV; no Xen for x86 has
        the others (Unsupported).
        """
        number = arguments.member("trigger", Trigger, trigger)
        arguments.natural("vcpu", vcpu, MOST_VCPUS - 1)
        self.change(domctl.SENDTRIGGER, trigger=number, vcpu=vcpu)

    def set_target(self, domain: Domain) -> None:
        """Make it the device model of an HVM domain (domctl set_target): it may access that domain's memory.

        This works once; EINVAL if it already has a target. The other domain's id becomes free only after this
        domain has gone.
        """
        domain.look()
        self.change(domctl.SET_TARGET, target=domain.domid)

    def set_debugging(self, enabled: bool) -> None:
        """Set whether a debugger in dom0 gets its exceptions (domctl setdebugging); it pauses at each of
        them."""
        self.change(domctl.SETDEBUGGING, enable=bool(enabled))

    def map_pirq(self, gsi: int, pirq: int | None = None) -> int:
        """Give it an interrupt line of the host (physdev_op map_pirq); returns the domain's number for it.

        Xen chooses the number unless `pirq` is given. A line that the domain already has keeps its number; up
        to Xen 4.16 it is EPERM. Unsupported before 3.3, and in a dom0 with a 32-bit kernel.
        """
        from pyxc.domain import pirq as pirqs

        return pirqs.map_gsi(self, gsi, pirq)

    def unmap_pirq(self, pirq: int) -> None:
        """Take an interrupt line back (physdev_op unmap_pirq)."""
        from pyxc.domain import pirq as pirqs

        pirqs.unmap(self, pirq)

    def vnuma(self) -> Vnuma | None:
        """Its virtual NUMA topology (memory_op get_vnumainfo); None if it has a single node."""
        from pyxc.domain import vnuma

        return vnuma.read(self)

    def set_vnuma(self, topology: Vnuma) -> None:
        """Set its virtual NUMA topology (domctl setvnumainfo), before it starts. Unsupported before Xen
        4.5."""
        from pyxc.domain import vnuma

        vnuma.write(self, topology)

    def node_affinity(self) -> frozenset[int]:
        """The NUMA nodes from which it preferably gets memory (domctl getnodeaffinity, since Xen 4.3)."""
        from pyxc.domain import node_affinity

        return node_affinity.read(self)

    def set_node_affinity(self, nodes: Iterable[int] | None) -> None:
        """Change these nodes (domctl setnodeaffinity). None: those of the cpus on which its vcpus may run.

        ValueError for an empty set. OSError EINVAL if none of the nodes is online.
        """
        from pyxc.domain import node_affinity

        node_affinity.write(self, nodes)

    def pool(self) -> Pool | None:
        """Its cpu pool (domctl getdomaininfo); None before Xen 4.1, which has no pools."""
        from pyxc.host.pools import Pool

        pool_id = self.info().cpupool
        return None if pool_id is None else Pool(self.xen, pool_id)

    def scheduler(self) -> Scheduler | int:
        """The scheduler of its pool, a plain int if pyxc has no name for it (sysctl cpupool_op info)."""
        from pyxc.domain import scheduling

        return scheduling.scheduler_of(self)

    def scheduling(self) -> DomainParams | None:
        """Its share of the cpus (domctl scheduler_op getinfo): see the records in pyxc.host.scheduling.

        None under a scheduler without such parameters. Under rtds these are the parameters of a new vcpu;
        vcpus.scheduling() returns those of each vcpu.

        Example:

        >>> web.scheduling()
        Credit2Params(weight=256, cap=0)
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
        """Change its share of the cpus; None keeps a value (domctl scheduler_op putinfo, putvcpuinfo).

        credit and credit2 have `weight` and `cap`, in percent of a cpu, 0: no limit. rtds has the others, and
        sets them for all vcpus. ValueError for a parameter that its scheduler does not have, and for invalid
        values that Xen may accept: a cap of more than 100 for each vcpu, more budget than period.
        """
        from pyxc.domain import scheduling

        scheduling.write(
            self, weight=weight, cap=cap, period_us=period_us, budget_us=budget_us, extratime=extratime
        )

    def cpu_policy(self) -> CpuPolicy:
        """The CPUID leaves and MSRs that it sees (domctl get_cpu_policy, since Xen 4.12)."""
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
        """Change its label, if the policy allows dom0 to do so (xsm_op relabel_domain, since Xen 4.3)."""
        from pyxc.abi import flask
        from pyxc.host.flask import Flask

        self.change(flask.RELABEL_DOMAIN, sid=Flask(self.xen).sid(label))

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        return f"<Domain {self.domid}{name} {self.uuid} on {self.xen.link.target}>"
