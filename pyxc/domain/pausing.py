# SPDX-License-Identifier: MIT
"""Pausing a domain for the duration of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from pyxc import errors, undoing
from pyxc.abi import domctl
from pyxc.domain.identity import Identity


@contextmanager
def paused(domain: Identity) -> Iterator[None]:
    """Pause a domain for a block, and unpause it whatever happens; a paused domain is not changed.

    (Before Xen 4.5 pauses do not nest.) Only this domain is unpaused: another domain that now has its id must
    not be started.
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
