# SPDX-License-Identifier: MIT
"""Domains: found, listed, made, stopped and ended."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hosts import Boot, Host

from pyxc import Domain, DomainFlag, DomainInfo, HvmParam, ShutdownReason, errors
from pyxc.abi import domctl, sysctl
from pyxc.sim.model.domain import Domain as SimDomain

WEB1 = "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"
SOME_UUID = uuid.UUID("11111111-2222-4333-8444-555555555501")


def test_a_domain_is_found_by_id_uuid_and_name(host: Host) -> None:
    domains = host.xen.domains
    found = domains[1]
    assert found == domains[WEB1] == domains[uuid.UUID(WEB1)] == domains["web1"]
    assert hash(found) == hash(domains["web1"])
    assert found != domains[2] and found != "web1"
    assert (found.domid, str(found.uuid), found.name) == (1, WEB1, "web1")
    assert repr(found) == f"<Domain 1 'web1' {WEB1} on sim:xen-4.17>"


def test_a_domain_that_is_not_there_is_a_lookup_error(any_host: Host) -> None:
    for key in (2000, "2000", str(SOME_UUID), SOME_UUID, "nobody"):
        with pytest.raises(errors.DomainNotFound) as caught:
            any_host.xen.domains[key]
        assert isinstance(caught.value, KeyError)
        assert key not in any_host.xen.domains
    assert 2000 not in any_host.xen.domains
    assert any_host.xen.domains.get(2000) is None


def test_a_free_id_between_two_domains_is_not_the_next_one(any_host: Host) -> None:
    del any_host.truth.domains[1]
    with pytest.raises(errors.DomainNotFound):
        any_host.xen.domains[1]


@pytest.mark.parametrize("domid", [-1, 0x7FF0, 2**16])
def test_an_impossible_id_never_gets_to_the_hypervisor(host: Host, domid: int) -> None:
    before = host.link.hypercalls
    with pytest.raises(ValueError, match="domid"):
        host.xen.domains[domid]
    assert host.link.hypercalls == before


def test_names_can_be_left_out(boot: Boot) -> None:
    xen = boot(names=False).xen
    assert xen.domains[1].name is None
    with pytest.raises(
        errors.StoreError, match="the name web1 cannot be looked up .use an id or a UUID.: this"
    ):
        xen.domains["web1"]
    assert xen.domains[WEB1].domid == 1
    assert str(SOME_UUID) not in xen.domains


def test_all_domains_are_listed_with_what_they_are(any_host: Host) -> None:
    infos = any_host.xen.domains.infos()
    for info in infos:
        truth = any_host.truth.domains[info.domid]
        assert info.handle == truth.handle == info.uuid.bytes
        assert (info.tot_pages, info.max_pages) == (truth.tot_pages, truth.max_pages)
        assert (info.memory_kb, info.max_memory_kb) == (truth.tot_pages * 4, truth.max_pages * 4)
        assert info.is_hvm == truth.hvm
        assert info.paused == bool(truth.pauses)
        assert info.nr_vcpus == len(truth.live_vcpus)
        assert info == any_host.xen.domains[info.domid].info()._replace(cpu_time_ns=info.cpu_time_ns)
    assert list(any_host.xen.domains) == [info.domid for info in infos] == [0, 1, 2, 3]
    assert len(any_host.xen.domains) == 4
    assert repr(any_host.xen.domains) == f"<Domains of {any_host.link.target}>"


def test_a_list_longer_than_its_room_is_asked_for_again(host: Host) -> None:
    for domid in range(4, 304):
        host.truth.domains[domid] = SimDomain(domid, bytes(16), 0, 0)
    assert list(host.xen.domains) == list(range(304))
    before = host.link.hypercalls
    assert len(host.xen.domains.infos()) == 304
    assert host.link.hypercalls - before == 1, "the room that was needed is remembered"
    for domid in range(4, 304):
        del host.truth.domains[domid]


def test_more_records_than_there_was_room_for_are_not_believed(host: Host) -> None:
    host.link.lie(sysctl.GETDOMAININFOLIST, num_domains=100_000)
    with pytest.raises(errors.DecodeError, match="num_domains is reported as 100000"):
        host.xen.domains.infos()


def test_a_record_shows_what_people_want_to_know(host: Host) -> None:
    info = host.xen.domains[3].info()
    assert info.flags == DomainFlag.PAUSED
    assert "domid=3" in repr(info) and "DomainFlag.PAUSED" in repr(info) and str(info.uuid) in repr(info)
    assert info.shutdown_reason is None
    unknown = info._replace(flag_bits=DomainFlag.SHUTDOWN | 77 << 16)
    assert unknown.shutdown_reason == 77
    assert info._replace(max_vcpu_id=0xFFFFFFFF).nr_vcpus == 0


def test_what_a_release_does_not_tell_is_none(boot: Boot) -> None:
    assert boot("4.10").xen.domains[0].info().gpaddr_bits is None
    assert boot("4.17").xen.domains[0].info().gpaddr_bits == 40
    assert isinstance(boot("4.22").xen.domains[0].info(), DomainInfo)


@pytest.mark.parametrize("hvm", [False, True])
def test_a_new_domain_is_paused_and_empty(any_host: Host, hvm: bool) -> None:
    profile = any_host.truth.profile
    hap = hvm and profile.since(3, 3)
    made = any_host.xen.domains.create(hvm=hvm, hap=hap)
    truth = any_host.truth.domains[made.domid]
    info = made.info()
    assert made.uuid.bytes == truth.handle and made.uuid.version == 4
    assert (truth.pauses, truth.tot_pages, len(truth.live_vcpus)) == (1, 0, 1)
    assert (truth.hvm, truth.hap) == (hvm, hap)
    assert truth.max_grant_frames == (64 if profile.since(4, 10) else 32)
    assert truth.emulation_flags == int(hvm and profile.since(4, 8))
    assert (info.paused, info.nr_vcpus, info.nr_online_vcpus) == (True, 1, 0)
    made.destroy()
    assert made.domid not in any_host.truth.domains


def test_a_new_domain_is_as_it_was_asked_for(host: Host) -> None:
    made = host.xen.domains.create(
        uuid=SOME_UUID.bytes,
        max_vcpus=3,
        max_evtchn_port=127,
        max_grant_frames=8,
        max_maptrack_frames=0,
        domid=77,
    )
    truth = host.truth.domains[77]
    assert (made.domid, made.uuid, len(made.vcpus)) == (77, SOME_UUID, 3)
    assert (truth.ports.highest, truth.max_grant_frames) == (127, 8)
    with pytest.raises(errors.HypercallError, match="EEXIST"):
        host.xen.domains.create(domid=77)


@pytest.mark.parametrize(
    "options",
    [
        {"hap": True},
        {"uuid": b"x" * 15},
        {"uuid": "web1"},
        {"max_vcpus": 0},
        {"max_vcpus": 8193},
        {"max_evtchn_port": -1},
        {"max_grant_frames": -2},
        {"max_maptrack_frames": 2**31},
        {"ssidref": 2**32},
        {"domid": 0x7FF0},
    ],
    ids=str,
)
def test_a_bad_wish_never_gets_to_the_hypervisor(host: Host, options: dict[str, Any]) -> None:
    before = host.link.hypercalls
    with pytest.raises(ValueError):
        host.xen.domains.create(**options)
    assert host.link.hypercalls == before


@pytest.mark.parametrize("release", ["3.1", "4.10"])
def test_a_domain_for_pci_devices_is_asked_for_since_4_13(boot: Boot, release: str) -> None:
    with pytest.raises(errors.Unsupported, match="createdomain can choose iommu only since Xen 4.13"):
        boot(release).xen.domains.create(iommu=True)


def test_a_field_of_a_newer_release_is_not_left_out_in_silence(boot: Boot) -> None:
    domains = boot("4.10").xen.domains
    made = domains.create_bare(max_vcpus=2, max_evtchn_port=7, grant_opts=2, cpupool_id=0)
    assert made == 4
    for name in ("cpupool_id", "iommu_opts", "vmtrace_size", "altp2m.opts", "arch.misc_flags"):
        with pytest.raises(errors.Unsupported, match=f"this Xen's createdomain has no field '{name}'"):
            domains.create_bare(**{name: 1})
    with pytest.raises(TypeError, match="domctl.createdomain has no field 'max_vcpu'"):
        domains.create_bare(max_vcpu=2)


def test_a_handle_of_another_type_is_a_type_error(host: Host) -> None:
    with pytest.raises(TypeError, match="expected a UUID, not int"):
        host.xen.domains.create(uuid=12)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EINVAL])
def test_a_half_built_domain_does_not_stay(any_host: Host, number: int) -> None:
    before = set(any_host.truth.domains)
    any_host.link.fail(domctl.MAX_VCPUS, number)
    with pytest.raises(errors.HypercallError, match="domctl.max_vcpus"):
        any_host.xen.domains.create()
    assert set(any_host.truth.domains) == before


def test_pauses_nest(host: Host) -> None:
    domain = host.xen.domains[1]
    domain.pause()
    domain.pause()
    domain.unpause()
    assert domain.info().paused
    domain.unpause()
    assert not domain.info().paused
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        domain.unpause()


def test_a_domain_shuts_down_and_resumes(host: Host) -> None:
    domain = host.xen.domains[1]
    domain.shutdown(ShutdownReason.SUSPEND)
    assert domain.info().shutdown_reason is ShutdownReason.SUSPEND
    domain.resume()
    assert domain.info().shutdown_reason is None


def test_destroying_returns_when_the_id_is_free(any_host: Host) -> None:
    domain = any_host.xen.domains[1]
    domain.destroy()
    assert not domain.exists()
    assert 1 not in any_host.truth.domains
    assert any_host.owned(1) == set()


def test_the_id_of_a_destroyed_domain_can_be_given_again(any_host: Host) -> None:
    """Since 4.21 not at once: the hypervisor keeps it a moment longer."""
    any_host.xen.domains[1].destroy()
    made = any_host.xen.domains.create(domid=1)
    assert made.domid == 1
    with pytest.raises(errors.HypercallError, match="EEXIST|EINVAL"):
        any_host.xen.domains.create(domid=1)
    made.destroy()
    assert any_host.xen.domains.create_bare(1, max_vcpus=1, grant_opts=1) == 1


def test_a_lost_id_is_not_waited_for_without_end(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    host = boot("4.22")
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        host.xen.domains.create(domid=50, iommu=True)
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with pytest.raises(errors.HypercallError, match="EEXIST.*also after a creation that was refused"):
        host.xen.domains.create(domid=50)
    assert 0 < now[0] < 10


def test_destroying_waits_for_a_domain_that_goes_slowly(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = host.xen.domains[1]
    mapped = domain.memory.map(min(host.owned(1)))
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            mapped.close()

    monkeypatch.setattr("time.sleep", nap)
    domain.destroy()
    assert len(naps) == 3
    assert not domain.exists()


def test_a_stuck_domain_names_our_own_mappings_first(host: Host) -> None:
    domain = host.xen.domains[1]
    with domain.memory.map(sorted(host.owned(1))[:3]):
        with pytest.raises(errors.DomainStuck) as caught:
            domain.destroy(timeout=0)
        assert isinstance(caught.value, TimeoutError)
        assert "domain 1 is still dying after 0 s" in str(caught.value)
        assert "this process still maps 3 of its pages in 1 mapping(s)" in str(caught.value)
        assert domain.info().dying
    assert not domain.exists()


def test_a_domain_stuck_for_others_says_so(host: Host) -> None:
    domain = host.xen.domains[1]
    other = host.truth.connect()
    frame = host.xen.words(min(host.owned(1)).to_bytes(8, "little"))
    with other.map_frames(1, frame), pytest.raises(errors.DomainStuck, match="another process or a backend"):
        domain.destroy(timeout=0)


def test_a_domain_that_vanishes_under_destroy_is_destroyed(host: Host) -> None:
    host.link.fail(domctl.DESTROYDOMAIN, errno.ESRCH)
    host.xen.domains[1].destroy()


DESTRUCTIVE: list[Callable[[Domain], object]] = [
    lambda domain: domain.destroy(),
    lambda domain: domain.shutdown(),
    lambda domain: domain.resume(),
    lambda domain: domain.set_uuid(SOME_UUID),
    lambda domain: domain.memory.decrease([5]),
    lambda domain: domain.vcpu(0).set_context(domain.vcpu(0).context()),
]


def test_nothing_is_done_to_a_domain_that_took_over_an_id(host: Host) -> None:
    domain = host.xen.domains[1]
    newcomer = host.truth.domains[1]
    newcomer.handle = SOME_UUID.bytes
    before = (newcomer.tot_pages, newcomer.pauses, newcomer.shutdown_code, newcomer.live_vcpus[0].context)
    for destructive in DESTRUCTIVE:
        with pytest.raises(errors.DomainGone, match=f"1 now has the UUID {SOME_UUID}; {WEB1} has gone"):
            destructive(domain)
    assert not domain.exists()
    assert host.truth.domains[1] is newcomer and not newcomer.dying
    after = (newcomer.tot_pages, newcomer.pauses, newcomer.shutdown_code, newcomer.live_vcpus[0].context)
    assert after == before


def test_a_domain_keeps_its_object_when_its_uuid_changes(host: Host) -> None:
    domain = host.xen.domains[1]
    domain.set_uuid(str(SOME_UUID))
    assert host.truth.domains[1].handle == SOME_UUID.bytes
    assert domain.info().uuid == domain.uuid == SOME_UUID
    assert host.xen.domains[SOME_UUID] == domain


def test_limits_are_set_in_kib(host: Host) -> None:
    domain = host.xen.domains[1]
    domain.set_max_memory(8192)
    assert host.truth.domains[1].max_pages == 2048
    for kb in (-1, 2**60):
        with pytest.raises(ValueError, match="kb"):
            domain.set_max_memory(kb)
    with pytest.raises(ValueError, match="count"):
        domain.set_max_vcpus(-1)


def test_hvm_params_are_read_and_set(host: Host) -> None:
    domain = host.xen.domains["db1"]
    assert domain.hvm_params.read(HvmParam.CONSOLE_PFN) == 0xFEFFF
    domain.hvm_params.write(HvmParam.CALLBACK_IRQ, 2**56 + 1)
    assert host.truth.domains[2].params[HvmParam.CALLBACK_IRQ] == 2**56 + 1
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        host.xen.domains["web1"].hvm_params.read(HvmParam.CONSOLE_PFN)
    with pytest.raises(ValueError, match="value"):
        domain.hvm_params.write(HvmParam.CALLBACK_IRQ, 2**64)
    with pytest.raises(ValueError, match="param"):
        domain.hvm_params.read(-1)
