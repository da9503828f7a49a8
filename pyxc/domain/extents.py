# SPDX-License-Identifier: MIT
"""Adding extents of memory to a domain and removing them, in batches, with a record of what was done."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import compress
from operator import ne

from pyxc import arguments, errors
from pyxc.abi import memory
from pyxc.abi.operation import Operation
from pyxc.call.held import HeldCall
from pyxc.domain.mapping import Mapping

_ORDER_MAX = 18


class Extents:
    """Extents of 2**order pages that are added to a domain, or removed from it, by a series of calls.

    At most `batch` in each call, with `flags` (mem_flags: a MemFlag, and the bits that an address may have).
    `done` are the completed extents, as the hypervisor numbers them. If a call was interrupted and its result
    is lost, `doubtful` are the extents in an unknown state. Threads: one at a time.
    """

    def __init__(self, mapping: Mapping, order: int, batch: int, flags: int = 0) -> None:
        self._domain = mapping.domain
        self._xen = mapping.xen
        self._batch = batch
        self._flags = {"mem_flags": flags} if flags else {}
        self._order = arguments.natural("order", order, _ORDER_MAX)
        self.done = array("Q")
        self.doubtful = array("Q")
        self.short = False
        """Whether Xen did fewer than it was asked for."""
        self._pages_before = 0

    def reserve(self, operation: Operation, frames: array[int]) -> None:
        """Run a reservation operation on frames. HypercallError ENOMEM if some were not done."""
        size = 8 * min(len(frames), self._batch)
        with self._xen.caller.held(operation, self._domain.domid, "extent_start", size) as call:
            for start in range(0, len(frames), self._batch):
                part = frames[start : start + self._batch]
                if self._issue(call, operation, part) < len(part):
                    self.short = True
                    raise self._short(operation, len(frames))

    def _issue(self, call: HeldCall, operation: Operation, part: array[int]) -> int:
        info = self._domain.info()
        self._pages_before = info.tot_pages
        call.view[: 8 * len(part)] = self._xen.words(part.tobytes()).tobytes()
        try:
            count = call(nr_extents=len(part), extent_order=self._order, **self._flags).result
        except errors.Error:
            raise
        except BaseException:
            if info.is_hvm or operation is memory.DECREASE_RESERVATION:
                self.doubtful = part
            else:
                self._look_what_was_done(call, part)
            raise
        self.done.extend(self._written(call, count))
        return count

    def _look_what_was_done(self, call: HeldCall, part: array[int]) -> None:
        """For a PV domain Xen overwrites the pfns, or zeros, in the list with the new frames."""
        written = self._written(call, len(part))
        self.done.extend(compress(written, map(ne, written, part)))

    def _written(self, call: HeldCall, count: int) -> array[int]:
        return self._xen.words(bytes(call.view[: 8 * count]))

    def take_back(self) -> None:
        """Remove the added extents from the domain. May be called again after an error."""
        if self.doubtful and self._domain.exists():
            self._find_doubtful()
        while self.done:
            part = self.done[: self._batch]
            taken = self._take(part)
            if taken is None:
                return
            del self.done[:taken]
            if taken < len(part):
                raise self._short(memory.DECREASE_RESERVATION, len(part), taken)

    def _find_doubtful(self) -> None:
        """Remove, one by one, what the interrupted call may have added: the excess of the domain's memory."""
        pages = self._domain.info().tot_pages - self._pages_before
        while self.doubtful and pages > 0:
            taken = self._take(self.doubtful[: self._batch]) or 0
            pages -= taken << self._order
            del self.doubtful[: taken + 1]
        self.doubtful = array("Q")

    def _take(self, part: array[int]) -> int | None:
        """How many were removed, from the first on; None if the domain has gone."""
        extents = self._xen.words(part.tobytes()).tobytes()
        reply = self._domain.undo(
            memory.DECREASE_RESERVATION,
            extent_start=extents,
            nr_extents=len(part),
            extent_order=self._order,
        )
        return None if reply is None else reply.result

    @contextmanager
    def counted(self, wanted: int) -> Iterator[None]:
        """An error of the block gets a note with the number of removed extents."""
        try:
            yield
        except BaseException as error:
            perhaps = f", and perhaps some of {len(self.doubtful)} more" if self.doubtful else ""
            error.add_note(f"{len(self.done)} of {wanted} extents were removed{perhaps}")
            raise

    def _short(self, operation: Operation, wanted: int, done: int | None = None) -> errors.HypercallError:
        count = len(self.done) if done is None else done
        hint = f"{count} of {wanted} extents were done"
        if operation is not memory.DECREASE_RESERVATION:
            hint += ": raise the domain's max_mem, or free memory on the host"
        return errors.from_errno(errno.ENOMEM, operation.full_name, self._domain.domid, hint=hint)
