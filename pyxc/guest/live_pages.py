# SPDX-License-Identifier: MIT
"""The pages of a domain of this host, for what is made from a guest's pages."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence

from pyxc._core import PAGE_SIZE
from pyxc.domain.identity import Identity
from pyxc.domain.p2m import Pages
from pyxc.guest.vmcore import check_convertible


class LivePages:
    """See PagesSource. `missing` are the places of pages that could not be read: zeros.

    Unsupported for a 32-bit PV guest. Threads: one at a time.
    """

    def __init__(
        self, domain: Identity, is_hvm: bool, pages: Iterable[Pages], contexts: Sequence[Mapping[str, int]]
    ) -> None:
        self._domain = domain
        self.is_hvm = is_hvm
        self.bits = 64 if is_hvm else domain.guest_bits()
        self.gfns, self.frames = array("Q"), array("Q")
        for some in pages:
            self.gfns.extend(some.pfns)
            self.frames.extend(some.frames)
        self.missing: set[int] = set()
        self.contexts = contexts
        check_convertible(self)

    def pages(self, first: int, count: int) -> bytes:
        """Whether they are still the domain's is checked while they are mapped."""
        wanted = self.frames[first : first + count]
        with self._domain.xen.link.map_frames(self._domain.domid, wanted) as mapped:
            self._domain.look()
            refused = mapped.errors
            if not any(refused):
                return bytes(mapped)
        if count == 1:
            self.missing.add(first)
            return bytes(PAGE_SIZE)
        return b"".join(self.pages(first + place, 1) for place in range(count))
