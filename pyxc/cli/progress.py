# SPDX-License-Identifier: MIT
"""How far something is that takes long, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

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
