# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: memory, parameters, devices, interrupts and clocks of domains."""

from __future__ import annotations

import errno
import struct

import pytest
from hosts import Bind, truth_of

from pyxc.compat.xc import Error, xc

PV, PVH, PAUSED = 1, 2, 3
NOBODY = 4999
NETWORK, OTHER = "0x0,0x3,0x0,0x0", "0x0,0x7,0x0,0x0"


def test_memory(libxc: xc) -> None:
    assert libxc.domain_setmaxmem(PV, 131072) == 0
    assert libxc.domain_getinfo(PV, 1)[0]["maxmem_kb"] == 131072
    assert libxc.shadow_mem_control(dom=PVH, mb=3) == 3
    assert libxc.shadow_mem_control(PVH) == 3
    assert libxc.pages_to_kib(5) == 20
    with pytest.raises(Error) as caught:
        libxc.shadow_mem_control(NOBODY)
    assert caught.value.errno == errno.ESRCH


def test_hvm_parameters(libxc: xc) -> None:
    assert libxc.hvm_set_param(domid=PVH, param=17, value=0x1234) == 0
    assert libxc.hvm_get_param(PVH, 17) == 0x1234
    with pytest.raises(Error) as caught:
        libxc.hvm_get_param(PVH, 9999)
    assert caught.value.errno == errno.EINVAL


def test_gnttab_hvm_seed(libxc: xc) -> None:
    assert libxc.gnttab_hvm_seed(PVH, 0x12, 0x13, 0, PV) is None
    frame = truth_of(libxc).domains[PVH].grant_frames[0]
    entries = truth_of(libxc).machine.memory.read(frame, 0, 16)
    assert entries == struct.pack("<HHIHHI", 1, 0, 0x12, 1, PV, 0x13)
    assert libxc.gnttab_hvm_seed(PVH, -1, 0x14, 0, PVH) is None
    assert truth_of(libxc).machine.memory.read(frame, 0, 16) == entries
    with pytest.raises(Error) as caught:
        libxc.gnttab_hvm_seed(NOBODY, 1, 2, 0, 0)
    assert caught.value.errno == errno.ESRCH


def test_event_channels(libxc: xc) -> None:
    domid = libxc.domain_create()
    assert libxc.evtchn_alloc_unbound(domid, 0) == 1
    assert libxc.evtchn_alloc_unbound(domid=domid, remote_dom=0) == 2
    assert libxc.evtchn_reset(dom=domid) == 0
    assert libxc.evtchn_alloc_unbound(domid, 0) == 1
    with pytest.raises(Error) as caught:
        libxc.evtchn_alloc_unbound(NOBODY, 0)
    assert caught.value.errno == errno.ESRCH


@pytest.mark.parametrize("own", [0, 0x7FF0])
def test_the_own_domain_keeps_its_event_channels(libxc: xc, own: int) -> None:
    with pytest.raises(Error) as caught:
        libxc.evtchn_reset(own)
    assert caught.value.errno == errno.EINVAL


def test_limits_and_targets(libxc: xc) -> None:
    assert libxc.domain_set_target_mem(PVH, 4096) == 0
    assert libxc.domain_set_memmap_limit(PV, 8192) == 0
    assert libxc.shadow_control(dom=PVH, op=2) == libxc.shadow_control(PVH) == 0
    with pytest.raises(Error) as caught:
        libxc.shadow_control(PVH, 77)
    assert caught.value.errno == errno.EINVAL


def test_permissions(libxc: xc) -> None:
    assert libxc.domain_ioport_permission(PV, 0x60, 4, 1) == 0
    assert libxc.domain_ioport_permission(domid=PV, first_port=0x60, nr_ports=4, allow_access=256) == 0
    assert libxc.domain_irq_permission(domid=PV, pirq=17, allow_access=1) == 0
    assert libxc.domain_iomem_permission(domid=PV, first_pfn=0xFEB00, nr_pfns=2, allow_access=1) == 0
    hardware = truth_of(libxc).domains[PV].hardware
    assert 0x60 in hardware.io_ports
    assert 17 in hardware.irqs
    assert 0xFEB01 in hardware.io_memory
    assert libxc.domain_irq_permission(PV, 17, 0) == 0
    assert 17 not in truth_of(libxc).domains[PV].hardware.irqs
    with pytest.raises(Error) as caught:
        libxc.domain_ioport_permission(PV, 0xFFFF, 2, 1)
    assert caught.value.errno == errno.EINVAL


def test_interrupts(libxc: xc) -> None:
    assert libxc.physdev_map_pirq(PV, 17, -1) == 17
    assert libxc.physdev_map_pirq(domid=PV, index=18, pirq=20) == 20
    with pytest.raises(Error) as caught:
        libxc.physdev_map_pirq(NOBODY, 17, -1)
    assert caught.value.errno == errno.ESRCH
    with pytest.raises(Error) as caught:
        libxc.physdev_pci_access_modify(PV, 0, 1, 0, 1)
    assert caught.value.errno == errno.ENOSYS


def test_clocks_triggers_and_sharing(libxc: xc) -> None:
    assert libxc.domain_set_time_offset(PV, -3600) == 0
    assert libxc.domain_set_tsc_info(PAUSED, 2) == 0
    assert libxc.domain_send_trigger(domid=PVH, trigger=0) == 0
    for call in (
        lambda: libxc.domain_set_time_offset(NOBODY, 1),
        lambda: libxc.domain_set_tsc_info(NOBODY, 0),
        lambda: libxc.domain_send_trigger(NOBODY, 0),
        lambda: libxc.dom_set_memshr(NOBODY, 1),
    ):
        with pytest.raises(Error) as caught:
            call()
        assert caught.value.errno == errno.ESRCH


@pytest.mark.parametrize("release", ["4.1", "4.4", "4.14"])
def test_the_time_stamp_counter_of_earlier_releases(bind: Bind, release: str) -> None:
    assert bind(release).domain_set_tsc_info(PAUSED, 1) == 0


def test_pci_devices(bind: Bind) -> None:
    libxc = bind("sim:xen-4.17-pci")
    domid = libxc.domain_create(flags=1 << 5)
    assert libxc.test_assign_device(domid, NETWORK) == 0
    assert libxc.assign_device(domid=domid, pci=NETWORK) == 0
    assert truth_of(libxc).pci[0x0300] == domid
    assert libxc.assign_device(domid, NETWORK) == 0x0300
    assert libxc.deassign_device(domid, f"{NETWORK},{OTHER}") == 0x0700
    assert truth_of(libxc).pci[0x0300] == 0
    assert libxc.assign_device(domid, "") == libxc.assign_device(domid, "0x3") == 0
    assert libxc.assign_device(70000, NETWORK) == 0x0300
    group = libxc.get_device_group(domid, 0, 3, 0, 0)
    assert all(part.count(":") == part.count(".") == 1 for part in group.rstrip(",").split(",") if part)
    with pytest.raises(Error) as caught:
        libxc.get_device_group(NOBODY, 0, 3, 0, 0)
    assert caught.value.errno == errno.ESRCH


def test_pci_devices_are_numbered_as_the_release_does(bind: Bind) -> None:
    """xend of 4.1 takes the answer of its own binding apart."""
    assert bind("4.10").assign_device(PV, "0x0,0x3,0x2,0x1") in (-1, 0x0311)
    libxc = bind("4.1")
    assert libxc._packed(0, 3, 2, 1) == 3 << 16 | 2 << 11 | 1 << 8
    assert bind("3.1").test_assign_device(PV, NETWORK) == -1


@pytest.mark.parametrize("pci", ["0x0,0x3,0x0", "a,b,c,d", "0x0,0x3,0x0,0x0,0x1"])
def test_fixed_a_list_of_devices_that_makes_no_sense(libxc: xc, pci: str) -> None:
    with pytest.raises(Error) as caught:
        libxc.assign_device(PV, pci)
    assert caught.value.errno == errno.EINVAL


def test_fixed_memory_of_more_than_2_tib(libxc: xc) -> None:
    assert libxc.domain_setmaxmem(PV, 3 << 31) == 0
    assert libxc.domain_getinfo(PV, 1)[0]["maxmem_kb"] == 3 << 31


def test_fixed_values_with_the_highest_bit(libxc: xc) -> None:
    libxc.hvm_set_param(PVH, 17, 2**64 - 1)
    assert libxc.hvm_get_param(PVH, 17) == 2**64 - 1
    libxc.hvm_set_param(PVH, 17, -2)
    assert libxc.hvm_get_param(PVH, 17) == 2**64 - 2
