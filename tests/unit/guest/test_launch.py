# SPDX-License-Identifier: MIT
"""Guests that are launched: what others see of them, and that nothing stays."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hosts import Boot, Host

from pyxc import Permission, ShutdownReason, StoreError, errors, sim
from pyxc.abi import domctl, hvm
from pyxc.abi.event_channel import Status
from pyxc.guest import remains
from pyxc.guest.built import BuiltDomain
from pyxc.guest.config import GuestConfig
from pyxc.guest.config_devices import Disk, Vif
from pyxc.guest.devices import Devices
from pyxc.guest.launch import launch
from pyxc.sim.guests.scripted import ScriptedGuest

HANDLE = UUID("11111111-2222-3333-4444-555555555555")


@pytest.fixture
def config(tmp_path: Path) -> GuestConfig:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(sim.kernel("pvh"))
    return GuestConfig(
        "shop", str(kernel), uuid=HANDLE, command_line="quiet", memory_kb=16 << 10, max_memory_kb=24 << 10,
        vcpus=1, max_vcpus=2,
    )  # fmt: skip


def tree(host: Host, path: str = "") -> dict[str, bytes]:
    """All nodes below a path with their values."""
    store = host.xen.store
    found = {path or "/": store.read(path or "/") or b""}
    for name in store.list(path or "/") or []:
        found |= tree(host, f"{path}/{name}")
    return found


def state(host: Host) -> tuple[object, ...]:
    """What a guest that has gone must not have changed."""
    domains = {info.domid: info.tot_pages for info in host.xen.domains.infos()}
    return tree(host), host.truth.machine.heap.free, domains


def test_others_see_it(host: Host, config: GuestConfig) -> None:
    domain = launch(host.xen, config)
    assert host.xen.domains["shop"] == domain
    assert host.xen.store.is_introduced(domain.domid)
    assert host.truth.domains[domain.domid].ports[domain.store_port].status is Status.INTERDOMAIN
    home = f"/local/domain/{domain.domid}"
    seen = tree(host)
    expected = {
        f"{home}/name": b"shop",
        f"{home}/vm": b"/vm/%s" % str(HANDLE).encode(),
        f"{home}/memory/target": b"16384",
        f"{home}/memory/static-max": b"24576",
        f"{home}/cpu/0/availability": b"online",
        f"{home}/cpu/1/availability": b"offline",
        f"{home}/store/ring-ref": b"%d" % domain.store_frame,
        f"{home}/console/ring-ref": b"%d" % domain.console_frame,
        f"{home}/console/port": b"%d" % domain.console_port,
        f"{home}/console/type": b"xenconsoled",
        f"/local/domain/0/backend/console/{domain.domid}/0/frontend": b"%s/console" % home.encode(),
        f"/vm/{HANDLE}/image/cmdline": b"quiet",
        f"/libxl/{domain.domid}/type": b"pvh",
    }
    assert expected.items() <= seen.items()
    assert domain.info().max_memory_kb == (24 << 10) + 1024


def test_what_the_guest_may_write(host: Host, config: GuestConfig) -> None:
    domain = launch(host.xen, config)
    domain.unpause()
    guest = host.truth.script(domain.domid)
    for path in ("data", "control/shutdown", "control/feature-poweroff", "device/suspend/event-channel"):
        guest.write(path, "1")
    for path in ("name", "console/tty", "console/port", "memory/target", "cpu/0/availability", "vm"):
        assert guest.read(path) is not None
        with pytest.raises(StoreError):
            guest.write(path, "1")
    assert guest.read(remains.marker(domain.domid)) is None
    permissions = host.xen.store.permissions(f"/local/domain/{domain.domid}/control/shutdown")
    assert permissions == (Permission.parse(f"n{domain.domid}"),)


def test_it_lives(host: Host, config: GuestConfig) -> None:
    def kernel(guest: ScriptedGuest) -> None:
        guest.obey()
        guest.echo()
        guest.print(f"booted {guest.read('name')}\n")

    host.truth.when_started(kernel)
    domain = launch(host.xen, config)
    with domain.console as console:
        domain.unpause()
        console.expect("booted shop", timeout=10)
        console.write("x")
        console.expect("x", timeout=10)
    domain.ask.poweroff(timeout=10)
    assert domain.wait_shut_down(timeout=10) is ShutdownReason.POWEROFF
    domain.destroy()


def test_nothing_stays_when_it_is_destroyed(host: Host, config: GuestConfig) -> None:
    launch(host.xen, config).destroy()  # Xen keeps no books of the first
    before = state(host)
    for _ in range(3):
        domain = launch(host.xen, config)
        domain.unpause()
        host.xen.domains["shop"].destroy()
        assert state(host) == before


def test_no_domain_of_another_toolstack_loses_its_nodes(host: Host) -> None:
    host.xen.domains["web1"].destroy()
    assert host.xen.store.read("/local/domain/1/name") == b"web1"


def test_the_nodes_of_a_successor_stay(host: Host, config: GuestConfig) -> None:
    domain = launch(host.xen, config)
    host.xen.store.write(remains.marker(domain.domid), "another")
    remains.remove(domain)
    assert host.xen.store.read(f"/local/domain/{domain.domid}/name") == b"shop"


def test_what_an_earlier_domain_left_goes(host: Host, config: GuestConfig) -> None:
    host.xen.store.write("/local/domain/4/data/secret", "of another")
    domain = launch(host.xen, config)
    assert domain.domid == 4
    assert host.xen.store.read("/local/domain/4/data/secret") is None


def test_names_are_unique(host: Host, config: GuestConfig) -> None:
    before = state(host)
    with pytest.raises(ValueError, match="domain 1 already has the name web1"):
        launch(host.xen, config._replace(name="web1"))
    assert state(host) == before


@pytest.mark.parametrize(
    "operation",
    [domctl.CREATEDOMAIN, domctl.MAX_MEM, domctl.SETVCPUAFFINITY, hvm.SET_PARAM, domctl.SETTIMEOFFSET],
)
def test_nothing_stays_when_a_step_fails(host: Host, config: GuestConfig, operation: Any) -> None:
    launch(host.xen, config).destroy()
    before = state(host)
    host.link.fail(operation, errno.ENOMEM)
    with pytest.raises(errors.HypercallError):
        launch(host.xen, config._replace(cpus=("0",), time_offset_seconds=5))
    assert host.link.pending == 0
    assert state(host) == before


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, StoreError(errno.EIO, "broken")])
@pytest.mark.parametrize("what", ["transact", "introduce"])
def test_nothing_stays_when_xenstore_fails(
    host: Host, config: GuestConfig, monkeypatch: pytest.MonkeyPatch, what: str, interrupt: Any
) -> None:
    launch(host.xen, config).destroy()
    before = state(host)
    done = getattr(host.xen.store, what)

    def fail(*arguments: Any) -> None:
        monkeypatch.setattr(host.xen.store, what, done)
        done(*arguments)
        raise interrupt

    monkeypatch.setattr(host.xen.store, what, fail)
    with pytest.raises(type(interrupt) if isinstance(interrupt, Exception) else interrupt):
        launch(host.xen, config)
    assert state(host) == before


def test_without_xenstore_there_is_no_guest(boot: Boot, config: GuestConfig) -> None:
    host = boot(with_store=False)
    with pytest.raises(StoreError):
        launch(host.xen, config)
    assert sorted(host.truth.domains) == [0, 1, 2, 3]


def test_all_that_can_be_set(host: Host, config: GuestConfig) -> None:
    domain = launch(host.xen, config._replace(
        cpus=("0", "all,^0"), cpus_soft=("1",), weight=512, cap=20, pool="Pool-0", time_offset_seconds=60
    ))  # fmt: skip
    assert [vcpu.affinity().hard for vcpu in domain.vcpus] == [{0}, {1}]
    scheduling: Any = domain.scheduling()
    assert (scheduling.weight, scheduling.cap) == (512, 20)
    assert host.truth.domains[domain.domid].time.offset_seconds == 60
    with pytest.raises(errors.ConfigError, match="this host has only cpus 0 to 1"):
        launch(host.xen, config._replace(name="other", cpus=("7",)))
    with pytest.raises(KeyError):
        launch(host.xen, config._replace(name="other", uuid=None, pool="fast"))


def test_it_has_devices_which_go_with_it(host: Host, config: GuestConfig) -> None:
    host.truth.serve_devices()
    launch(host.xen, config).destroy()
    disks = (Disk.parse("phy:/dev/vg/a,xvda,w"), Disk.parse("phy:/dev/vg/b,xvdb,r"))
    launch(host.xen, config._replace(disks=disks, vifs=(Vif(),))).destroy()
    before = state(host)
    domain = launch(host.xen, config._replace(disks=disks, vifs=(Vif(),)))
    assert [device.number for device in Devices(domain)] == [51712, 51728, 0]
    domain.destroy()
    assert state(host) == before


def test_its_back_end_lets_go_of_it(host: Host, config: GuestConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver of dom0 maps the guest's memory until the device has gone, and the domain ends after that."""
    host.truth.serve_devices()
    domain = launch(host.xen, config._replace(disks=(Disk.parse("phy:/dev/vg/a,xvda,w"),)))
    (disk,) = Devices(domain)
    frame = host.xen.words(min(host.owned(domain.domid)).to_bytes(8, "little"))
    held = host.truth.connect().map_frames(domain.domid, frame)

    def nap(seconds: float) -> None:
        assert domain.info().dying
        if host.xen.store.read(disk.backend) is None:
            held.close()

    monkeypatch.setattr("time.sleep", nap)
    domain.destroy(timeout=10)
    assert not domain.exists()


def test_nothing_stays_without_a_backend(
    host: Host, config: GuestConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Devices.attach_vif, "__defaults__", (0.05,))
    launch(host.xen, config).destroy()
    with pytest.raises(TimeoutError, match="xen-netback"):
        launch(host.xen, config._replace(vifs=(Vif(),)))
    assert sorted(host.truth.domains) == [0, 1, 2, 3]
    assert host.xen.store.list("/libxl") == []


def test_a_read_only_handle_launches_nothing(boot: Boot, config: GuestConfig) -> None:
    with pytest.raises(errors.ReadOnlyError):
        launch(boot(readonly=True).xen, config)


def test_its_console_is_known_before_xenstore_knows_it(host: Host) -> None:
    domain = host.xen.domains.build(sim.kernel("pvh"), memory_kb=16 << 10)
    assert isinstance(domain, BuiltDomain)
    with domain.console as console:
        assert console.read(timeout=0) == b""
