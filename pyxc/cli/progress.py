# SPDX-License-Identifier: MIT
"""How far something is that takes long, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pyxc
from pyxc.cli import output

_EVERY_S = 0.5


def building() -> Callable[[int, int], None] | None:
    """Shows pages done and of all pages as MiB, with the rate and the time that remains; None elsewhere."""
    if not sys.stderr.isatty():
        return None
    started = shown = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < _EVERY_S or not done:
            return
        shown = now
        rate = done / (now - started)
        mib, all_mib, rate_mib = done >> 8, total >> 8, rate / 256
        output.remark(f"{mib} of {all_mib} MiB, {rate_mib:.0f} MiB/s, {(total - done) / rate:.0f} s remain")

    return show


def moving() -> Callable[[pyxc.SaveProgress], None] | None:
    """The same of a guest that is saved or moves; between two rounds, what it has written meanwhile."""
    if not sys.stderr.isatty():
        return None
    number, show = -1, building()

    def tell(progress: pyxc.SaveProgress) -> None:
        nonlocal number, show
        if progress.dirty_pages is not None:
            written, downtime = progress.dirty_pages, progress.expected_downtime_s
            meanwhile = f"{written} pages were written meanwhile"
            output.remark(f"round {progress.round}: {meanwhile}, expected downtime {downtime:.2f} s")
            return
        if progress.round != number:
            number, show = progress.round, building()
        if show is not None:
            show(progress.done_pages, progress.total_pages)

    return tell
