# SPDX-License-Identifier: MIT
"""The order of records in a stream, for reading and writing.

The specification leaves the order of independent records open. These rules refuse streams from which a guest
cannot be restored, streams that libxc itself refuses, and orders that neither any version of Xen nor its
converter of old streams writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Any, NamedTuple

from pyxc.domain.tsc import TscInfo
from pyxc.guest.stream.layout import TYPES
from pyxc.guest.stream.pages import Malformed
from pyxc.guest.stream.records import (
    Checkpoint,
    CheckpointEnd,
    CpuidPolicy,
    DomainHeader,
    DomainKind,
    EmulatorContext,
    EmulatorXenstoreData,
    Event,
    HvmContextRecord,
    HvmParams,
    ImageHeader,
    LibxcContext,
    LibxcEnd,
    LibxlEnd,
    LibxlHeader,
    MsrPolicy,
    PageData,
    PvInfo,
    PvP2mFrames,
    PvVcpu,
    RecordType,
    SharedInfo,
    Skipped,
    StaticDataEnd,
    Verify,
    XlHeader,
)


class State(Enum):
    """What comes next."""

    START = auto()
    XL = auto()
    """libxl's header."""
    LIBXL = auto()
    """A record of libxl's, before the guest."""
    CONTEXT = auto()
    """libxc's header."""
    IMAGE = auto()
    """The domain header."""
    LIBXC = auto()
    """A record of libxc's."""
    CHECKPOINT = auto()
    """A record of libxl's, at a checkpoint."""
    TAIL = auto()
    """A record of libxl's, behind the guest."""
    END = auto()
    """Nothing more."""


_STEPS: dict[tuple[State, type], State] = {
    (State.START, XlHeader): State.XL,
    (State.START, LibxlHeader): State.LIBXL,
    (State.START, ImageHeader): State.IMAGE,
    (State.XL, LibxlHeader): State.LIBXL,
    (State.LIBXL, LibxcContext): State.CONTEXT,
    (State.CONTEXT, ImageHeader): State.IMAGE,
    (State.IMAGE, DomainHeader): State.LIBXC,
    (State.CHECKPOINT, EmulatorXenstoreData): State.CHECKPOINT,
    (State.CHECKPOINT, EmulatorContext): State.CHECKPOINT,
    (State.CHECKPOINT, CheckpointEnd): State.LIBXC,
    (State.TAIL, EmulatorXenstoreData): State.TAIL,
    (State.TAIL, EmulatorContext): State.TAIL,
    (State.TAIL, LibxlEnd): State.END,
}


class _Rule(NamedTuple):
    """A record comes after all of `needs`, before any of `before`, and either `once` or repeatedly."""

    needs: tuple[type, ...] = ()
    before: tuple[type, ...] = ()
    once: bool = True


_PV: dict[type, _Rule] = {
    PvInfo: _Rule(before=(StaticDataEnd,)),
    CpuidPolicy: _Rule(before=(StaticDataEnd,)),
    MsrPolicy: _Rule(before=(StaticDataEnd,)),
    StaticDataEnd: _Rule(needs=(PvInfo,)),
    PvP2mFrames: _Rule(needs=(PvInfo, StaticDataEnd), before=(PvVcpu,), once=False),
    PageData: _Rule(needs=(PvP2mFrames,), before=(PvVcpu,), once=False),
    Verify: _Rule(needs=(PageData,), before=(PvVcpu,)),
    TscInfo: _Rule(needs=(StaticDataEnd,)),
    SharedInfo: _Rule(needs=(PvInfo, StaticDataEnd)),
    PvVcpu: _Rule(needs=(PageData,), once=False),
    Checkpoint: _Rule(needs=(PageData, SharedInfo, PvVcpu), once=False),
    LibxcEnd: _Rule(needs=(PageData, SharedInfo, PvVcpu)),
}
_HVM: dict[type, _Rule] = {
    CpuidPolicy: _Rule(before=(StaticDataEnd,)),
    MsrPolicy: _Rule(before=(StaticDataEnd,)),
    StaticDataEnd: _Rule(),
    PageData: _Rule(needs=(StaticDataEnd,), before=(HvmParams, HvmContextRecord), once=False),
    Verify: _Rule(needs=(PageData,), before=(HvmParams, HvmContextRecord)),
    TscInfo: _Rule(needs=(StaticDataEnd,)),
    HvmParams: _Rule(needs=(PageData,), once=False),
    HvmContextRecord: _Rule(needs=(PageData,)),
    Checkpoint: _Rule(needs=(PageData, HvmContextRecord), once=False),
    LibxcEnd: _Rule(needs=(PageData, HvmContextRecord)),
}
_OF_ALL_ROUNDS = (CpuidPolicy, MsrPolicy, StaticDataEnd, PvInfo, PvP2mFrames, PageData)
"""Records that a checkpoint does not repeat."""
_SINCE_VERSION_3 = (CpuidPolicy, MsrPolicy, StaticDataEnd)
_WIDTHS = {8: 4, 4: 3}
"""Levels of page tables by width of a PV guest."""
_CONTEXT_BYTES = {8: 5168, 4: 2800}
_EXTENDED_MOST_BYTES = 128
_XSAVE_LEAST_BYTES = 16
_P2M_PAGE_BYTES = 4096
_VCPUS_MOST = 8192
_PARAM_MOST = 255


class Rules:
    """The position in a stream, and its previous records. Threads: one at a time."""

    def __init__(self) -> None:
        self.state = State.START
        self._embedded = False
        self._version = 0
        self._kind = DomainKind.PV
        self._width = 0
        self._pfn_most = 0
        self._seen: set[type] = set()
        self._last: type | None = None
        self._parts: set[tuple[int, RecordType]] = set()
        self._params: set[int] = set()
        self._emulators: set[tuple[type, int, int]] = set()

    def admit(self, event: Event) -> None:
        """Accept the next event; Malformed if it must not come now, and then nothing is recorded."""
        if isinstance(event, Skipped):
            return
        if self.state is State.LIBXC:
            self._admit_record(event)
        else:
            self._step(event)

    def _step(self, event: Event) -> None:
        following = _STEPS.get((self.state, type(event)))
        if following is None:
            raise Malformed(f"it is not expected here ({self.state.name.lower()})")
        if isinstance(event, EmulatorXenstoreData | EmulatorContext):
            key = type(event), int(event.emulator), event.instance
            if key in self._emulators:
                raise Malformed(
                    f"it is the second one for instance {event.instance} of {event.emulator.name}"
                )
            self._emulators.add(key)
        elif isinstance(event, ImageHeader):
            self._version = event.version
        elif isinstance(event, DomainHeader):
            self._kind = event.kind
        elif isinstance(event, LibxcContext):
            self._embedded = True
        self.state = following

    def _admit_record(self, event: Event) -> None:
        kind = type(event)
        if isinstance(event, PageData) and self._last is PageData:  # thousands follow one another
            self._page_data(event)
            return
        rule = (_PV if self._kind is DomainKind.PV else _HVM).get(kind)
        if rule is None:
            raise Malformed(f"{self._kind.name} guests have no such record")
        seen = self._seen | self._inferred(kind)
        if rule.once and kind in seen:
            raise Malformed("it is the second one")
        missing = [needed for needed in rule.needs if needed not in seen]
        if missing:
            raise Malformed(f"{_names(missing)} must come before it")
        late = [earlier for earlier in rule.before if earlier in seen]
        if late:
            raise Malformed(f"it must not come after {_names(late)}")
        check = _CHECKS.get(kind)
        if check is not None:
            check(self, event)
        if not _is_void(event):
            self._seen = seen | {kind}
        self._last = kind
        self._end_of_round(event)

    def _inferred(self, kind: type) -> set[type]:
        """In version 2 the static data ends before the first record that must follow its end."""
        if self._version >= 3:
            return set()
        if kind in _SINCE_VERSION_3:
            raise Malformed(f"streams of version {self._version} have no such record")
        return {StaticDataEnd} if kind in (PvP2mFrames, PageData, TscInfo) else set()

    def _end_of_round(self, event: Event) -> None:
        if isinstance(event, LibxcEnd):
            self.state = State.TAIL if self._embedded else State.END
        elif isinstance(event, Checkpoint):
            self.state = State.CHECKPOINT if self._embedded else State.LIBXC
        else:
            return
        self._seen.intersection_update(_OF_ALL_ROUNDS)
        for once in (self._parts, self._params, self._emulators):
            once.clear()

    # Checks of single records beyond their order.

    def _pv_info(self, event: PvInfo) -> None:
        if _WIDTHS.get(event.guest_width) != event.pt_levels:
            raise Malformed(
                f"the guest has {8 * event.guest_width} bits and {event.pt_levels} levels of page tables: "
                "expected 64 and 4, or 32 and 3"
            )
        self._width = event.guest_width

    def _p2m_frames(self, event: PvP2mFrames) -> None:
        if event.start_pfn > event.end_pfn:
            raise Malformed(f"it covers pfns {event.start_pfn:#x} to {event.end_pfn:#x}")
        entries = _P2M_PAGE_BYTES // self._width
        pages = event.end_pfn // entries - event.start_pfn // entries + 1
        if len(event.frames) != pages:
            raise Malformed(
                f"the p2m of pfns {event.start_pfn:#x} to {event.end_pfn:#x} has {pages} pages, "
                f"but it names {len(event.frames)}"
            )
        pfn_most = max(self._pfn_most, event.end_pfn)
        if max(event.frames) > pfn_most:
            raise Malformed(f"its p2m includes pfn {max(event.frames):#x}, but the last pfn is {pfn_most:#x}")
        self._pfn_most = pfn_most

    def _page_data(self, event: PageData) -> None:
        if self._kind is DomainKind.PV and max(event.pfns) > self._pfn_most:
            raise Malformed(f"pfn {max(event.pfns):#x} is above the last pfn, {self._pfn_most:#x}")

    def _vcpu(self, event: PvVcpu) -> None:
        if event.vcpu >= _VCPUS_MOST:
            raise Malformed(f"vcpu {event.vcpu} is above {_VCPUS_MOST - 1}")
        if not event.context:
            return
        size, basic = len(event.context), RecordType.X86_PV_VCPU_BASIC
        if event.part is basic and size != _CONTEXT_BYTES[self._width]:
            raise Malformed(f"the context has {size} bytes: expected {_CONTEXT_BYTES[self._width]}")
        if event.part is RecordType.X86_PV_VCPU_EXTENDED and size > _EXTENDED_MOST_BYTES:
            raise Malformed(f"the context has {size} bytes: expected at most {_EXTENDED_MOST_BYTES}")
        if event.part is RecordType.X86_PV_VCPU_XSAVE and size < _XSAVE_LEAST_BYTES:
            raise Malformed(f"the context has {size} bytes: expected at least {_XSAVE_LEAST_BYTES}")
        if (event.vcpu, event.part) in self._parts:
            raise Malformed(f"it is the second one for vcpu {event.vcpu}")
        if event.part is not basic and (event.vcpu, basic) not in self._parts:
            raise Malformed(f"{basic.name} of vcpu {event.vcpu} must come before it")
        self._parts.add((event.vcpu, event.part))

    def _hvm_params(self, event: HvmParams) -> None:
        indexes = [index for index, _ in event.params]
        for index in indexes:
            if index > _PARAM_MOST:
                raise Malformed(f"the index of a parameter is {index}: expected 0 to {_PARAM_MOST}")
            if index in self._params or indexes.count(index) > 1:
                raise Malformed(f"parameter {index} is set twice")
        self._params.update(indexes)

    def _complete(self, event: Checkpoint | LibxcEnd) -> None:
        if self._kind is DomainKind.PV and (0, RecordType.X86_PV_VCPU_BASIC) not in self._parts:
            raise Malformed("X86_PV_VCPU_BASIC of vcpu 0 must come before it")


_CHECKS: dict[type, Callable[[Rules, Any], None]] = {
    PvInfo: Rules._pv_info,
    PvP2mFrames: Rules._p2m_frames,
    PageData: Rules._page_data,
    PvVcpu: Rules._vcpu,
    HvmParams: Rules._hvm_params,
    Checkpoint: Rules._complete,
    LibxcEnd: Rules._complete,
}


def _is_void(event: Event) -> bool:
    """Whether it is one of the empty records that Xen 4.6 to 4.8 may write."""
    return isinstance(event, PvVcpu | HvmParams) and not event[-1]


def _names(kinds: Iterable[type]) -> str:
    return ", ".join(TYPES[kind].name for kind in kinds)
