# SPDX-License-Identifier: MIT
"""What is set for a domain as a whole: time, hardware, promised memory, virtual hardware."""

from __future__ import annotations

import errno
import time

import pytest

import pyxc
from pyxc import DomainFlag, E820Entry, HvmParam, HvmRecordType, MapSpace, Trigger, TscMode, errors

NO_SUCH_VCPU = 77
COM2, TIMER = 0x2F8, 0x40
VGA = 0xB8
"""The machine frame of the screen of text mode."""
FRAMEBUFFER = 0xFD000
"""The first machine frame of what this machine's graphics card has for its picture."""


def test_time(pv: pyxc.Domain) -> None:
    pv.set_time_offset(-3600)
    assert pv.tsc_info().mode is TscMode.DEFAULT
    pv.set_tsc(TscMode.ALWAYS_EMULATE, 1_000_000, incarnation=6, elapsed_ns=10**12)
    info = pv.tsc_info()
    assert (info.mode, info.khz, info.incarnation) == (TscMode.ALWAYS_EMULATE, 1_000_000, 7)
    assert 10**12 < info.elapsed_ns < 10**12 + 60 * 10**9
    pv.set_tsc(TscMode.NEVER_EMULATE)
    assert pv.tsc_info()[:2] == (TscMode.NEVER_EMULATE, 0)


def test_triggers(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    for domain in (pv, pvh):
        domain.send_trigger(Trigger.NMI)
    pvh.send_trigger(Trigger.POWER)
    with pytest.raises(pyxc.HypercallError) as caught:
        pv.send_trigger(Trigger.POWER)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(pyxc.Unsupported):
        pv.send_trigger(Trigger.RESET)
    with pytest.raises(pyxc.DomainNotFound):
        pv.send_trigger(Trigger.NMI, NO_SUCH_VCPU)


@pytest.mark.usefixtures("unguarded")
def test_debugging_shows_in_the_flags(pv: pyxc.Domain) -> None:
    pv.set_debugging(True)
    assert DomainFlag.DEBUGGED in pv.info().flags
    pv.set_debugging(False)
    assert DomainFlag.DEBUGGED not in pv.info().flags


@pytest.mark.usefixtures("unguarded")
def test_a_device_model_holds_its_guest(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    pv.set_target(pvh)
    with pytest.raises(pyxc.HypercallError, match="EINVAL"):
        pv.set_target(pvh)
    with pytest.raises(pyxc.DomainStuck):
        pvh.destroy(timeout=0.3)
    pv.destroy(timeout=10)
    deadline = time.monotonic() + 10
    while pvh.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pvh.exists()


@pytest.mark.usefixtures("unguarded")
def test_hardware_is_given_by_who_has_it(pv: pyxc.Domain) -> None:
    pv.permissions.allow_io_ports(COM2, 8)
    pv.permissions.deny_io_ports(COM2, 8)
    pv.permissions.allow_memory(VGA)
    pv.permissions.deny_memory(VGA)
    pv.permissions.allow_irq(9)
    pv.permissions.deny_irq(9)
    for refused in (
        lambda: pv.permissions.allow_io_ports(TIMER, 4),
        lambda: pv.permissions.allow_memory(0xFEE00),
        lambda: pv.permissions.allow_irq(0),
    ):
        with pytest.raises(pyxc.PermissionDenied):
            refused()


def test_interrupts_by_their_number_on_the_machine(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    if xen.interface.xen < (4, 20):
        with pytest.raises(pyxc.Unsupported):
            pv.permissions.allow_gsi(9)
    else:
        pv.permissions.allow_gsi(9)
        pv.permissions.deny_gsi(9)


@pytest.mark.usefixtures("unguarded")
def test_a_device_is_mapped_into_a_translated_domain(pvh: pyxc.Domain) -> None:
    with pytest.raises(pyxc.PermissionDenied):
        pvh.memory.map_mmio(0xF0000, VGA)
    pvh.permissions.allow_memory(VGA)
    pvh.memory.map_mmio(0xF0000, VGA)
    assert pvh.memory.maximum_gpfn() == 0xF0000
    pvh.memory.unmap_mmio(0xF0000, VGA)


@pytest.mark.usefixtures("unguarded")
def test_many_frames_are_mapped_though_xen_takes_some_at_a_time(xen: pyxc.Xen, pvh: pyxc.Domain) -> None:
    pvh.permissions.allow_memory(FRAMEBUFFER, 200)
    pvh.memory.map_mmio(0xF0001, FRAMEBUFFER, 200)
    pvh.memory.unmap_mmio(0xF0001 + 199, FRAMEBUFFER + 199)
    pvh.memory.unmap_mmio(0xF0001, FRAMEBUFFER, 199)
    with pytest.raises(pyxc.HypercallError, match="EINVAL"):
        pvh.memory.unmap_mmio(0xF0001, FRAMEBUFFER)
    with pytest.raises(pyxc.PermissionDenied):
        pvh.memory.map_mmio(0xF0001, FRAMEBUFFER, 201)
    with pytest.raises(pyxc.HypercallError, match="EINVAL"):
        pvh.memory.unmap_mmio(0xF0001, FRAMEBUFFER)


@pytest.mark.usefixtures("unguarded")
def test_interrupt_lines(pv: pyxc.Domain) -> None:
    pirq = pv.map_pirq(17)
    assert pirq >= 16
    with pytest.raises(pyxc.HypercallError, match="EEXIST"):
        pv.map_pirq(17, pirq + 1)
    pv.unmap_pirq(pirq)
    with pytest.raises(pyxc.HypercallError, match="EINVAL"):
        pv.unmap_pirq(pirq)


def test_without_an_iommu_there_are_no_devices_to_give(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    for refused in (
        lambda: pv.pci.can_assign("00:01.0"),
        lambda: pv.pci.assign("00:01.0"),
        lambda: pv.pci.deassign("00:01.0"),
        lambda: xen.pci_group("00:01.0"),
    ):
        with pytest.raises(pyxc.Unsupported):
            refused()


@pytest.mark.needs_xen(4, 13)
def test_without_an_iommu_no_domain_can_be_made_for_it(xen: pyxc.Xen) -> None:
    with pytest.raises(pyxc.HypercallError, match="createdomain.*EINVAL"):
        xen.domains.create(iommu=True)


def test_claims(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    pv.memory.claim(4096)
    assert pv.info().outstanding_pages == 1024
    assert xen.physinfo().outstanding_pages == 1024
    pv.memory.populate(range(24))
    assert pv.info().outstanding_pages == 1000
    with pytest.raises(pyxc.HypercallError, match="claim_pages.*EINVAL"):
        pv.memory.claim(4096)
    pv.memory.claim(0)
    assert xen.physinfo().outstanding_pages == 0
    pv.set_max_memory(1 << 33)
    with pytest.raises(pyxc.HypercallError) as caught:
        pv.memory.claim(1 << 33)
    assert caught.value.errno == errno.ENOMEM


def test_memory_on_demand(pvh: pyxc.Domain) -> None:
    assert pvh.memory.set_pod_target(1024) == (256, 256, 0)
    assert pvh.memory.pod_target() == (256, 256, 0)
    assert pvh.info().tot_pages == 256


def test_the_paging_pool(pvh: pyxc.Domain) -> None:
    pvh.memory.set_paging_pool(4 << 10)
    assert pvh.memory.paging_pool_kb() == 4 << 10


def test_memory_map_of_a_guest(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    for domain in (pv, pvh):
        domain.memory.set_e820([E820Entry(0, 4 << 20)] * 1024)
        with pytest.raises(pyxc.HypercallError, match="EINVAL"):
            domain.memory.set_e820([E820Entry(0, 4 << 20)] * 1025)


def test_pages_at_guest_frames(pvh: pyxc.Domain) -> None:
    pvh.memory.add_to_physmap(MapSpace.SHARED_INFO, 0, 0xF0000)
    assert pvh.info().shared_info_frame == 0xF0000
    pvh.memory.populate([16])
    pvh.memory.write(16, b"moves")
    pvh.memory.add_to_physmap(MapSpace.GMFN, 16, 20)
    assert pvh.memory.read(20, size=5) == b"moves"
    pvh.memory.remove_from_physmap(20)
    with pytest.raises(pyxc.HypercallError, match="ENOENT"):
        pvh.memory.remove_from_physmap(20)


def test_the_runs_of_an_address_space_are_its_frames(pvh: pyxc.Domain) -> None:
    pvh.memory.populate(range(512))
    pvh.memory.populate(range(0x1000, 0x1010))
    runs = list(pvh.memory.runs())
    assert [(run.first, run.nr_frames) for run in runs if run.kind == "memory"] == [(0, 512), (0x1000, 16)]
    assert [run.nr_2m for run in runs] == [1, 0, 0]
    assert sum(run.nr_frames for run in runs if run.kind != "hole") == len(pvh.memory.frames())


def test_log_dirty_mode_goes_on_and_off(pvh: pyxc.Domain) -> None:
    pvh.memory.populate(range(16, 32))
    with pvh.log_dirty as log:
        assert log.clean(64).dirty == 0
        with pytest.raises(pyxc.HypercallError, match="EINVAL"):
            log.enable()


@pytest.mark.needs_xen(4, 13)
def test_log_dirty_mode_that_was_left_on_is_found(xen: pyxc.Xen, pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    """While no page is dirty."""

    def found() -> list[int | None]:
        return [left.domid for left in xen.leftovers() if left.kind == "log-dirty"]

    pv.memory.populate([0])
    pvh.memory.populate(range(256))
    assert found() == []
    for domain in (pv, pvh):
        try:
            domain.log_dirty.enable()
        except errors.HypercallError:
            assert domain is pv, "which needs shadow page tables"
            continue
        assert found() == [domain.domid]
        domain.log_dirty.disable()
        assert found() == []


def test_log_dirty_mode_of_a_pv_domain_needs_shadow_tables(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    if pyxc.Capability.SHADOW in xen.platform:
        with pv.log_dirty as log:
            assert log.peek(64).dirty == 0
    else:
        with pytest.raises(pyxc.Unsupported):
            pv.log_dirty.enable()


def test_virtual_hardware_is_loaded_as_it_was_read(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    context = pvh.hvm_context.read()
    kinds = [record.type for record in context]
    assert kinds[0] is HvmRecordType.HEADER and kinds[-1] is HvmRecordType.END
    assert bytes(context.record(HvmRecordType.MTRR)) == pvh.hvm_context.record(HvmRecordType.MTRR)
    pvh.hvm_context.load(context)
    assert [record[:2] for record in pvh.hvm_context.read()] == [record[:2] for record in context]
    with pytest.raises(KeyError):
        pvh.hvm_context.record(HvmRecordType.CPU)
    with pytest.raises(errors.DecodeError):
        pvh.hvm_context.load(bytes(context)[:50])
    with pytest.raises(pyxc.HypercallError, match="EINVAL"):
        pv.hvm_context.read()


def test_all_hvm_params_at_once(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    pvh.hvm_params.write(HvmParam.CONSOLE_PFN, 0xFEFFF)
    params = pvh.hvm_params.all()
    assert params[HvmParam.CONSOLE_PFN] == 0xFEFFF
    assert params == {param: pvh.hvm_params.read(param) for param in params}
    with pytest.raises(pyxc.HypercallError, match="EINVAL"):
        pv.hvm_params.all()


def test_virtual_numa(pv: pyxc.Domain) -> None:
    assert pv.vnuma() is None
    ranges = (pyxc.VnumaRange(0, 2 << 20, 0), pyxc.VnumaRange(2 << 20, 4 << 20, 1))
    topology = pyxc.Vnuma(((10, 20), (21, 10)), (1, 0), ranges, (0, 0))
    pv.set_vnuma(topology)
    assert pv.vnuma() == topology._replace(physical_nodes=None)


def test_only_a_suspended_guest_is_told_how_it_goes_on(pv: pyxc.Domain) -> None:
    with pytest.raises(ValueError, match="not suspended"):
        pv.resume(fast=True)
