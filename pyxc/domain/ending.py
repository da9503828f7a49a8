# SPDX-License-Identifier: MIT
"""Waiting for a state of a domain, such as its shutdown, and destroying it."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Literal, Protocol, get_args

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo

_POLL_S = 0.05
_LOOK_S = 0.1

State = Literal["blocked", "crashed", "dying", "paused", "running", "shut_down"]
"""The states that Domain.wait() knows by name: each is a property of DomainInfo."""
Condition = Callable[[DomainInfo], object]


class Remains(Protocol):
    """What a guest that pyxc launched leaves behind."""

    def remove(self) -> None:
        """Remove it, once the domain is dying or has gone."""


def wait(domain: Identity, until: State | Condition, timeout: float | None) -> DomainInfo | None:
    """See Domain.wait()."""
    if callable(until):
        return _wait(domain, until, timeout, "did not become what was waited for")
    if until not in get_args(State):
        raise ValueError(f"until is {until!r}: expected a function or one of {', '.join(get_args(State))}")
    return _wait(domain, attrgetter(until), timeout, f"did not become {until.replace('_', ' ')}")


def wait_shut_down(domain: Identity, timeout: float | None) -> ShutdownReason | int | None:
    """See Domain.wait_shut_down()."""
    ended = _wait(domain, lambda info: info.shut_down or info.dying, timeout, "has not shut down")
    return None if ended is None else ended.shutdown_reason


def _wait(domain: Identity, until: Condition, timeout: float | None, otherwise: str) -> DomainInfo | None:
    """The first info that fulfils a condition; None if the domain has gone."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            info = domain.info()
        except (errors.DomainNotFound, errors.DomainGone):
            return None
        if until(info):
            return info
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError(f"domain {domain.domid} {otherwise} within {timeout:g} s")
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
