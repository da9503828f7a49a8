# SPDX-License-Identifier: MIT
"""Where a translated domain has its memory."""

from __future__ import annotations

from pyxc.sim.model.frame_set import FrameSet


class P2m(dict[int, int]):
    """Machine frames by gfn, each at one place; `gfns` has the gfns in runs. Its own methods change it."""

    def __init__(self) -> None:
        super().__init__()
        self.gfns = FrameSet()
        self._gfn_of: dict[int, int] = {}

    def gfn_of(self, mfn: int) -> int | None:
        """Where a machine frame is, if anywhere."""
        return self._gfn_of.get(mfn)

    def place(self, gfn: int, mfn: int, count: int = 1) -> None:
        """Put consecutive machine frames there; what was there before has no place any more."""
        gfns, mfns = range(gfn, gfn + count), range(mfn, mfn + count)
        if self.gfns.meets(gfns):
            for former in gfns:
                self.take(former)
        self.update(zip(gfns, mfns))
        self._gfn_of.update(zip(mfns, gfns))
        self.gfns.add(gfns)

    def take(self, gfn: int) -> int | None:
        """Leave a place empty; returns the machine frame that was there."""
        mfn = self.pop(gfn, None)
        if mfn is not None:
            del self._gfn_of[mfn]
            self.gfns.remove(range(gfn, gfn + 1))
        return mfn

    def clear(self) -> None:
        super().clear()
        self._gfn_of.clear()
        self.gfns = FrameSet()
