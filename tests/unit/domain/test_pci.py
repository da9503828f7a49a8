# SPDX-License-Identifier: MIT
"""PCI devices of domains, and interrupt lines."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

from pyxc import PciAddress, errors

NETWORK = "0000:03:00.0"
SBDF = 0x0300


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0000:03:00.0", (0, 3, 0, 0)),
        ("03:1f.7", (0, 3, 31, 7)),
        ("10a3:fF:0a.1", (0x10A3, 0xFF, 10, 1)),
    ],
)
def test_addresses_are_as_lspci_prints_them(text: str, address: tuple[int, int, int, int]) -> None:
    parsed = PciAddress.parse(text)
    assert parsed == address
    assert str(parsed).endswith(text.lower())
    assert PciAddress.parse(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["", "03:00", "03:20.0", "03:00.8", "1:2:3:4.0", "x3:00.0", "03:00.0 "])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="not a PCI address"):
        PciAddress.parse(text)


@pytest.fixture
def pci_host(boot: Boot) -> Host:
    return boot("sim:xen-4.17-pci")


def test_a_device_goes_to_a_domain_and_back(pci_host: Host) -> None:
    made = pci_host.xen.domains.create(hvm=True, hap=True, iommu=True)
    assert made.pci.can_assign(NETWORK)
    made.pci.assign(NETWORK, rdm_relaxed=True)
    assert pci_host.truth.pci[SBDF] == made.domid
    assert not made.pci.can_assign(NETWORK)
    other = pci_host.xen.domains.create(iommu=True)
    with pytest.raises(errors.HypercallError, match="EBUSY"):
        other.pci.assign(NETWORK)
    with pytest.raises(errors.HypercallError) as caught:
        other.pci.deassign(NETWORK)
    assert caught.value.errno == errno.ENODEV
    made.pci.deassign(PciAddress(0, 3, 0, 0))
    assert pci_host.truth.pci[SBDF] == 0
    assert repr(made.pci) == f"<Pci of domain {made.domid}>"


def test_a_domain_that_ends_gives_its_devices_back(pci_host: Host) -> None:
    made = pci_host.xen.domains.create(iommu=True)
    made.pci.assign(NETWORK)
    made.destroy()
    assert pci_host.truth.pci[SBDF] == 0


def test_a_device_that_is_not_there(pci_host: Host) -> None:
    made = pci_host.xen.domains.create(iommu=True)
    assert not made.pci.can_assign("ff:00.0")
    with pytest.raises(errors.HypercallError, match="ENODEV"):
        made.pci.assign("ff:00.0")


def test_devices_that_cannot_be_told_apart(pci_host: Host) -> None:
    assert pci_host.xen.pci_group(NETWORK) == [PciAddress(0, 3, 0, 1)]
    assert pci_host.xen.pci_group("04:00.0") == []


def test_a_domain_without_iommu_gets_no_device(pci_host: Host) -> None:
    with pytest.raises(errors.Unsupported):
        pci_host.xen.domains.create().pci.assign(NETWORK)


def test_a_host_without_iommu(any_host: Host) -> None:
    with pytest.raises(errors.Unsupported):
        any_host.xen.domains[1].pci.can_assign(NETWORK)


def test_segments_came_with_4_2(boot: Boot) -> None:
    with pytest.raises(ValueError, match="segment 0"):
        boot("4.1").xen.domains[1].pci.can_assign("0001:03:00.0")


@pytest.mark.parametrize("address", [(0, 0, 32, 0), (0, 256, 0, 0), (2**16, 0, 0, 0), (0, 0, 0, 8)])
def test_impossible_addresses_never_get_to_the_hypervisor(
    pci_host: Host, address: tuple[int, int, int, int]
) -> None:
    before = pci_host.link.hypercalls
    with pytest.raises(ValueError):
        pci_host.xen.pci_group(PciAddress(*address))
    assert pci_host.link.hypercalls - before <= 1


def test_interrupt_lines(host: Host) -> None:
    web1, hardware = host.xen.domains["web1"], host.truth.domains[1].hardware
    pirq = web1.map_pirq(17)
    assert hardware.pirqs == {pirq: 17} and 17 in hardware.irqs
    assert web1.map_pirq(17) == pirq
    assert web1.map_pirq(18, 30) == 30
    with pytest.raises(errors.HypercallError, match="EEXIST"):
        web1.map_pirq(17, 31)
    web1.unmap_pirq(pirq)
    assert hardware.pirqs == {30: 18} and 17 not in hardware.irqs
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        web1.unmap_pirq(pirq)
    with pytest.raises(ValueError, match="gsi"):
        web1.map_pirq(-1)
    with pytest.raises(ValueError, match="pirq"):
        web1.map_pirq(17, -1)
