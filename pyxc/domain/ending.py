# SPDX-License-Identifier: MIT
"""The end of a domain: waiting for its shutdown, and destroying it."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Protocol

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.identity import Identity

_POLL_S = 0.05
_LOOK_S = 0.1


class Remains(Protocol):
    """What a guest that pyxc launched leaves behind."""

    def remove(self) -> None:
        """Remove it, once the domain is dying or has gone."""


def wait_shut_down(domain: Identity, timeout: float | None) -> ShutdownReason | int | None:
    """See Domain.wait_shut_down()."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            info = domain.info()
        except (errors.DomainNotFound, errors.DomainGone):
            return None
        if info.shutdown_reason is not None or info.dying:
            return info.shutdown_reason
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"domain {domain.domid} has not shut down within {timeout:g} s")
        time.sleep(_LOOK_S)


def destroy(domain: Identity, timeout: float, remains: Callable[[Identity], Remains]) -> None:
    """See Domain.destroy(). `remains` finds what the guest will leave behind, while it still exists."""
    domain.look()
    left = remains(domain)
    try:
        domain.xen.call(domctl.DESTROYDOMAIN, domain.domid)
    except errors.DomainNotFound:
        left.remove()
        return
    left.remove()  # its back ends let go of its memory, which the domain cannot go without
    _wait_until_gone(domain, timeout)


def _wait_until_gone(domain: Identity, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while domain.exists():
        if time.monotonic() >= deadline:
            raise errors.DomainStuck(errno.ETIMEDOUT, _why_stuck(domain, timeout))
        time.sleep(_POLL_S)


def _why_stuck(domain: Identity, timeout: float) -> str:
    ours = [held for held in domain.xen.link.maps if held.domid == domain.domid]
    if ours:
        pages = sum(held.size for held in ours) // PAGE_SIZE
        cause = f"this process still maps {pages} of its pages in {len(ours)} mapping(s); close them"
    else:
        cause = "another process or a backend still maps its memory or grants"
    return f"domain {domain.domid} is still dying after {timeout:g} s: {cause}"
