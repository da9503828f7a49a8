# SPDX-License-Identifier: MIT
"""Limits for what a guest's own claims may cost dom0, in proportion to what it owns according to Xen.

Claims (the size of its p2m, its highest frame) cost the guest nothing. So they are accepted only up to what a
well-behaved guest of this size can have.
"""

from __future__ import annotations

from pyxc import errors
from pyxc.domain.info import DomainInfo

SLACK_PAGES = 1 << 10
"""Pages that a guest may list beyond those that it owns: it can allocate more during the reading."""
_HOLE_PAGES = 1 << 20
"""Frame numbers below 4 GiB, where any guest may have holes of any size."""
_NUMBERS_PER_PAGE = 64
"""A kernel needs at least 64 bytes of memory for each frame number that can have memory (struct page)."""
_APART_PAGES = 1 << 17
"""Entries of a p2m for memory that is not the guest's: devices, and pages of other domains."""
_LAST = 1 << 32


def frame_numbers(pages: int) -> int:
    """How many frame numbers, from 0, the address space of a well-behaved guest of so many pages can have."""
    return min(_HOLE_PAGES + _NUMBERS_PER_PAGE * pages, _LAST)


def check_listed(what: str, pages: int, info: DomainInfo) -> None:
    """DecodeError for a list of more pages than the domain owns."""
    if pages > info.tot_pages + SLACK_PAGES:
        raise errors.DecodeError(
            f"{what} of domain {info.domid} lists more frames than the {info.tot_pages} that it owns"
        )


def check_apart(entries: int, info: DomainInfo) -> None:
    """DecodeError for a p2m with more entries of other kinds than a well-behaved guest has."""
    most = _APART_PAGES + _NUMBERS_PER_PAGE * info.tot_pages
    if entries > most:
        raise errors.DecodeError(
            f"the p2m of domain {info.domid} has more than {most} entries for memory that is not its own"
        )
