# SPDX-License-Identifier: MIT
"""The interface numbers of each Xen release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyxc.abi.layout import Interface, Release

RELEASES: Final[tuple[Interface, ...]] = (
    Interface((3, 1), 0x05, 0x03),
    Interface((3, 2), 0x05, 0x06),
    Interface((3, 3), 0x05, 0x06),
    Interface((3, 4), 0x05, 0x06),
    Interface((4, 0), 0x06, 0x07),
    Interface((4, 1), 0x07, 0x08),
    Interface((4, 2), 0x08, 0x09),
    Interface((4, 3), 0x09, 0x0A),
    Interface((4, 4), 0x09, 0x0A),
    Interface((4, 5), 0x0A, 0x0B),
    Interface((4, 6), 0x0B, 0x0C),
    Interface((4, 7), 0x0B, 0x0D),
    Interface((4, 8), 0x0C, 0x0E),
    Interface((4, 9), 0x0D, 0x0F),
    Interface((4, 10), 0x0E, 0x10),  # 4.10.0 only
    Interface((4, 10), 0x0F, 0x10),  # 4.10.1 to 4.10.4
    Interface((4, 11), 0x10, 0x11),
    Interface((4, 12), 0x11, 0x12),
    Interface((4, 13), 0x12, 0x12),
    Interface((4, 14), 0x12, 0x13),
    Interface((4, 15), 0x13, 0x13),
    Interface((4, 16), 0x14, 0x14),
    Interface((4, 17), 0x15, 0x15),
    Interface((4, 18), 0x16, 0x15),
    Interface((4, 19), 0x17, 0x15),
    Interface((4, 20), 0x17, 0x15),
    Interface((4, 21), 0x17, 0x16),
    Interface((4, 22), 0x18, 0x16),
    Interface((4, 23), 0x18, 0x16),  # UNRELEASED
)
"""Every known interface, oldest first. The only point release that changed it is 4.10.1.

Before 3.1 structures depended on the calling kernel's word size; since then they are the same for all.
"""

BEFORE_DOMCTL: Final[tuple[Interface, ...]] = (
    Interface((3, 0), dom0_op=0x03000000),  # 2005-12-04
    Interface((3, 0), dom0_op=0x03000001),  # 2006-06-06
    Interface((3, 0), dom0_op=0x13000001),  # 2006-08-22 to 2006-08-25, when domctl and sysctl came
)
"""The interfaces of the time when the toolstack had one hypercall, dom0_op. That Xen ran on PowerPC, too."""

UNRELEASED: Final[Release] = (4, 23)
"""The version of Xen's development tree: its row is for the tree of 2026-08-20, whose public headers have the
structures of 4.22. They can change until the release, under the same numbers."""

OLDEST: Final[Release] = RELEASES[0].xen
NEWEST: Final[Release] = max(interface.xen for interface in RELEASES if interface.xen != UNRELEASED)
"""The newest release."""
_RANGE: Final = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"


def numbers(release: Release) -> tuple[int, int]:
    """The expected (domctl, sysctl) numbers of a release.

    For an unknown release those of the nearest older one (or the oldest): a first guess for probing.
    """
    known = [interface for interface in RELEASES if interface.xen <= release] or RELEASES[:1]
    return known[-1].domctl, known[-1].sysctl


def candidates(family: str) -> tuple[int, ...]:
    """Every known interface number of "domctl" or "sysctl", newest first, each once."""
    return tuple(dict.fromkeys(interface.version(family)[0] for interface in reversed(RELEASES)))


def known(release: Sequence[int]) -> Release:
    """A release with known structures. ValueError for any other."""
    found = next((interface.xen for interface in RELEASES if interface.xen == tuple(release)), None)
    if found is None:
        text = ".".join(map(str, release))
        raise ValueError(f"the structures of Xen {text} are unknown: expected a release from {_RANGE}")
    return found


def parsed(text: str) -> Release:
    """A known release from a string like "4.22". ValueError."""
    parts = text.split(".")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is not a Xen release such as 4.22")
    return known([int(part) for part in parts])
