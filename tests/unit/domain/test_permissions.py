# SPDX-License-Identifier: MIT
"""Hardware that domains may use: ports, memory, interrupts."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import errors
from pyxc.abi.domctl_permissions import MEMORY_MAPPING
from pyxc.sim import Hypervisor, named

COM2, VGA = 0x2F8, 0xB8
REGION = 0xFD000
"""The frames of a device with a lot of memory."""


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ports_and_memory_are_given_and_taken(any_host: Host) -> None:
    web1, hardware = any_host.xen.domains[1], any_host.truth.domains[1].hardware
    web1.permissions.allow_io_ports(COM2, 8)
    web1.permissions.deny_io_ports(COM2 + 2)
    assert list(hardware.io_ports) == [COM2, COM2 + 1, *range(COM2 + 3, COM2 + 8)]
    web1.permissions.allow_memory(VGA, 4)
    web1.permissions.deny_memory(VGA + 1, 2)
    assert list(hardware.io_memory) == [VGA, VGA + 3]
    web1.permissions.allow_irq(9)
    assert list(hardware.irqs) == [9]
    web1.permissions.deny_irq(9)
    assert list(hardware.irqs) == []
    assert repr(web1.permissions) == "<Permissions of domain 1>"


def test_interrupts_by_their_number_on_the_machine(boot: Boot) -> None:
    host = boot("4.20")
    web1, hardware = host.xen.domains[1], host.truth.domains[1].hardware
    web1.permissions.allow_gsi(9)
    assert list(hardware.irqs) == [9]
    web1.permissions.deny_gsi(9)
    assert list(hardware.irqs) == []
    with pytest.raises(errors.Unsupported):
        boot("4.17").xen.domains[1].permissions.allow_gsi(9)


def test_what_is_xens_own_cannot_be_given(host: Host) -> None:
    permissions = host.xen.domains[1].permissions
    for call in (
        lambda: permissions.allow_io_ports(0x30, 0x11),
        lambda: permissions.allow_memory(0xFEDFF, 3),
        lambda: permissions.allow_irq(0),
    ):
        with pytest.raises(errors.PermissionDenied) as caught:
            call()
        assert caught.value.errno == errno.EPERM
    assert not host.truth.domains[1].hardware.io_ports


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("io_ports", (-1,)),
        ("io_ports", (0x10000,)),
        ("io_ports", (0xFFFF, 2)),
        ("io_ports", (0, 0)),
        ("memory", (-1,)),
        ("memory", (2**52,)),
        ("memory", (1, 0)),
        ("memory", (2**52 - 1, 2)),
        ("irq", (-1,)),
        ("gsi", (2**32,)),
    ],
)
def test_what_cannot_be_never_gets_to_the_hypervisor(host: Host, kind: str, arguments: tuple[int]) -> None:
    permissions = host.xen.domains[1].permissions
    before = host.link.hypercalls
    for verb in ("allow", "deny"):
        with pytest.raises(ValueError):
            getattr(permissions, f"{verb}_{kind}")(*arguments)
    assert host.link.hypercalls == before


def test_interrupts_beyond_a_byte(boot: Boot) -> None:
    with pytest.raises(ValueError, match="irq_permission"):
        boot("4.14").xen.domains[1].permissions.allow_irq(256)
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        boot("4.17").xen.domains[1].permissions.allow_irq(256)


def test_frames_of_devices_are_mapped_once_allowed(host: Host) -> None:
    db1, truth = host.xen.domains["db1"], host.truth.domains[2]
    with pytest.raises(errors.PermissionDenied):
        db1.memory.map_mmio(0xF0000, VGA, 2)
    db1.permissions.allow_memory(VGA, 2)
    db1.memory.map_mmio(0xF0000, VGA, 2)
    assert truth.mmio.runs() == [(range(0xF0000, 0xF0002), VGA)]
    db1.memory.unmap_mmio(0xF0001, VGA + 1)
    assert truth.mmio.runs() == [(range(0xF0000, 0xF0001), VGA)]
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        db1.memory.unmap_mmio(0xF0001, VGA + 1)
    for bad in ((-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 2**52 - 1, 2)):
        with pytest.raises(ValueError):
            db1.memory.map_mmio(*bad)


@pytest.mark.parametrize("release", [(4, 4), (4, 6), (4, 7), (4, 17), (4, 22)])
def test_many_frames_are_mapped_though_xen_takes_some_at_a_time(release: tuple[int, int]) -> None:
    base = "sim:xen-4.4" if release < (4, 7) else "sim:xen-4.7" if release < (4, 17) else "sim:xen-4.17"
    truth = Hypervisor(named(base)._replace(xen=release))
    with pyxc.connect(truth.connect()) as xen:
        db1 = xen.domains["db1"]
        db1.permissions.allow_memory(REGION, 1000)
        db1.memory.map_mmio(0xF0001, REGION, 1000)
        assert truth.domains[2].mmio.runs() == [(range(0xF0001, 0xF0001 + 1000), REGION)]
        db1.memory.unmap_mmio(0xF0001, REGION, 999)
        assert truth.domains[2].mmio.runs() == [(range(0xF0001 + 999, 0xF0001 + 1000), REGION + 999)]


@pytest.mark.parametrize("position", range(12))
@pytest.mark.parametrize("fault", ["error", "interrupt"])
def test_frames_are_mapped_all_or_none(host: Host, position: int, fault: str) -> None:
    """Whatever happens at any hypercall: each piece is preceded by a look at the domain."""
    db1, truth = host.xen.domains["db1"], host.truth.domains[2]
    db1.permissions.allow_memory(REGION, 300)
    if fault == "error":
        host.link.fail_call(position, errno.EIO)
    else:
        host.link.before_call(position, interrupt)
    try:
        db1.memory.map_mmio(0xF0000, REGION, 300)
    except (errors.HypercallError, KeyboardInterrupt):
        assert truth.mmio.runs() == []
    else:
        assert truth.mmio.runs() == [(range(0xF0000, 0xF0000 + 300), REGION)]
        assert position >= 10, "five pieces"


def test_frames_are_unmapped_all_or_none(host: Host) -> None:
    db1, truth = host.xen.domains["db1"], host.truth.domains[2]
    db1.permissions.allow_memory(REGION, 300)
    db1.memory.map_mmio(0xF0000, REGION, 100)
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        db1.memory.unmap_mmio(0xF0000, REGION, 300)
    assert truth.mmio.runs() == [(range(0xF0000, 0xF0000 + 100), REGION)]


def test_what_was_mapped_before_a_refusal_stays(host: Host) -> None:
    db1, truth = host.xen.domains["db1"], host.truth.domains[2]
    db1.permissions.allow_memory(REGION, 4)
    db1.memory.map_mmio(0xF0000, REGION, 4)
    db1.permissions.deny_memory(REGION, 4)
    with pytest.raises(errors.PermissionDenied):
        db1.memory.map_mmio(0xF0000, REGION, 4)
    assert truth.mmio.runs() == [(range(0xF0000, 0xF0000 + 4), REGION)]


def test_more_frames_than_asked_for_are_not_believed(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    db1.permissions.allow_memory(REGION, 300)
    host.link.lie(MEMORY_MAPPING, result=301)
    with pytest.raises(errors.DecodeError, match="number of frames done"):
        db1.memory.map_mmio(0xF0000, REGION, 300)


def test_a_read_only_handle_gives_nothing(boot: Boot) -> None:
    host = boot(readonly=True)
    with pytest.raises(errors.ReadOnlyError, match="ioport_permission"):
        host.xen.domains[1].permissions.allow_io_ports(COM2)
