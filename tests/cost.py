# SPDX-License-Identifier: MIT
"""What something costs: its peak of resident memory, and its time."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Cost:
    """Filled in when the block of measured() ends."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.seconds = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """What the block takes in addition to what the process has; free memory of its heap does not count."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:  # musl keeps little free memory, and has no such function
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
    before, started, cost = _status("VmRSS"), time.monotonic(), Cost()
    try:
        yield cost
    finally:
        cost.peak_bytes, cost.seconds = _status("VmHWM") - before, time.monotonic() - started


def _status(name: str) -> int:
    """A size that the kernel reports of this process, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE)
    assert found, name
    return int(found[1]) * 1024
