# SPDX-License-Identifier: MIT
"""Domains: what they are, how they come, stop and go."""

from __future__ import annotations

import errno
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from pyxc import check, errors
from pyxc.abi import domctl, flask, hvm, sched
from pyxc.abi.domctl import DomainFlag
from pyxc.abi.hvm import HvmParam
from pyxc.abi.layout import Span
from pyxc.abi.sched import ShutdownReason
from pyxc.channels import Channels
from pyxc.cpu_policy import CpuPolicy, domain_policy
from pyxc.grants import Grants
from pyxc.memory import Memory
from pyxc.record import Record
from pyxc.vcpu import Vcpu, Vcpus

if TYPE_CHECKING:
    from pyxc.xen import Xen

MOST_VCPUS = 8192
"""More than that no domain has."""
_POLL_S = 0.05


class DomainInfo(NamedTuple):
    """A domain at one moment (domctl getdomaininfo, public/domctl.h). Frozen: safe in any thread.

    `*_pages` count pages of 4096 bytes, `cpu_time_ns` is nanoseconds on all vcpus together. None: this
    hypervisor does not tell.
    """

    domid: int
    flag_bits: int
    tot_pages: int
    max_pages: int
    outstanding_pages: int | None
    shr_pages: int | None
    paged_pages: int | None
    shared_info_frame: int
    cpu_time_ns: int
    nr_online_vcpus: int
    max_vcpu_id: int
    ssidref: int
    handle: bytes
    cpupool: int | None
    gpaddr_bits: int | None
    emulation_flags: int | None
    misc_flags: int | None

    @property
    def uuid(self) -> uuid.UUID:
        return uuid.UUID(bytes=self.handle)

    @property
    def flags(self) -> DomainFlag:
        """State and kind, without the shutdown reason."""
        return DomainFlag(self.flag_bits & 0xFFFF)

    @property
    def shutdown_reason(self) -> ShutdownReason | int | None:
        """Why it shut down, None while it has not; a plain int for a reason that pyxc has no name for."""
        if not self.flag_bits & DomainFlag.SHUTDOWN:
            return None
        reason = self.flag_bits >> 16 & 0xFF
        try:
            return ShutdownReason(reason)
        except ValueError:
            return reason

    @property
    def is_hvm(self) -> bool:
        """HVM or PVH: its frames are guest frames (gfn), translated by hardware or shadow."""
        return bool(self.flags & DomainFlag.HVM_GUEST)

    @property
    def paused(self) -> bool:
        return bool(self.flag_bits & DomainFlag.PAUSED)

    @property
    def dying(self) -> bool:
        return bool(self.flag_bits & DomainFlag.DYING)

    @property
    def memory_kb(self) -> int:
        """KiB that it owns."""
        return self.tot_pages * 4

    @property
    def max_memory_kb(self) -> int:
        """KiB that it may own."""
        return self.max_pages * 4

    @property
    def nr_vcpus(self) -> int:
        """Vcpus that it has, online or not.

        Before Xen 4.5 `max_vcpu_id` of a domain without vcpus is anything, and this at most MOST_VCPUS.
        """
        return self.max_vcpu_id + 1 if self.max_vcpu_id < MOST_VCPUS else 0

    def __repr__(self) -> str:
        fields = [f"{name}={value!r}" for name, value in zip(self._fields, self) if name not in _SHOWN_BETTER]
        shown = [f"domid={self.domid}", f"uuid={str(self.uuid)!r}", f"flags={self.flags!r}"]
        return f"DomainInfo({', '.join([*shown, f'shutdown_reason={self.shutdown_reason!r}', *fields])})"


_SHOWN_BETTER = ("domid", "flag_bits", "handle")


class FormerDomainInfo(DomainInfo):
    """The same of Xen 4.4 to 4.8, whose `flag_bits` are numbered otherwise."""

    __slots__ = ()

    @property
    def flags(self) -> DomainFlag:
        """State and kind, without the shutdown reason."""
        return domctl.former_flags(self.flag_bits)


INFO = Record(
    DomainInfo,
    domctl.GETDOMAININFO_STRUCT,
    (Span.of(0x9, 0xD), FormerDomainInfo),
    domid="domain",
    flag_bits="flags",
    cpu_time_ns="cpu_time",
    emulation_flags="arch_config.emulation_flags",
    misc_flags="arch_config.misc_flags",
)


class Domain:
    """One domain, known by (domid, uuid): domids are used again, so a destructive call first reads both anew.

    Between that reading and the call a domain can still be replaced; the window is microseconds.
    Threads: may be used by many.
    """

    def __init__(self, xen: Xen, domid: int, handle: uuid.UUID) -> None:
        self.xen = xen
        self.domid = domid
        self.uuid = handle
        self._handle = handle.bytes

    @property
    def name(self) -> str | None:
        """Its name in xenstore, None when it has none or nothing answers there."""
        return self.xen.names.domain_name(self.domid)

    @property
    def memory(self) -> Memory:
        return Memory(self)

    @property
    def channels(self) -> Channels:
        return Channels(self)

    @property
    def grants(self) -> Grants:
        return Grants(self)

    @property
    def vcpus(self) -> Vcpus:
        return Vcpus(self)

    def vcpu(self, index: int) -> Vcpu:
        return Vcpu(self, check.natural("vcpu", index, MOST_VCPUS - 1))

    def guest_bits(self) -> int:
        """32 for a 32-bit PV guest, else 64 (domctl get_address_size).

        From 4.14 on Xen refuses the question for HVM guests; before 3.1 there were 64-bit guests only.
        """
        try:
            return int(self.xen.call(domctl.GET_ADDRESS_SIZE, self.domid).field("size"))
        except errors.Unsupported:
            return 64

    def info(self) -> DomainInfo:
        """What it is now (domctl getdomaininfo). DomainNotFound: the id is free; DomainGone: not its."""
        info = read_info(self.xen, self.domid)
        if info.handle != self._handle:
            raise errors.DomainGone(f"domain {self.domid} is now {info.uuid}; {self.uuid} is gone")
        return info

    def exists(self) -> bool:
        """Whether the very same domain is still there, dying or not."""
        try:
            self.info()
        except (errors.DomainNotFound, errors.DomainGone):
            return False
        return True

    def pause(self) -> None:
        """Take all vcpus off the cpus (domctl pausedomain).

        Pauses nest, each needs its unpause; before Xen 4.5 a second one changes nothing.
        """
        self.xen.call(domctl.PAUSEDOMAIN, self.domid)

    def unpause(self) -> None:
        """Undo one pause (domctl unpausedomain). From Xen 4.5 on EINVAL when it was not paused from here."""
        self.xen.call(domctl.UNPAUSEDOMAIN, self.domid)

    def shutdown(self, reason: ShutdownReason | int = ShutdownReason.POWEROFF) -> None:
        """Stop it from outside, without asking the guest (sched_op remote_shutdown): it stays, shut down."""
        self.info()
        self.xen.call(sched.REMOTE_SHUTDOWN, self.domid, reason=int(reason))

    def resume(self) -> None:
        """Let a domain that shut down (suspended) go on (domctl resumedomain)."""
        self.info()
        self.xen.call(domctl.RESUMEDOMAIN, self.domid)

    def destroy(self, timeout: float = 30.0) -> None:
        """End it and free its memory (domctl destroydomain); returns when its id is free.

        `timeout` in seconds. DomainStuck names what holds a domain that stays dying.
        """
        self.info()
        try:
            self.xen.call(domctl.DESTROYDOMAIN, self.domid)
        except errors.DomainNotFound:
            return
        self._wait_until_gone(timeout)

    def _wait_until_gone(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.exists():
            if time.monotonic() >= deadline:
                raise errors.DomainStuck(errno.ETIMEDOUT, self._why_stuck(timeout))
            time.sleep(_POLL_S)

    def _why_stuck(self, timeout: float) -> str:
        ours = [held for held in self.xen.link.maps if held.domid == self.domid]
        if ours:
            pages = sum(held.size for held in ours) // 4096
            cause = f"this process still maps {pages} of its pages in {len(ours)} mapping(s); close them"
        else:
            cause = "another process or a backend still maps its memory or grants"
        return f"domain {self.domid} is still dying after {timeout:g} s: {cause}"

    def set_max_memory(self, kb: int) -> None:
        """The KiB that it may own (domctl max_mem).

        Below what it owns now it just cannot grow; before Xen 4.1 that is EINVAL.
        """
        check.natural("kb", kb, 2**54)
        self.xen.call(domctl.MAX_MEM, self.domid, max_memkb=kb)

    def set_max_vcpus(self, count: int) -> None:
        """How many vcpus it has (domctl max_vcpus): from Xen 4.12 on exactly what it was created with.

        Before, from 4.0 on, it is set once; before that the number can grow, up to 32.
        """
        check.natural("count", count, MOST_VCPUS)
        self.xen.call(domctl.MAX_VCPUS, self.domid, max=count)

    def set_uuid(self, handle: uuid.UUID | str | bytes) -> None:
        """Give it another handle (domctl setdomainhandle); this object stands for it from then on."""
        new = check.handle(handle)
        self.info()
        self.xen.call(domctl.SETDOMAINHANDLE, self.domid, handle=new.bytes)
        self.uuid, self._handle = new, new.bytes

    def hvm_param(self, param: HvmParam | int) -> int:
        """A parameter of an HVM or PVH domain (hvm_op get_param)."""
        check.natural("param", param, 2**32 - 1)
        return int(self.xen.call(hvm.GET_PARAM, self.domid, index=int(param)).field("value"))

    def set_hvm_param(self, param: HvmParam | int, value: int) -> None:
        """Set a parameter of an HVM or PVH domain (hvm_op set_param)."""
        check.natural("param", param, 2**32 - 1)
        check.natural("value", value, 2**64 - 1)
        self.xen.call(hvm.SET_PARAM, self.domid, index=int(param), value=value)

    def cpu_policy(self) -> CpuPolicy:
        """What cpus show to it: CPUID leaves and MSRs (domctl get_cpu_policy, Xen 4.12)."""
        return domain_policy(self.xen, self.domid)

    @property
    def label(self) -> str:
        """Its label in the security policy (xsm_op sid_to_context). Unsupported without FLASK."""
        return self.xen.flask.context(self.info().ssidref)

    def set_label(self, label: str) -> None:
        """Give it another label, where the policy lets dom0 (xsm_op relabel_domain, Xen 4.3)."""
        sid = self.xen.flask.sid(label)
        self.info()
        self.xen.call(flask.RELABEL_DOMAIN, self.domid, sid=sid)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Domain):
            return NotImplemented
        return (self.xen, self.domid, self.uuid) == (other.xen, other.domid, other.uuid)

    def __hash__(self) -> int:
        return hash((self.domid, self.uuid))

    def __repr__(self) -> str:
        return f"<Domain {self.domid} {self.uuid} on {self.xen.link.target}>"


def read_info(xen: Xen, domid: int) -> DomainInfo:
    """One domain (domctl getdomaininfo). Up to 4.17 Xen answers with the next one when the id is free."""
    info = xen.caller.read(domctl.GETDOMAININFO, INFO, domid)
    if info.domid != domid:
        raise xen.caller.error(domctl.GETDOMAININFO, errno.ESRCH, domid)
    return info
