# SPDX-License-Identifier: MIT
"""A domain that is paused for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

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

    def unpause() -> None:
        with suppress(errors.DomainNotFound, errors.DomainGone):
            if domain.info().paused:
                domain.undo(domctl.UNPAUSEDOMAIN)

    pause = partial(domain.change, domctl.PAUSEDOMAIN)
    with undoing.during(pause, unpause, f"domain {domain.domid} is left paused"):
        yield
