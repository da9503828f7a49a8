# SPDX-License-Identifier: MIT
"""The state of a domain at one moment."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from pyxc.abi import domctl
from pyxc.abi.domctl import SHUTDOWN_MASK, SHUTDOWN_SHIFT, DomainFlag
from pyxc.abi.layout import Span
from pyxc.abi.page import PAGE_KB, pages_kb
from pyxc.abi.sched import ShutdownReason
from pyxc.call.records import Record
from pyxc.host.host import Host

if TYPE_CHECKING:
    import uuid

_FLAGS = (1 << SHUTDOWN_SHIFT) - 1
"""The bits of a domain's flags; above them is the shutdown reason."""
_DYING = DomainFlag.DYING.value
_HVM_GUEST = DomainFlag.HVM_GUEST.value
_SHUTDOWN = DomainFlag.SHUTDOWN.value
_PAUSED = DomainFlag.PAUSED.value
_BLOCKED = DomainFlag.BLOCKED.value
_RUNNING = DomainFlag.RUNNING.value
"""Plain ints: with flags each test would make another flag, which takes ten times as long."""

MOST_VCPUS = 8192
"""No domain has more vcpus."""


class DomainInfo(NamedTuple):
    """A domain at one moment (domctl getdomaininfo, public/domctl.h). Threads: safe to share.

    `*_pages` count pages of 4096 bytes, `cpu_time_ns` is in nanoseconds, of all vcpus together. None: this
    hypervisor does not report the value.

    Example:

    >>> info = web.info()
    >>> info.domid, info.memory_kb, info.paused, info.flags
    (1, 65536, False, <DomainFlag.BLOCKED: 16>)
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
        import uuid

        return uuid.UUID(bytes=self.handle)

    @property
    def flags(self) -> DomainFlag:
        """State and kind, without the shutdown reason."""
        return DomainFlag(self.flag_bits & _FLAGS)

    @property
    def shutdown_reason(self) -> ShutdownReason | int | None:
        """Why it shut down, None if it has not; a plain int if pyxc has no name for the reason."""
        if not self.flag_bits & _SHUTDOWN:
            return None
        reason = self.flag_bits >> SHUTDOWN_SHIFT & SHUTDOWN_MASK
        try:
            return ShutdownReason(reason)
        except ValueError:
            return reason

    @property
    def is_hvm(self) -> bool:
        """HVM or PVH: its frames are guest frames (gfn), translated by hardware or shadow."""
        return bool(self.flag_bits & _HVM_GUEST)

    @property
    def paused(self) -> bool:
        return bool(self.flag_bits & _PAUSED)

    @property
    def running(self) -> bool:
        """One of its vcpus is running on a cpu."""
        return bool(self.flag_bits & _RUNNING)

    @property
    def blocked(self) -> bool:
        """All of its vcpus wait for events."""
        return bool(self.flag_bits & _BLOCKED)

    @property
    def shut_down(self) -> bool:
        """It has shut down, for `shutdown_reason`, and still exists."""
        return bool(self.flag_bits & _SHUTDOWN)

    @property
    def crashed(self) -> bool:
        """It has shut down because it crashed."""
        return self.shutdown_reason == ShutdownReason.CRASH

    @property
    def dying(self) -> bool:
        return bool(self.flag_bits & _DYING)

    @property
    def memory_kb(self) -> int:
        """KiB that it owns."""
        return self.tot_pages * PAGE_KB

    @property
    def max_memory_kb(self) -> int:
        """KiB that it may own."""
        return self.max_pages * PAGE_KB

    @property
    def outstanding_memory_kb(self) -> int | None:
        """KiB that it has claimed and not yet received; None if not reported."""
        return pages_kb(self.outstanding_pages)

    @property
    def nr_vcpus(self) -> int:
        """The number of its vcpus, online or not.

        Before Xen 4.5 `max_vcpu_id` of a domain without vcpus is undefined, and this at most MOST_VCPUS.
        """
        return self.max_vcpu_id + 1 if self.max_vcpu_id < MOST_VCPUS else 0

    @staticmethod
    def shown_as() -> dict[str, tuple[str, ...]]:
        """The attributes that repr() and asdict() show instead of a raw field."""
        return {"flag_bits": ("flags", "shutdown_reason"), "handle": ("uuid",)}

    def _repr_html_(self) -> str:
        from pyxc.call import notebook

        return notebook.of_record(self)

    def __repr__(self) -> str:
        fields = [f"{name}={value!r}" for name, value in zip(self._fields, self) if name not in _SHOWN_FIRST]
        shown = [f"domid={self.domid}", f"uuid={str(self.uuid)!r}", f"flags={self.flags!r}"]
        return f"DomainInfo({', '.join([*shown, f'shutdown_reason={self.shutdown_reason!r}', *fields])})"


_SHOWN_FIRST = ("domid", *DomainInfo.shown_as())


class FormerDomainInfo(DomainInfo):
    """The same for Xen 4.4 to 4.8: apart from those of the state, `flag_bits` have different numbers."""

    __slots__ = ()

    @property
    def flags(self) -> DomainFlag:
        """State and kind, without the shutdown reason."""
        return domctl.former_flags(self.flag_bits)

    @property
    def is_hvm(self) -> bool:
        return bool(self.flags & DomainFlag.HVM_GUEST)


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


def read_info(xen: Host, domid: int) -> DomainInfo:
    """One domain (domctl getdomaininfo). Up to 4.17 Xen returns the next domain if the id is free."""
    info = xen.caller.read(domctl.GETDOMAININFO, INFO, domid)
    check_id(xen, info, domid)
    return info


def check_id(xen: Host, info: DomainInfo, domid: int) -> None:
    """DomainNotFound where the answer is about another domain than the one that was asked for."""
    if info.domid != domid:
        raise xen.caller.error(domctl.GETDOMAININFO, errno.ESRCH, domid)
