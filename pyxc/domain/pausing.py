# SPDX-License-Identifier: MIT
"""A domain that is paused for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyxc import errors, undoing
from pyxc.abi import domctl
from pyxc.domain.identity import Identity


@contextmanager
def paused(domain: Identity) -> Iterator[None]:
    """Pause a domain, and let it run again whatever happens; one that is paused already is left alone.

    (Before Xen 4.5 pauses do not nest.) Only this very domain is let run: to unpause the one that has its id
    by now would start a stranger.
    """
    if domain.info().paused:
        yield
        return
    refused = False

    def unpause() -> None:
        try:
            if not refused and domain.info().paused:
                domain.change(domctl.UNPAUSEDOMAIN)
        except (errors.DomainNotFound, errors.DomainGone):
            return

    with undoing.always(unpause, f"domain {domain.domid} is left paused"):
        try:
            domain.change(domctl.PAUSEDOMAIN)
        except errors.Error:
            refused = True
            raise
        yield
