# SPDX-License-Identifier: MIT
"""Attending a guest: build it, wait for its end, and build it again if its configuration says so."""

from __future__ import annotations

import time
import uuid as uuids
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from pyxc import errors
from pyxc.abi.sched import ShutdownReason
from pyxc.guest.built import BuiltDomain
from pyxc.guest.config import Action, Actions, GuestConfig
from pyxc.guest.guest_memory import Progress
from pyxc.guest.launch import launch
from pyxc.host.host import Host

Reason = ShutdownReason | int | None
"""Why a guest ended; None if another program destroyed it."""
Say = Callable[[str], object]

_SETTLED_S = 60.0
"""A guest that ran for at least this long is built again at once."""
_DELAYS_S = (1.0, 60.0)
"""The first and the longest delay before a guest that ended early is built again."""


def live(domain: BuiltDomain) -> Reason:
    """Start a guest and wait until it has ended; returns why."""
    domain.unpause()
    return domain.wait_shut_down()


class Ways(NamedTuple):
    """How to stay with a guest. `live` starts it and returns why it ended, `say` is called with what happens,
    `dump` names the file for a core dump, `sleep` waits before a guest that ended early is built again.
    Once `stopping` returns True, no guest is built again."""

    live: Callable[[BuiltDomain], Reason] = live
    say: Say = print
    dump: Callable[[BuiltDomain], str] = lambda domain: f"/var/lib/xen/dump/{domain.name}.core"
    sleep: Callable[[float], object] = time.sleep
    progress: Progress | None = None
    stopping: Callable[[], bool] = lambda: False


def attend(xen: Host, config: GuestConfig, ways: Ways | None = None) -> Reason:
    """Launch a guest and wait until it has finally ended; returns why.

    An error or Ctrl-C ends the guest, too: it is destroyed. Only a guest that has ended by itself can remain,
    if its configuration says so ("preserve").

    Example:

    >>> hypervisor.when_started(lambda guest: guest.stop(ShutdownReason.POWEROFF))
    >>> attend(xen, GuestConfig.read("mail.cfg"))
    mail is domain 4
    mail powered off: destroy
    <ShutdownReason.POWEROFF: 0>
    """
    ways = Ways() if ways is None else ways
    if config.uuid is None:
        config = config._replace(uuid=uuids.uuid4())
    delay = 0.0
    while True:
        started = time.monotonic()
        reason, action = _once(xen, config, ways)
        if not action.endswith("restart"):
            return reason
        if action == "rename-restart":
            config = config._replace(uuid=uuids.uuid4())
        delay = _next_delay(delay, time.monotonic() - started)
        if delay:
            ways.say(f"{config.name} ended early: it is built again in {delay:g} s")
            ways.sleep(delay)


def _once(xen: Host, config: GuestConfig, ways: Ways) -> tuple[Reason, Action]:
    """Run the guest once; returns what happens next."""
    domain = launch(xen, config, progress=ways.progress)
    kept = False
    try:
        ways.say(f"{config.name} is domain {domain.domid}")
        reason = ways.live(domain)
        action = action_for(config.actions, reason)
        if ways.stopping() and action.endswith("restart"):
            action = "destroy"
        ways.say(f"{config.name} {describe(reason)}: {action}")
        if action.startswith("coredump"):
            _dump(domain, ways)
        if action == "rename-restart":
            domain.set_name(f"{config.name}-{domain.domid}")
        kept = action in ("preserve", "rename-restart")
        return reason, action
    finally:
        if not kept:
            _destroy(domain)


def action_for(actions: Actions, reason: Reason) -> Action:
    """The action configured for a reason. A reason without an action of its own counts as a crash."""
    if reason is None:
        return "destroy"
    if reason == ShutdownReason.POWEROFF:
        return actions.poweroff
    if reason == ShutdownReason.REBOOT:
        return actions.reboot
    return actions.watchdog if reason == ShutdownReason.WATCHDOG else actions.crash


def describe(reason: Reason) -> str:
    """How a guest ended, in words."""
    known: dict[Reason, str] = {
        None: "was destroyed from outside",
        ShutdownReason.POWEROFF: "powered off",
        ShutdownReason.REBOOT: "shut down to reboot",
        ShutdownReason.SUSPEND: "suspended itself",
        ShutdownReason.CRASH: "crashed",
        ShutdownReason.WATCHDOG: "was stopped by its watchdog",
    }
    return known.get(reason, f"shut down, reason code {reason and int(reason)}")


def _dump(domain: BuiltDomain, ways: Ways) -> None:
    """Write a core dump. A failure is only reported: the guest is destroyed in any case."""
    path = ways.dump(domain)
    try:
        domain.dump_core(path, replace=True)
        ways.say(f"its memory is in {path}")
    except (errors.Error, OSError) as error:
        ways.say(f"its memory could not be written to {path}: {error}")


def _destroy(domain: BuiltDomain) -> None:
    """Works after a restart of xenstored too, which ends connections."""
    domain.xen.store.disconnect()
    with suppress(errors.DomainNotFound, errors.DomainGone):
        domain.destroy()


def _next_delay(before: float, lived: float) -> float:
    if lived >= _SETTLED_S:
        return 0.0
    return min(max(_DELAYS_S[0], 2 * before), _DELAYS_S[1])
