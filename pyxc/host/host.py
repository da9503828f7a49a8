# SPDX-License-Identifier: MIT
"""The base class of an open hypervisor: how to call it, and facts that do not change."""

from __future__ import annotations

import sys
from array import array
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self, SupportsIndex, TypeVar

from pyxc import answers, arguments, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import sysctl, version
from pyxc.abi.domctl import Scheduler
from pyxc.abi.former import former
from pyxc.abi.operation import Operation
from pyxc.abi.sysctl import Capability
from pyxc.call.caller import Caller
from pyxc.call.reply import Reply
from pyxc.link import Link
from pyxc.store import Names, StoreClient

if TYPE_CHECKING:  # imported by what returns them: most programs ask for few
    from collections.abc import Callable

    from pyxc.abi.features import Feature
    from pyxc.call.records import Record
    from pyxc.host.physinfo import PhysInfo
    from pyxc.host.version import Build, Version

_STRINGS = (
    (version.EXTRAVERSION2, version.EXTRAVERSION),
    (version.CAPABILITIES2, version.CAPABILITIES),
    (version.CHANGESET2, version.CHANGESET),
    (version.COMMANDLINE2, version.COMMANDLINE),
)
"""What a hypervisor reports of itself: the whole, and what a structure holds."""
_SIZED = (version.VARBUF_STRUCT, version.BUILD_ID_STRUCT)
_WHOLE = {"len": PAGE_SIZE - 4}
"""How long a string such a structure has space for."""
Part = TypeVar("Part", Names, StoreClient)


class Host:
    """The base class of Xen, which the parts of a hypervisor and its domains use.

    Threads: safe to share; in a child after fork it refuses.
    """

    own_domid = 0
    """The domain in which this process runs: tools run in dom0."""

    def __init__(self, link: Link, caller: Caller, names: bool = True) -> None:
        self._closed = False
        self.link = link
        self.caller = caller
        self.call = caller.call
        self.interface = caller.interface
        self._facts: dict[Operation, Reply | errors.HypercallError] = {}
        self._use_names = names

    @property
    def names(self) -> Names:
        """Names of domains and pools, from xenstore, through a separate connection while they are read."""
        return self._only("_names", lambda: Names(self.link.connect_store, self.link.target, self._use_names))

    @property
    def store(self) -> StoreClient:
        """xenstore, through a separate connection that is opened on first use."""
        return self._only("_store", lambda: StoreClient(self.link.connect_store, readonly=self.readonly))

    def _only(self, key: str, make: Callable[[], Part]) -> Part:
        """A part that is made on first use. All threads get the same one."""
        part: Part | None = self.__dict__.get(key)
        if part is None:
            part = self.__dict__.setdefault(key, make())
            if self._closed:
                part.close()
        return part

    @property
    def readonly(self) -> bool:
        return self.caller.readonly

    @cached_property
    def version(self) -> Version:
        """The Xen version (xen_version version, extraversion)."""
        from pyxc.host.version import Version

        release = version.release(self._ask(version.VERSION).result)
        extra = self._reported(version.EXTRAVERSION2, version.EXTRAVERSION)
        return Version(*release, extra)

    @cached_property
    def capabilities(self) -> tuple[str, ...]:
        """The kinds of guests, such as "xen-3.0-x86_64", "hvm-3.0-x86_64" (xen_version capabilities)."""
        return tuple(self._reported(version.CAPABILITIES2, version.CAPABILITIES).split())

    @cached_property
    def commandline(self) -> str | None:
        """The boot command line (xen_version commandline). None before Xen 4.0."""
        if not self.caller.supports(version.COMMANDLINE):
            return None
        return self._reported(version.COMMANDLINE2, version.COMMANDLINE)

    def _reported(self, whole: Operation, cut: Operation) -> str:
        """A string that it reports of itself: the whole (since Xen 4.20), or as much as a structure holds."""
        from pyxc.host.version import text

        if self.caller.supports(whole):
            reply = self._ask(whole, **_WHOLE)
            return text(reply.field("buf")[: reply.result])
        return text(self._ask(cut).field(cut.name))

    def _ask(self, operation: Operation, **fields: int) -> Reply:
        """A fact from read_facts(), or from a separate call."""
        fact = self._facts.get(operation)
        if isinstance(fact, errors.HypercallError):
            raise fact
        return fact or self.call(operation, **fields)

    def read_facts(self) -> None:
        """Read version, capabilities, commandline, virt_start and build in one multicall; they are kept.

        Each alone is a call of its own, or several, when it is first looked at.
        """
        strings = [
            whole if self.caller.supports(whole) else cut
            for whole, cut in _STRINGS
            if self.caller.supports(cut)
        ]
        plain = (version.VERSION, version.PLATFORM_PARAMETERS, version.COMPILE_INFO)
        asked = dict.fromkeys([*plain, *strings, version.BUILD_ID])
        self._facts = self.caller.together(
            {one: _WHOLE if one.body in _SIZED else {} for one in asked if self.caller.supports(one)}
        )
        try:
            for name in ("version", "capabilities", "commandline", "virt_start", "build"):
                getattr(self, name)
        finally:
            self._facts = {}

    @cached_property
    def features(self) -> Feature:
        """The features for dom0 (xen_version get_features, submap 0: there is no other)."""
        from pyxc.abi.features import Feature

        return Feature(self.call(version.GET_FEATURES, submap_idx=0).field("submap"))

    @cached_property
    def virt_start(self) -> int:
        """The first of Xen's own addresses in a PV guest (xen_version platform_parameters)."""
        return int(self._ask(version.PLATFORM_PARAMETERS).field("virt_start"))

    @cached_property
    def build(self) -> Build:
        """Facts about its build (xen_version compile_info, changeset, build_id)."""
        from pyxc.host.version import Build, text

        reply = self._ask(version.COMPILE_INFO)
        return Build(
            compiler=text(reply.field("compiler")),
            compile_by=text(reply.field("compile_by")),
            compile_domain=text(reply.field("compile_domain")),
            compile_date=text(reply.field("compile_date")),
            changeset=self._reported(version.CHANGESET2, version.CHANGESET),
            build_id=self._build_id(),
        )

    def _build_id(self) -> str | None:
        try:
            reply = self._ask(version.BUILD_ID, **_WHOLE)
        except errors.HypercallError:
            return None
        return bytes(reply.field("buf")[: reply.result]).hex()

    def physinfo(self) -> PhysInfo:
        """The present state of the host: cpus, memory, capabilities (sysctl physinfo)."""
        record, counted = self._physinfo
        info = self.caller.read(sysctl.PHYSINFO, record)
        return info if info.sockets_per_node is None else counted(info)

    @cached_property
    def _physinfo(self) -> tuple[Record[PhysInfo], Callable[[PhysInfo], PhysInfo]]:
        """What physinfo() takes: it may be asked often."""
        from pyxc.host.physinfo import PHYSINFO, counted

        return PHYSINFO, counted

    @cached_property
    def nr_cpus(self) -> int:
        """The highest possible cpu id plus one."""
        info = self.physinfo()
        count = info.nr_cpus if info.max_cpu_id is None else info.max_cpu_id + 1
        return answers.number("number of cpus", count, answers.MOST_CPUS, 1)

    @cached_property
    def platform(self) -> Capability:
        """The capabilities of the platform: hvm, hap, ... (sysctl physinfo capabilities).

        Before Xen 3.3 they follow from the kinds of guests, see `capabilities`.
        """
        bits = self.physinfo().capability_bits
        if bits is not None:
            return sysctl.capabilities(bits, self.interface.sysctl)
        hvm = any(kind.startswith("hvm-") for kind in self.capabilities)
        return Capability.PV | (Capability.HVM if hvm else Capability(0))

    @cached_property
    def grant_version(self) -> int:
        """The newest grant table version that a new domain may use."""
        return 2 if Capability.GNTTAB_V2 in self.platform else 1

    @cached_property
    def scheduler(self) -> Scheduler | int:
        """The default scheduler (sysctl sched_id), a plain int if pyxc has no name for it."""
        schedulers = former("Scheduler")() if self.interface.dom0_op else Scheduler
        number: int = self.call(sysctl.SCHED_ID).field("sched_id")
        known: Scheduler | int = schedulers(number) if number in schedulers.__members__.values() else number
        return known

    @property
    def swapped(self) -> bool:
        """Whether its byte order differs from this machine's."""
        return self.interface.byteorder != sys.byteorder

    def words(self, data: bytes | memoryview) -> array[int]:
        """Convert u64s between the hypervisor's byte order and this machine's."""
        words = array("Q")
        words.frombytes(data)
        if self.swapped:
            words.byteswap()
        return words

    def words32(self, data: bytes) -> array[int]:
        """The same for u32s."""
        words = array("I", data)
        if self.swapped:
            words.byteswap()
        return words

    def check_writable(self, what: str) -> None:
        """ReadOnlyError on a handle that was opened read-only."""
        if self.readonly:
            raise errors.ReadOnlyError(f"{what} makes changes, and this handle is read-only")

    def restrict(self, domid: SupportsIndex) -> None:
        """Permanently give up access to all domains but one, for example before processing a guest's data.

        Afterwards only mapping its memory by frame number and dm_op() work. The kernel refuses everything
        else (PermissionDenied): look up the domain, and list its frames, before. Connections to xenstore end;
        open event channels can bind ports to this domain only (EventChannels.restrict); nothing can be opened
        any more, grants included. Open maps and bound ports remain. The restriction is by id: if the id is
        reused, it allows access to the new domain.
        """
        self.caller.restrict(arguments.domid(domid))
        self.names.close()
        self.store.disconnect()

    def close(self) -> None:
        """Close devices, mappings and xenstore. BufferError if a memoryview still holds a mapping."""
        self._closed = True
        self.caller.end_trace()
        self.link.close()
        for key in ("_names", "_store"):
            if key in self.__dict__:
                self.__dict__[key].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        closed = ", closed" if self._closed else ""
        return f"<Xen {'.'.join(map(str, self.interface.xen))} at {self.link.target}{closed}>"
