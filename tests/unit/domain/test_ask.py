# SPDX-License-Identifier: MIT
"""Asking a guest: what it is asked through, what it does, and what it does not do."""

from __future__ import annotations

import pytest
from hosts import Boot, Host

from pyxc import ShutdownReason, errors
from pyxc.abi import domctl
from pyxc.abi.domctl import Trigger
from pyxc.abi.event_channel import Status
from pyxc.abi.hvm import HvmParam
from pyxc.domain import ask
from pyxc.link.faults import FaultLink
from pyxc.sim.guests.scripted import ScriptedGuest
from pyxc.store.permission import Access, Permission


def obedient(host: Host, domid: int = 1) -> ScriptedGuest:
    guest = host.truth.script(domid)
    guest.obey()
    return guest


@pytest.mark.parametrize("domid", [1, 2])
@pytest.mark.parametrize(
    ("what", "reason"), [("poweroff", ShutdownReason.POWEROFF), ("reboot", ShutdownReason.REBOOT)]
)
def test_a_guest_does_what_it_is_asked(host: Host, domid: int, what: str, reason: ShutdownReason) -> None:
    obedient(host, domid)
    domain = host.xen.domains[domid]
    getattr(domain.ask, what)(timeout=10)
    assert domain.wait_shut_down(timeout=10) == reason
    assert host.xen.store.read(f"/local/domain/{domid}/control/shutdown") == b""


def test_a_paused_guest_takes_it_when_it_runs(host: Host) -> None:
    build = host.xen.domains["build"]
    obedient(host, 3)
    build.ask.poweroff()
    assert build.info().shutdown_reason is None
    build.unpause()
    assert build.wait_shut_down(timeout=10) == ShutdownReason.POWEROFF


def test_a_silent_guest_is_reported_and_the_request_withdrawn(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    with pytest.raises(errors.GuestSilent, match="within 0.05 s"):
        web1.ask.poweroff(timeout=0.05)
    assert host.xen.store.read("/local/domain/1/control/shutdown") == b""
    with pytest.raises(TimeoutError):
        web1.wait_shut_down(timeout=0.05)


@pytest.mark.parametrize("what", ["poweroff", "suspend"])
def test_a_request_that_a_guest_ignores_is_repeated(
    host: Host, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Linux ignores what it is asked while it still resumes."""
    monkeypatch.setattr(ask, "_REPEATED_S", 0.05)
    guest, asked = host.truth.script(1), []

    def obey_the_second(request: str | None) -> None:
        if request != what:
            return
        asked.append(request)
        if len(asked) == 2:
            guest.write("control/shutdown", "")
            guest.stop(ShutdownReason.SUSPEND if what == "suspend" else ShutdownReason.POWEROFF)

    guest.when("control/shutdown", obey_the_second)
    getattr(host.xen.domains[1].ask, what)(timeout=10)
    assert asked == [what, what]


def test_without_a_timeout_the_request_stays(host: Host) -> None:
    host.xen.domains["web1"].ask.reboot()
    assert host.xen.store.read("/local/domain/1/control/shutdown") == b"reboot"
    obedient(host)
    assert host.xen.domains["web1"].wait_shut_down(timeout=10) == ShutdownReason.REBOOT


def test_what_a_guest_says_that_it_does_not_do(host: Host) -> None:
    host.truth.script(1).write("control/feature-reboot", "0")
    ask = host.xen.domains["web1"].ask
    with pytest.raises(errors.GuestUnable, match="does not support reboot"):
        ask.reboot()
    assert host.xen.store.read("/local/domain/1/control/shutdown") == b""
    ask.poweroff()


def test_a_guest_without_drivers(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    for request in (db1.ask.poweroff, db1.ask.reboot, lambda: db1.ask.sysrq("s")):
        with pytest.raises(errors.GuestUnable, match="no Xen drivers"):
            request()
    db1.ask.poweroff(fallback=True)
    assert host.truth.domains[2].triggered == [(Trigger.POWER, 0)]


def test_the_button_of_a_silent_guest_is_pressed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.truth.domains[2].params[HvmParam.CALLBACK_IRQ] = 1
    host.xen.domains["db1"].ask.poweroff(timeout=0.05, fallback=True)
    assert host.truth.domains[2].triggered == [(Trigger.POWER, 0)]


def test_a_pv_guest_has_no_button(host: Host) -> None:
    with pytest.raises(errors.GuestSilent):
        host.xen.domains["web1"].ask.poweroff(timeout=0.05, fallback=True)


def test_a_domain_that_shut_down_or_uses_no_xenstore(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    web1.shutdown()
    with pytest.raises(errors.GuestUnable, match="has shut down"):
        web1.ask.poweroff()
    made = host.xen.domains.create()
    with pytest.raises(errors.GuestUnable, match="does not use xenstore"):
        made.ask.poweroff()


def test_another_domain_is_not_asked(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    host.truth.kill(host.truth.domains[1])
    with pytest.raises(errors.DomainNotFound):
        web1.ask.poweroff()
    assert web1.wait_shut_down(timeout=1) is None


def test_a_key_is_pressed(host: Host) -> None:
    pressed: list[str | None] = []
    host.truth.script(1).when("control/sysrq", pressed.append)
    host.xen.domains["web1"].ask.sysrq("s")
    assert pressed[-1] == "s"
    for key in ("", "st", "\n", "ß"):
        with pytest.raises(ValueError, match="key"):
            host.xen.domains["web1"].ask.sysrq(key)


def test_memory_is_given_and_taken(host: Host) -> None:
    host.truth.script(1).balloon()
    web1 = host.xen.domains["web1"]
    seen: list[tuple[int, int]] = []
    web1.ask.set_memory(32 << 10, timeout=10, progress=lambda *kb: seen.append(kb))
    assert (web1.info().memory_kb, web1.info().max_memory_kb) == (32 << 10, (32 << 10) + 1024)
    assert seen[-1] == (32 << 10, 32 << 10)
    web1.ask.set_memory(64 << 10, timeout=10)
    assert web1.info().memory_kb == 64 << 10


def test_memory_beyond_what_it_was_built_for(host: Host) -> None:
    with pytest.raises(ValueError, match="built with at most 65536"):
        host.xen.domains["web1"].ask.set_memory(65 << 10)
    assert host.truth.domains[1].max_pages == 16_640


def test_a_balloon_that_does_nothing(host: Host) -> None:
    with pytest.raises(errors.GuestSilent, match="owns 65536 KiB"):
        host.xen.domains["web1"].ask.set_memory(32 << 10, timeout=0.05)


def test_a_target_that_cannot_be_written_leaves_the_limit(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise errors.StoreError(28, "no space")

    monkeypatch.setattr(host.xen.store, "write", refuse)
    with pytest.raises(errors.StoreError):
        host.xen.domains["web1"].ask.set_memory(32 << 10)
    assert host.truth.domains[1].max_pages == 16_640


@pytest.mark.parametrize("target", ["-5", "9" * 40, "many"])
def test_a_target_that_is_not_a_number(host: Host, target: str) -> None:
    host.xen.store.write("/local/domain/1/memory/target", target)
    with pytest.raises(errors.DecodeError, match="not a number"):
        host.xen.domains["web1"].ask.set_memory(32 << 10)


def test_vcpus_are_unplugged_and_plugged(host: Host) -> None:
    host.truth.script(1).plug()
    web1 = host.xen.domains["web1"]
    web1.ask.set_vcpus(1)
    assert [vcpu.info().online for vcpu in web1.vcpus] == [True, False]
    web1.ask.set_vcpus(2)
    assert [vcpu.info().online for vcpu in web1.vcpus] == [True, True]
    for count in (0, 3):
        with pytest.raises(ValueError, match="count"):
            web1.ask.set_vcpus(count)


def test_the_device_model_has_the_vcpus_of_hvm(host: Host) -> None:
    host.truth.domains[2].emulation_flags = 0x7F
    with pytest.raises(errors.GuestUnable, match="device model"):
        host.xen.domains["db1"].ask.set_vcpus(1)


def test_a_domain_gets_another_name(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    web1.set_name("web two")
    assert host.xen.domains["web two"] == web1
    assert web1.name == "web two"
    assert host.xen.store.read(f"/vm/{web1.uuid}/name") == b"web two"
    web1.set_name("web two")


@pytest.mark.parametrize("name", ["", "12", "a\nb", " a", "x" * 256, "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"])
def test_names_that_no_domain_can_have(host: Host, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a name"):
        host.xen.domains["web1"].set_name(name)


def test_a_name_has_one_domain(host: Host) -> None:
    with pytest.raises(ValueError, match="domain 2 already has the name db1"):
        host.xen.domains["web1"].set_name("db1")
    assert host.xen.domains["web1"].domid == 1


def test_a_read_only_handle_asks_nothing(boot: Boot) -> None:
    web1 = boot(readonly=True).xen.domains["web1"]
    for request in (web1.ask.poweroff, lambda: web1.ask.set_memory(1024), lambda: web1.set_name("other")):
        with pytest.raises(errors.ReadOnlyError):
            request()


def test_a_domain_that_ends_while_it_is_asked(host: Host) -> None:
    assert isinstance(host.link, FaultLink)
    guest = host.truth.script(1)
    guest.when("control/shutdown", lambda value: value and guest.stop(ShutdownReason.CRASH))
    web1 = host.xen.domains["web1"]
    web1.ask.poweroff(timeout=5)
    assert web1.wait_shut_down(timeout=5) == ShutdownReason.CRASH


def with_a_node_for_its_port(host: Host, domid: int) -> None:
    path = f"/local/domain/{domid}/device/suspend/event-channel"
    host.xen.store.write(path, "")
    host.xen.store.set_permissions(path, [Permission(domid, Access.NONE)])


@pytest.mark.parametrize("domid", [1, 2])
def test_a_guest_that_is_notified_to_suspend(host: Host, domid: int) -> None:
    """It does not look into control/shutdown."""
    guest, domain = host.truth.script(domid), host.xen.domains[domid]
    with_a_node_for_its_port(host, domid)
    port = guest.suspend_on_event()
    domain.ask.suspend(timeout=10)
    assert domain.info().shutdown_reason is ShutdownReason.SUSPEND
    assert domain.channels.status(port).status is Status.UNBOUND, "the next one can notify it too"
    domain.resume(fast=True)
    domain.ask.suspend(timeout=10)
    assert host.xen.store.read(f"/local/domain/{domid}/control/shutdown") == b""


def test_an_interrupt_once_it_was_notified(host: Host) -> None:
    """It suspends, and is let run again."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    guest, web1 = host.truth.script(1), host.xen.domains[1]
    with_a_node_for_its_port(host, 1)
    guest.suspend_on_event()
    host.link.after(domctl.GETDOMAININFO, lambda: None)
    host.link.after(domctl.GETDOMAININFO, interrupt)
    with pytest.raises(KeyboardInterrupt):
        web1.ask.suspend(timeout=10)
    assert web1.info().shutdown_reason is None
    assert web1.vcpu(0).context()["rax"] == 1, "its suspend was cancelled"


def test_a_guest_that_sleeps_through_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "_STOPS_S", 0.0)
    guest, web1 = host.truth.script(1), host.xen.domains[1]
    with_a_node_for_its_port(host, 1)
    port = guest.suspend_on_event()
    del guest.domain.ports.listeners[port]
    with pytest.raises(errors.GuestSilent, match="was notified, and did not suspend"):
        web1.ask.suspend(timeout=0.0)
    assert web1.info().shutdown_reason is None
    for nonsense in ("", "x", "7" * 1000):
        guest.write("device/suspend/event-channel", nonsense)
        with pytest.raises(errors.GuestSilent, match="has not accepted"):
            web1.ask.suspend(timeout=0.0)
    guest.write("device/suspend/event-channel", "999")
    with pytest.raises(errors.HypercallError):
        web1.ask.suspend(timeout=0.0)
