# SPDX-License-Identifier: MIT
"""How much a guest's word may cost dom0: never more than in proportion to what Xen says that it owns.

What a guest says of itself (the size of its p2m, its highest frame) is free of charge for the guest. So it is
believed only as far as an honest guest of this size can go.
"""

from __future__ import annotations

from pyxc import errors
from pyxc.domain.info import DomainInfo

SLACK_PAGES = 1 << 10
"""Pages that a guest may list beyond those that it owns: it goes on allocating while it is read."""
_HOLE_PAGES = 1 << 20
"""Frame numbers below 4 GiB, of which any guest may leave out what it likes."""
_NUMBERS_PER_PAGE = 64
"""A kernel keeps at least 64 bytes for each number that can have memory (Linux: struct page), in memory."""
_APART_PAGES = 1 << 17
"""Entries of a p2m that are not the guest's own memory: devices, and pages of other domains."""
_LAST = 1 << 32


def frame_numbers(info: DomainInfo) -> int:
    """How many frame numbers, from 0 on, the address space of an honest guest can have."""
    return min(_HOLE_PAGES + _NUMBERS_PER_PAGE * info.tot_pages, _LAST)


def check_listed(what: str, pages: int, info: DomainInfo) -> None:
    """DecodeError for a list of more pages than the domain owns."""
    if pages > info.tot_pages + SLACK_PAGES:
        raise errors.DecodeError(
            f"{what} of domain {info.domid} lists more frames than the {info.tot_pages} that it owns"
        )


def check_apart(entries: int, info: DomainInfo) -> None:
    """DecodeError for a p2m with more entries of other kinds than an honest guest has."""
    most = _APART_PAGES + _NUMBERS_PER_PAGE * info.tot_pages
    if entries > most:
        raise errors.DecodeError(
            f"the p2m of domain {info.domid} has more than {most} entries for memory that is not its own"
        )
