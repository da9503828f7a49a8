# SPDX-License-Identifier: MIT
"""Staying with a guest: what follows from how it ended."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hosts import Host

from pyxc import ShutdownReason, StoreError, sim
from pyxc.abi import domctl
from pyxc.errors import HypercallError
from pyxc.guest.attend import Ways, attend
from pyxc.guest.built import BuiltDomain
from pyxc.guest.config import Actions, GuestConfig
from pyxc.sim.guests.scripted import ScriptedGuest

POWEROFF, REBOOT, CRASH = ShutdownReason.POWEROFF, ShutdownReason.REBOOT, ShutdownReason.CRASH


@pytest.fixture
def config(tmp_path: Path) -> GuestConfig:
    (tmp_path / "kernel").write_bytes(sim.kernel("pvh"))
    return GuestConfig("shop", str(tmp_path / "kernel"), memory_kb=16 << 10, max_memory_kb=16 << 10)


class Story:
    """Guests that end one after the other for given reasons, and what was said and slept meanwhile."""

    def __init__(self, host: Host, tmp_path: Path, *reasons: ShutdownReason) -> None:
        self.host = host
        self.reasons = list(reasons)
        self.said: list[str] = []
        self.slept: list[float] = []
        self.uuids: list[object] = []
        self.ways = Ways(
            say=self.said.append,
            sleep=self.slept.append,
            dump=lambda domain: str(tmp_path / f"{domain.domid}.core"),
        )
        host.truth.when_started(self.kernel)

    def kernel(self, guest: ScriptedGuest) -> None:
        self.uuids.append(guest.read("vm"))
        guest.stop(self.reasons.pop(0))


def test_it_is_built_again_until_it_powers_off(host: Host, config: GuestConfig, tmp_path: Path) -> None:
    story = Story(host, tmp_path, REBOOT, REBOOT, POWEROFF)
    assert attend(host.xen, config, story.ways) is POWEROFF
    assert len(set(story.uuids)) == 1, "a reboot keeps the UUID"
    assert story.slept == [1.0, 2.0]
    assert sorted(host.truth.domains) == [0, 1, 2, 3]
    assert host.xen.store.list("/libxl") == []


def test_the_delay_grows_to_a_minute(host: Host, config: GuestConfig, tmp_path: Path) -> None:
    story = Story(host, tmp_path, *[REBOOT] * 8, POWEROFF)
    attend(host.xen, config, story.ways)
    assert story.slept == [1, 2, 4, 8, 16, 32, 60, 60]


def test_its_core_is_dumped(host: Host, config: GuestConfig, tmp_path: Path) -> None:
    story = Story(host, tmp_path, CRASH, POWEROFF)
    config = config._replace(actions=Actions(crash="coredump-restart"))
    attend(host.xen, config, story.ways)
    (core,) = tmp_path.glob("*.core")
    assert core.stat().st_size > 16 << 20
    assert f"its memory is in {core}" in story.said


def test_a_dump_that_fails_holds_nothing_up(host: Host, config: GuestConfig, tmp_path: Path) -> None:
    story = Story(host, tmp_path, CRASH)
    config = config._replace(actions=Actions(crash="coredump-destroy"))
    ways = story.ways._replace(dump=lambda domain: "/nowhere/core")
    assert attend(host.xen, config, ways) is CRASH
    assert any("could not be written to /nowhere/core" in text for text in story.said)
    assert sorted(host.truth.domains) == [0, 1, 2, 3]


def test_it_is_kept_under_another_name(host: Host, config: GuestConfig, tmp_path: Path) -> None:
    story = Story(host, tmp_path, CRASH, POWEROFF)
    attend(host.xen, config._replace(actions=Actions(crash="rename-restart")), story.ways)
    assert host.xen.domains["shop-4"].info().shutdown_reason is CRASH
    assert len(set(story.uuids)) == 2
    assert "shop" not in host.xen.domains


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, HypercallError(errno.EIO, "test")])
def test_an_interrupt_ends_the_guest(host: Host, config: GuestConfig, interrupt: type[BaseException]) -> None:
    def live(domain: BuiltDomain) -> None:
        domain.unpause()
        raise interrupt

    with pytest.raises(type(interrupt) if isinstance(interrupt, Exception) else interrupt):
        attend(host.xen, config, Ways(live=live, say=lambda text: None))
    assert sorted(host.truth.domains) == [0, 1, 2, 3]
    assert host.xen.store.read("/local/domain/4") is None


def test_xenstored_may_restart_meanwhile(host: Host, config: GuestConfig) -> None:
    def live(domain: BuiltDomain) -> ShutdownReason:
        for session in list(host.truth.store.sessions):
            host.truth.store.disconnect(session)
        with pytest.raises(StoreError):
            host.xen.store.read("/")
        return POWEROFF

    attend(host.xen, config, Ways(live=live, say=lambda text: None))
    assert host.xen.store.read("/local/domain/4") is None


def test_a_launch_that_fails_is_an_error(host: Host, config: GuestConfig) -> None:
    host.link.fail(domctl.CREATEDOMAIN, errno.ENOMEM)
    with pytest.raises(HypercallError):
        attend(host.xen, config, Ways(say=lambda text: None))
