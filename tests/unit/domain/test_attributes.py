# SPDX-License-Identifier: MIT
"""Domains: time, triggers, debugging, device models, and how a suspended guest goes on."""

from __future__ import annotations

import struct

import pytest
from hosts import Boot, Host

from pyxc import ShutdownReason, Trigger, TscMode, errors
from pyxc.abi.arch import x86

START_INFO, STORE, CONSOLE = 11, 12, 13
"""pfns of web1's start_info, and of the pages that it names."""


def test_the_wall_clock_is_set_apart(any_host: Host) -> None:
    web1 = any_host.xen.domains[1]
    web1.set_time_offset(-7200)
    assert any_host.truth.domains[1].time.offset_seconds == -7200


def test_offsets_are_as_wide_as_the_release_has_them(boot: Boot) -> None:
    far = 2**40
    host = boot("4.17")
    host.xen.domains[1].set_time_offset(far)
    assert host.truth.domains[1].time.offset_seconds == far
    with pytest.raises(ValueError, match="settimeoffset"):
        boot("4.4").xen.domains[1].set_time_offset(far)


@pytest.mark.parametrize("release", ["4.1", "4.4", "4.7", "4.10", "4.17", "4.22"])
def test_a_time_stamp_counter_is_set_and_told(boot: Boot, release: str) -> None:
    host = boot(release)
    build = host.xen.domains[3]
    build.set_tsc(TscMode.ALWAYS_EMULATE, 1_000_000, incarnation=4, elapsed_ns=5 * 10**9)
    info = build.tsc_info()
    assert (info.mode, info.khz, info.incarnation) == (TscMode.ALWAYS_EMULATE, 1_000_000, 5)
    assert 5 * 10**9 <= info.elapsed_ns < 6 * 10**9
    build.set_tsc(TscMode.NEVER_EMULATE)
    assert build.tsc_info()[1:] == (0, 1, 0)


def test_a_mode_that_a_release_no_longer_has(boot: Boot) -> None:
    boot("4.10").xen.domains[3].set_tsc(TscMode.PVRDTSCP)
    with pytest.raises(errors.HypercallError, match="settscinfo.*EINVAL"):
        boot("4.14").xen.domains[3].set_tsc(TscMode.PVRDTSCP)


def test_no_time_stamp_counters_before_4_0(boot: Boot) -> None:
    with pytest.raises(errors.Unsupported):
        boot("3.4").xen.domains[1].tsc_info()


def test_bad_times_never_get_to_the_hypervisor(host: Host) -> None:
    web1 = host.xen.domains[1]
    before = host.link.hypercalls
    for bad in ({"khz": -1}, {"khz": 2**32}, {"incarnation": 2**32}, {"elapsed_ns": -1}):
        with pytest.raises(ValueError):
            web1.set_tsc(TscMode.DEFAULT, **bad)
    with pytest.raises(ValueError):
        web1.set_tsc(9)  # type: ignore[arg-type]
    assert host.link.hypercalls == before


def test_triggers_reach_their_vcpu(host: Host) -> None:
    host.xen.domains["web1"].send_trigger(Trigger.NMI, 1)
    host.xen.domains["db1"].send_trigger(Trigger.POWER)
    assert host.truth.domains[1].triggered == [(Trigger.NMI, 1)]
    assert host.truth.domains[2].triggered == [(Trigger.POWER, 0)]


def test_triggers_that_there_are_not(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        web1.send_trigger(Trigger.POWER)
    with pytest.raises(errors.Unsupported):
        web1.send_trigger(Trigger.RESET)
    with pytest.raises(errors.DomainNotFound, match="no such domain or vcpu"):
        web1.send_trigger(Trigger.NMI, 2)
    with pytest.raises(ValueError, match="vcpu"):
        web1.send_trigger(Trigger.NMI, -1)


def test_debugging_shows_in_the_flags(any_host: Host) -> None:
    web1 = any_host.xen.domains[1]
    web1.set_debugging(True)
    assert any_host.truth.domains[1].debugged
    web1.set_debugging(False)
    assert not any_host.truth.domains[1].debugged


def test_a_device_model_keeps_its_guest(host: Host) -> None:
    build, db1 = host.xen.domains["build"], host.xen.domains["db1"]
    build.set_target(db1)
    assert host.truth.domains[3].target is host.truth.domains[2]
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        build.set_target(db1)
    with pytest.raises(errors.DomainStuck):
        db1.destroy(timeout=0)
    build.destroy()
    assert not db1.exists()


def test_guests_of_32_bits(boot: Boot) -> None:
    made = boot("4.10").xen.domains.create()
    made.set_guest_bits(32)
    assert made.guest_bits() == 32
    with pytest.raises(errors.Unsupported):
        boot("4.17").xen.domains.create().set_guest_bits(32)
    with pytest.raises(ValueError, match="bits"):
        made.set_guest_bits(16)


def suspended(host: Host, domid: int) -> None:
    """A PV guest suspended itself as it should: with pfns in start_info, whose frame it passed in rdx."""
    truth, memory = host.truth.domains[domid], host.truth.machine.memory
    p2m = host.xen.domains[domid].memory.p2m().entries
    layout = host.truth.layout(x86.START_INFO_STRUCT)
    for name, pfn in (("store_mfn", STORE), ("console.domU.mfn", CONSOLE)):
        memory.write(p2m[START_INFO], layout.offsets[name], pfn.to_bytes(8, "little"))
    first = host.xen.domains[domid].vcpu(0)
    first.set_context(first.context().replace(rdx=p2m[START_INFO], rax=0))
    truth.shutdown_code = int(ShutdownReason.SUSPEND)


def named_in_start_info(host: Host, domid: int) -> tuple[int, int]:
    start_info = host.xen.domains[domid].memory.p2m().entries[START_INFO]
    layout = host.truth.layout(x86.START_INFO_STRUCT)
    page = host.truth.machine.memory.read(start_info, 0, layout.size)
    store, console = (
        struct.unpack_from("<Q", page, layout.offsets[name])[0] for name in ("store_mfn", "console.domU.mfn")
    )
    return store, console


def test_a_cancelled_suspend_returns_1_in_the_guest(host: Host) -> None:
    suspended(host, 1)
    web1 = host.xen.domains[1]
    web1.resume(fast=True)
    assert web1.info().shutdown_reason is None
    assert web1.vcpu(0).context()["rax"] == 1
    assert named_in_start_info(host, 1) == (STORE, CONSOLE)


def test_a_guest_believes_to_be_in_a_new_domain(host: Host) -> None:
    suspended(host, 1)
    web1 = host.xen.domains[1]
    web1.resume(fast=False)
    entries = web1.memory.p2m().entries
    assert named_in_start_info(host, 1) == (entries[STORE], entries[CONSOLE])
    assert web1.vcpu(0).context()["rax"] == 0
    assert host.truth.domains[1].live_vcpus[1].down
    assert web1.info().shutdown_reason is None


def test_a_translated_guest_without_drivers_has_no_return_code(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    registers = db1.vcpu(0).context()
    db1.shutdown(ShutdownReason.SUSPEND)
    db1.resume(fast=True)
    assert db1.vcpu(0).context()["rax"] == registers["rax"]
    db1.shutdown(ShutdownReason.SUSPEND)
    db1.resume(fast=False)
    assert db1.info().shutdown_reason is None


def test_a_guest_with_drivers_is_told(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    host.truth.domains[2].params[0] = 1
    db1.shutdown(ShutdownReason.SUSPEND)
    db1.resume(fast=True)
    assert db1.vcpu(0).context()["rax"] == 1


def test_only_a_suspended_guest_is_told_how_it_goes_on(host: Host) -> None:
    web1 = host.xen.domains[1]
    for fast in (True, False):
        with pytest.raises(ValueError, match="not suspended"):
            web1.resume(fast=fast)
    web1.shutdown(ShutdownReason.CRASH)
    with pytest.raises(ValueError, match="not suspended.*CRASH"):
        web1.resume(fast=True)
    web1.resume()


@pytest.mark.parametrize("pfn", [2**40, 10**6])
def test_a_guest_that_names_no_pfns_is_left_as_it_is(host: Host, pfn: int) -> None:
    suspended(host, 1)
    start_info = host.xen.domains[1].memory.p2m().entries[START_INFO]
    layout = host.truth.layout(x86.START_INFO_STRUCT)
    place = layout.offsets["store_mfn"]
    host.truth.machine.memory.write(start_info, place, pfn.to_bytes(8, "little"))
    with pytest.raises(errors.DecodeError, match="store_mfn in domain 1's start_info is not a pfn"):
        host.xen.domains[1].resume(fast=False)
    assert host.truth.domains[1].shutdown_code == ShutdownReason.SUSPEND
