# SPDX-License-Identifier: MIT
"""Machine frames of devices in a domain's memory, mapped and unmapped in pieces."""

from __future__ import annotations

import errno

from pyxc import answers, arguments, errors, undoing
from pyxc.abi.domctl_permissions import MEMORY_MAPPING
from pyxc.abi.page import MOST_FRAME
from pyxc.domain.identity import Identity

_AT_ONCE = 64
"""Frames that every release takes in one hypercall."""


class _Change:
    """A range of frames that is mapped (`add`) or unmapped: since Xen 4.7 it reports how many it did, and 4.6
    refuses more than 64."""

    def __init__(self, domain: Identity, gfn: int, mfn: int, count: int, add: bool) -> None:
        self._domain = domain
        self._gfn = gfn
        self._mfn = mfn
        self._count = count
        self._add = add
        self._done = self._doubtful = self._back = 0

    def _fields(self, at: int, some: int, add: bool) -> dict[str, int]:
        return {
            "first_gfn": self._gfn + at,
            "first_mfn": self._mfn + at,
            "nr_mfns": some,
            "add_mapping": int(add),
        }

    def carry_out(self) -> None:
        most = self._count
        while self._done < self._count:
            some = self._doubtful = min(most, self._count - self._done)
            try:
                reply = self._domain.change(MEMORY_MAPPING, **self._fields(self._done, some, self._add))
            except errors.Error as error:
                self._doubtful = 0
                too_many = isinstance(error, errors.HypercallError) and error.errno == errno.E2BIG
                if not too_many or some <= _AT_ONCE:
                    raise
                most = _AT_ONCE
            else:
                self._done += answers.number("number of frames done", reply.result, some) or some
                self._doubtful = 0

    def take_back(self) -> None:
        """The opposite, of what the interrupted call may have done, too. It may be called again."""
        while self._back < self._done + self._doubtful:
            some = min(_AT_ONCE, self._done + self._doubtful - self._back)
            try:
                reply = self._domain.undo(MEMORY_MAPPING, **self._fields(self._back, some, not self._add))
            except errors.HypercallError as error:
                if error.errno != errno.EINVAL:
                    raise
                if self._back >= self._done:
                    return  # the interrupted call did not come so far
                self._back += some  # as an interrupted undo left it
            else:
                if reply is None:
                    return
                self._back += reply.result or some


def change(domain: Identity, gfn: int, mfn: int, count: int, add: bool) -> None:
    """Map or unmap machine frames at guest frames (domctl memory_mapping): all or none."""
    arguments.frame("gfn", gfn)
    arguments.frame("mfn", mfn)
    arguments.natural("count", count, MOST_FRAME - max(gfn, mfn) + 1, 1)
    pieces = _Change(domain, gfn, mfn, count, add)
    left = f"some of {count} frames at gfn {gfn:#x} are {'mapped' if add else 'unmapped'}"
    with undoing.on_failure(pieces.take_back, left):
        pieces.carry_out()
