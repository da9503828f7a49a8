# SPDX-License-Identifier: MIT
"""Pages of 4096 bytes, the unit of memory on every architecture that pyxc supports."""

from __future__ import annotations

PAGE_KB = 4
"""KiB in a page."""
MOST_FRAME = 2**52 - 1
"""The highest frame number: addresses have 64 bits."""


def pages_kb(pages: int | None) -> int | None:
    """Pages in KiB; None for an unknown number."""
    return None if pages is None else pages * PAGE_KB
