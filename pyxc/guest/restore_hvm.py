# SPDX-License-Identifier: MIT
"""Restoring a PVH guest: its pages, its parameters and its virtual hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.hvm import HvmParam
from pyxc.domain.domain import Domain
from pyxc.guest import stream
from pyxc.guest.built import Rings
from pyxc.guest.restore_pages import HvmMemory
from pyxc.guest.stream.records import Event

if TYPE_CHECKING:
    from pyxc.guest.images import Kind

_NO_DELAY_FOR_MISSED_TICKS = 1
_ZEROED = (HvmParam.STORE_PFN, HvmParam.CONSOLE_PFN, HvmParam.IOREQ_PFN, HvmParam.BUFIOREQ_PFN)
"""Pages that the guest shares with its servers, which are new ones now."""
_OWN_PARAMS = (HvmParam.STORE_EVTCHN, HvmParam.CONSOLE_EVTCHN)
_PARAMS = frozenset((1, 4, 5, 6, 9, 10, 12, 14, 15, 17, 19, 27, 28, 29, 32, 33, 34, 36, 37, 38))
"""HvmParams that are part of a guest's state, from any release."""


class HvmGuest:
    """A PVH guest that is restored event by event. Threads: one at a time."""

    kind: Kind = "pvh"

    def __init__(self, domain: Domain, nr_pages: int) -> None:
        self._domain = domain
        self.memory = HvmMemory(domain.memory, nr_pages)
        self._params: dict[int, int] = {}
        self._context = b""

    def prepare(self, paging_kb: int) -> None:
        """Configure a new domain before it gets memory."""
        self._domain.hvm_params.write(HvmParam.TIMER_MODE, _NO_DELAY_FOR_MISSED_TICKS)
        self._domain.memory.set_paging_pool(paging_kb)

    def take(self, event: Event) -> None:
        if isinstance(event, stream.HvmParams):
            self._params.update(event.params)
        elif isinstance(event, stream.HvmContextRecord):
            self._context = event.data

    def finish(self) -> Rings:
        """Its parameters and registers, and new ports for its rings."""
        params = {index: value for index, value in self._params.items() if index not in _OWN_PARAMS}
        unknown = sorted(set(params) - _PARAMS)
        if unknown:
            raise errors.DecodeError(f"the guest has HVM parameters that do not go with one: {unknown}")
        shared = {index: params[index] for index in _ZEROED if params.get(index)}
        for index, frame in shared.items():
            if not self.memory.has(frame):
                text = f"{HvmParam(index).name} is {frame:#x}, and the guest has no memory there"
                raise errors.DecodeError(text)
            self._domain.memory.write(frame, bytes(PAGE_SIZE))
        for param, value in params.items():
            self._domain.hvm_params.write(param, value)
        store_port, console_port = self._domain.channels.open(), self._domain.channels.open()
        self._domain.hvm_params.write(HvmParam.STORE_EVTCHN, store_port)
        self._domain.hvm_params.write(HvmParam.CONSOLE_EVTCHN, console_port)
        self._domain.hvm_context.load(self._context)
        store, console = (shared.get(param, 0) for param in (HvmParam.STORE_PFN, HvmParam.CONSOLE_PFN))
        return Rings(store, store_port, console, console_port)
