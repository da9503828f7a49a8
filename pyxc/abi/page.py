# SPDX-License-Identifier: MIT
"""Pages of 4096 bytes, in which Xen counts memory on every architecture that pyxc knows."""

from __future__ import annotations

PAGE_KB = 4
"""KiB in a page."""
MOST_FRAME = 2**52 - 1
"""The highest number that a frame can have: an address has 64 bits."""


def pages_kb(pages: int | None) -> int | None:
    """KiB of so many pages; None for a number that is not told."""
    return None if pages is None else pages * PAGE_KB
