# SPDX-License-Identifier: MIT
"""Requests that the guest itself carries out: to power off, to reboot, to use less memory or fewer vcpus."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from pyxc import arguments, errors, undoing
from pyxc.abi import domctl
from pyxc.abi.domctl import Trigger
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo

if TYPE_CHECKING:
    from pyxc.store.transaction import Transaction

Request = Literal["poweroff", "reboot", "suspend"]
Progress = Callable[[int, int], object]
"""Called with the KiB that the domain owns, and with the requested KiB."""

ACKNOWLEDGED_S = 10.0
"""How long a guest may take to accept a request before the fallback is used."""
_REPEATED_S = 5.0
"""How long after a request it is made again: Linux ignores one while it still resumes from the last."""
_SLACK_KB = 1 << 10
"""What a domain may own above its target, as with libxl, and how close to a target is close enough."""
_PORT_DIGITS = 10
_LOOK_S = 0.1
_GLANCE_S = 0.005
"""A guest is down while it is looked whether it has suspended."""
_LOCAL_APIC_ONLY = 1
_STOPS_S = 10.0
"""How long a guest that has taken a request to suspend is waited for when that is given up."""


class Ask:
    """Requests to the guest of one domain, through its nodes in xenstore: `domain.ask`.

    The guest decides whether it does what it is asked to; Domain.shutdown() and destroy() do not ask. A
    request needs a guest with drivers for xenstore: GuestUnable if it has none or does not support the
    request. Threads: safe to share.

    Example:

    >>> web.ask.poweroff()
    >>> web.wait_shut_down(timeout=60)
    <ShutdownReason.POWEROFF: 0>
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain
        self._xen = domain.xen
        self._home = f"/local/domain/{domain.domid}"

    def poweroff(self, *, timeout: float | None = None, fallback: bool = False) -> None:
        """Ask it to shut down and power off (control/shutdown).

        It returns when the request is written; with a `timeout` in seconds, when the guest has accepted it. A
        guest that does not accept it in time raises GuestSilent, and the request is withdrawn. `fallback`
        presses the power button of an HVM or PVH domain (domctl sendtrigger) instead of raising GuestUnable
        or GuestSilent. wait_shut_down() waits until the domain has shut down.
        """
        self._request("poweroff", Trigger.POWER, timeout, fallback)

    def reboot(self, *, timeout: float | None = None, fallback: bool = False) -> None:
        """Ask it to shut down and reboot; see poweroff().

        `fallback` presses the reset button, which no Xen for x86 has (Unsupported). A domain that shuts down
        to reboot remains, with ShutdownReason.REBOOT, until a toolstack builds it again.
        """
        self._request("reboot", Trigger.RESET, timeout, fallback)

    def suspend(self, *, timeout: float = 60.0) -> None:
        """Ask it to stop as it does before it moves, and wait until it has.

        A kernel that has a port for that (device/suspend/event-channel) is notified there, others find the
        request in control/shutdown.
        It can be saved then, and continues with Domain.resume(fast=True). GuestSilent when it does not take
        the request, or does not stop, within `timeout` seconds each: it keeps running, as after Ctrl-C.
        GuestUnable also for one that is paused.
        """
        self.stop_to_move(timeout)

    def stop_to_move(self, timeout: float) -> float:
        """suspend(); returns the monotonic time at which the guest began to stop."""
        domid = self._domain.domid
        if self._domain.info().paused:
            raise errors.GuestUnable(f"domain {domid} is paused: its guest cannot take requests")
        port = self._suspend_port()
        if port is not None:
            return self._suspend_by_event(port, timeout)
        self._check_able("suspend")
        left = f"domain {domid} is suspended, or suspends later"
        with undoing.made(  # a request that was refused is not withdrawn, one that was interrupted is
            lambda: self._xen.store.write(f"{self._home}/control/shutdown", "suspend"),
            lambda _: self._keep_running(),
            lambda: (None,),
            left,
        ):
            self._wait_taken("suspend", timeout)
            since = time.monotonic()
            if not self._stops(timeout):
                text = f"the guest of domain {domid} took the request, and did not suspend in {timeout:g} s"
                raise errors.GuestSilent(f"{text}; {_later(domid)}")
        return since

    def _suspend_port(self) -> int | None:
        found = self._xen.store.read(f"{self._home}/device/suspend/event-channel") or b""
        return int(found) if found.isdigit() and len(found) <= _PORT_DIGITS else None

    def _suspend_by_event(self, port: int, timeout: float) -> float:
        from pyxc.host.events import EventChannels

        domid = self._domain.domid
        with EventChannels(self._xen) as channels:
            own = channels.bind_interdomain(domid, port)
            with undoing.on_failure(self._run_on, f"domain {domid} is suspended, or suspends later"):
                since = time.monotonic()
                channels.notify(own)
                if not self._stops(timeout):
                    text = f"the guest of domain {domid} was notified, and did not suspend in {timeout:g} s"
                    raise errors.GuestSilent(f"{text}; {_later(domid)}")
        return since

    def _run_on(self) -> None:
        """A guest that was notified stops in a moment, and is let run again."""
        with suppress(errors.DomainNotFound, errors.DomainGone, errors.GuestUnable):
            if self._stops(_STOPS_S):
                self._resume()

    def _stops(self, timeout: float) -> bool:
        """Whether it suspends in time. GuestUnable where it ends otherwise."""
        deadline = time.monotonic() + timeout
        while (reason := self._domain.info().shutdown_reason) is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_GLANCE_S)
        if reason is not ShutdownReason.SUSPEND:
            raise errors.GuestUnable(f"domain {self._domain.domid} has shut down instead: {reason!r}")
        return True

    def _keep_running(self) -> None:
        """Withdraw the request; a guest that has taken it stops in a moment, and is let run again."""
        try:
            if not self._withdraw("suspend") and self._stops(_STOPS_S):
                self._resume()
        except (errors.DomainNotFound, errors.DomainGone, errors.GuestUnable):
            return

    def _resume(self) -> None:
        from pyxc.domain import resume

        resume.continue_here(self._domain, fast=True)

    def sysrq(self, key: str) -> None:
        """Send a magic SysRq key to its kernel (control/sysrq): "s" syncs, "b" reboots, "h" lists all
        keys."""
        if len(key) != 1 or not key.isascii() or not key.isprintable():
            raise ValueError(f"key is {key!r}: expected one printable ASCII character")
        self._check_drivers(self._domain.info())
        self._xen.store.write(f"{self._home}/control/sysrq", key)

    def _request(self, what: Request, button: Trigger, timeout: float | None, fallback: bool) -> None:
        if timeout is None and fallback:
            timeout = ACKNOWLEDGED_S
        try:
            self._check_able(what)
            path = f"{self._home}/control/shutdown"
            if timeout is None:
                self._xen.store.write(path, what)
            else:
                with undoing.on_failure(lambda: self._withdraw(what), f"{path} still says {what}"):
                    self._xen.store.write(path, what)
                    self._wait_taken(what, timeout)
        except errors.GuestUnable:
            if not fallback or not self._domain.info().is_hvm:
                raise
            self._domain.change(domctl.SENDTRIGGER, trigger=int(button), vcpu=0)

    def _check_able(self, what: Request) -> None:
        """GuestUnable if the guest reports that it does not support this, or cannot report anything.

        "0" in the feature's node is no, "1" is yes; old kernels leave it empty and may still support it.
        """
        info = self._domain.info()
        feature = self._xen.store.read(f"{self._home}/control/feature-{what}")
        if feature == b"0":
            raise errors.GuestUnable(f"the guest of domain {info.domid} does not support {what}")
        if feature != b"1":
            self._check_drivers(info)
        if info.shutdown_reason is not None:
            raise errors.GuestUnable(f"domain {info.domid} has shut down: there is no guest to ask")

    def _check_drivers(self, info: DomainInfo) -> None:
        """GuestUnable for an HVM or PVH guest without Xen drivers, which sees no requests.

        The drivers set the guest's callback interrupt before they use xenstore.
        """
        if not self._xen.store.is_introduced(info.domid):
            raise errors.GuestUnable(f"domain {info.domid} does not use xenstore: its guest cannot be asked")
        if info.is_hvm and not self._has_callback():
            text = f"the guest of domain {info.domid} has no Xen drivers: it cannot see the request"
            raise errors.GuestUnable(text)

    def _has_callback(self) -> bool:
        from pyxc.abi.hvm import HvmParam
        from pyxc.domain.hvm_params import HvmParams

        return bool(HvmParams(self._domain).read(HvmParam.CALLBACK_IRQ))

    def _wait_taken(self, what: Request, timeout: float) -> None:
        """Wait until the guest empties or removes the node; GuestSilent if it does not in time."""
        path = f"{self._home}/control/shutdown"
        now = time.monotonic()
        deadline, again = now + timeout, now + _REPEATED_S
        with self._xen.store.watch(path) as watch:
            while self._xen.store.read(path) == what.encode():
                left = deadline - time.monotonic()
                if left > 0 and time.monotonic() > again:
                    self._replace(what, what)
                    again += _REPEATED_S
                if left <= 0:
                    raise errors.GuestSilent(
                        f"the guest of domain {self._domain.domid} has not accepted the request to {what}"
                        f" within {timeout:g} s"
                    )
                if self._domain.info().shutdown_reason is not None:
                    return
                watch.get(min(left, 1.0))

    def _withdraw(self, what: Request) -> bool:
        """Whether the request was still there."""
        self._xen.store.renew()  # the step may have failed because the connection ended
        return self._replace(what, "")

    def _replace(self, what: Request, text: str) -> bool:
        """Write to the node of a request, if that is still there."""
        path = f"{self._home}/control/shutdown"

        def replace(transaction: Transaction) -> bool:
            if transaction.read(path) != what.encode():
                return False
            transaction.write(path, text)
            return True

        return self._xen.store.transact(replace)

    def set_memory(self, kb: int, *, timeout: float | None = None, progress: Progress | None = None) -> None:
        """Ask its balloon driver to change its memory (memory/target), and adjust Xen's limit.

        ValueError for more than it was built with (memory/static-max). It returns when the request is
        written; with a `timeout` in seconds, when the domain owns that much, to 1 MiB, else it raises
        GuestSilent, and the request remains. `progress` is called with the owned and the requested KiB.
        """
        arguments.natural("kb", kb, 2**53, 1)
        info = self._domain.info()
        most = self._number("memory/static-max")
        if most is not None and kb > most:
            most_kb = f"{most} ({most >> 10} MiB)"
            text = f"kb is {kb} ({kb >> 10} MiB): domain {info.domid} was built with at most {most_kb}"
            raise ValueError(text)
        self._write_target(info, kb)
        if timeout is not None:
            self._wait_memory(kb, timeout, progress)

    def _write_target(self, info: DomainInfo, kb: int) -> None:
        """Xen's limit keeps its distance from the target. dom0's memory has no limit."""
        target = self._number("memory/target")
        above = max(_SLACK_KB, info.max_memory_kb - target) if target else _SLACK_KB
        path = f"{self._home}/memory/target"
        if info.domid == self._xen.own_domid:
            self._xen.store.write(path, str(kb))
            return

        before = self._xen.store.read(path)

        def restore() -> None:
            self._domain.undo(domctl.MAX_MEM, max_memkb=info.max_memory_kb)
            if before is not None and self._xen.store.read(path) != before:
                self._xen.store.write(path, before)

        left = f"domain {info.domid} may now own up to {kb + above} KiB, and may be asked for {kb}"
        with undoing.on_failure(restore, left):
            self._domain.change(domctl.MAX_MEM, max_memkb=kb + above)
            self._populate_on_demand(info, kb)
            self._xen.store.write(path, str(kb))

    def _populate_on_demand(self, info: DomainInfo, kb: int) -> None:
        """The target is also the limit of a guest that was built with less memory than it believes to
        have."""
        if not info.is_hvm:
            return
        from pyxc.domain.memory import Memory

        if Memory(self._domain).pod_target().pod_entries:
            Memory(self._domain).set_pod_target(kb)

    def _wait_memory(self, kb: int, timeout: float, progress: Progress | None) -> None:
        deadline = time.monotonic() + timeout
        while True:
            owned = self._domain.info().memory_kb
            if progress is not None:
                progress(owned, kb)
            if abs(owned - kb) <= _SLACK_KB:
                return
            if time.monotonic() >= deadline:
                raise errors.GuestSilent(
                    f"domain {self._domain.domid} owns {owned} KiB {timeout:g} s after the request for {kb}"
                )
            time.sleep(_LOOK_S)

    def set_vcpus(self, count: int) -> None:
        """Ask a PV or PVH guest to use its first `count` vcpus (cpu/N/availability).

        ValueError for more than the domain has. GuestUnable for an HVM guest, whose device model plugs vcpus.
        """
        info = self._domain.info()
        arguments.natural(f"count of vcpus of domain {info.domid}", count, max(1, info.nr_vcpus), 1)
        if info.is_hvm and (info.emulation_flags or 0) & ~_LOCAL_APIC_ONLY:
            raise errors.GuestUnable(f"domain {info.domid} is HVM: only its device model can plug vcpus")

        def write(transaction: Transaction) -> None:
            for index in range(info.nr_vcpus):
                path = f"{self._home}/cpu/{index}/availability"
                transaction.write(path, "online" if index < count else "offline")

        self._xen.store.transact(write)

    def _number(self, path: str) -> int | None:
        """A number that a toolstack wrote; None if there is none. DecodeError for anything else."""
        text = self._xen.store.read(f"{self._home}/{path}")
        if not text:
            return None
        if not text.isdigit() or len(text) > 16:
            raise errors.DecodeError(f"{self._home}/{path} is {text[:40]!r}, which is not a number")
        return int(text)

    def __repr__(self) -> str:
        return f"<Ask domain {self._domain.domid}>"


def _later(domid: int) -> str:
    return f"if it does later, `pyxc resume {domid}` lets it continue"
