# SPDX-License-Identifier: MIT
"""Domains: made, found, changed, stopped and destroyed."""

from __future__ import annotations

import errno
import time
import uuid

import pytest
from ground_truth import BALLOON, online_cpus

import pyxc
from pyxc import DomainFlag, HvmParam, ShutdownReason
from pyxc.abi import domctl

NOT_THERE = 0x7000


def test_dom0(xen: pyxc.Xen) -> None:
    info = xen.domains[0].info()
    assert info.memory_kb == int(BALLOON.read_text())
    assert info.nr_online_vcpus == info.nr_vcpus == online_cpus()
    assert info.uuid == uuid.UUID(int=0)
    assert DomainFlag.RUNNING in info.flags
    assert not info.is_hvm and not info.paused and not info.dying and info.shutdown_reason is None


def test_time_of_dom0_goes_on(xen: pyxc.Xen) -> None:
    before, started = xen.domains[0].info().cpu_time_ns, time.monotonic_ns()
    while time.monotonic_ns() - started < 50_000_000:
        pass
    spent = xen.domains[0].info().cpu_time_ns - before
    assert 0 < spent <= (time.monotonic_ns() - started) * online_cpus()


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_new_domain_is_empty_and_paused(xen: pyxc.Xen, kind: str, request: pytest.FixtureRequest) -> None:
    domain: pyxc.Domain = request.getfixturevalue(kind)
    info = domain.info()
    assert info.uuid == domain.uuid
    assert info.paused and not info.dying
    assert (info.tot_pages, info.nr_online_vcpus, info.cpu_time_ns) == (0, 0, 0)
    assert info.nr_vcpus == {"pv": 2, "pvh": 1}[kind]
    assert info.is_hvm == (kind == "pvh")
    assert (DomainFlag.HAP in info.flags) == (kind == "pvh")
    assert info in xen.domains.infos()


def test_found_by_id_uuid_and_in_the_list(xen: pyxc.Xen, pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    assert xen.domains[pv.domid] == xen.domains[pv.uuid] == xen.domains[str(pv.uuid)] == pv
    assert list(xen.domains) == [0, pv.domid, pvh.domid]
    assert len(xen.domains) == 3
    assert pvh.domid in xen.domains and NOT_THERE not in xen.domains


def test_list_larger_than_the_first_guess(xen: pyxc.Xen) -> None:
    made = [xen.domains.create() for _ in range(70)]
    try:
        assert list(xen.domains) == [0, *sorted(domain.domid for domain in made)]
        assert {info.uuid for info in xen.domains.infos()} == {
            uuid.UUID(int=0),
            *(domain.uuid for domain in made),
        }
    finally:
        for domain in made:
            domain.destroy()
    assert list(xen.domains) == [0]


def test_chosen_id_and_uuid(xen: pyxc.Xen) -> None:
    handle = uuid.uuid4()
    domain = xen.domains.create(domid=0x1234, uuid=handle)
    try:
        assert xen.domains[handle].domid == 0x1234
        with pytest.raises(pyxc.HypercallError) as caught:
            xen.domains.create(domid=0x1234)
        assert caught.value.errno == (errno.EEXIST if xen.interface.xen >= (4, 14) else errno.EINVAL)
    finally:
        domain.destroy()


def test_pauses_nest(pv: pyxc.Domain) -> None:
    pv.pause()
    assert pv.info().paused
    pv.unpause()
    with pytest.raises(pyxc.HypercallError) as caught:
        pv.unpause()
        pv.unpause()
    assert caught.value.errno == errno.EINVAL


@pytest.mark.usefixtures("unguarded")
def test_dom0_cannot_be_paused(xen: pyxc.Xen) -> None:
    with pytest.raises(pyxc.HypercallError) as caught:
        xen.domains[0].pause()
    assert caught.value.errno == errno.EINVAL


def test_limit_of_memory(pv: pyxc.Domain) -> None:
    pv.set_max_memory(8192)
    assert pv.info().max_memory_kb == 8192
    pv.memory.populate(range(16))
    pv.set_max_memory(4)
    assert pv.memory.info().max_pages == 1
    assert pv.memory.info().tot_pages == 16
    with pytest.raises(pyxc.HypercallError, match="0 of 4 extents.*max_mem") as caught:
        pv.memory.populate(range(16, 20))
    assert caught.value.errno == errno.ENOMEM


def test_number_of_vcpus_is_that_of_the_creation(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    pv.set_max_vcpus(2)
    assert len(pv.vcpus) == 2
    with pytest.raises(pyxc.HypercallError) as caught:
        pv.set_max_vcpus(3)
    assert caught.value.errno in (errno.EINVAL, errno.EBUSY)


def test_new_uuid(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    old, new = xen.domains[pv.domid], uuid.uuid4()
    pv.set_uuid(new)
    assert pv.info().uuid == new
    with pytest.raises(pyxc.DomainGone, match=str(new)):
        old.info()


def test_hvm_params(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    pvh.hvm_params.write(HvmParam.CONSOLE_PFN, 0xFEFFF)
    assert pvh.hvm_params.read(HvmParam.CONSOLE_PFN) == 0xFEFFF
    assert pvh.hvm_params.read(HvmParam.STORE_PFN) == 0
    for domain, param in ((pv, HvmParam.CONSOLE_PFN), (pvh, 999)):
        with pytest.raises(pyxc.HypercallError) as caught:
            domain.hvm_params.read(param)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("kind", ["pv", "pvh"])
@pytest.mark.parametrize("reason", [ShutdownReason.POWEROFF, ShutdownReason.SUSPEND, ShutdownReason.CRASH])
def test_shutdown_and_resume(kind: str, reason: ShutdownReason, request: pytest.FixtureRequest) -> None:
    domain: pyxc.Domain = request.getfixturevalue(kind)
    domain.shutdown(reason)
    assert domain.info().shutdown_reason is reason
    assert DomainFlag.SHUTDOWN in domain.info().flags
    domain.resume()
    assert domain.info().shutdown_reason is None


def test_destroyed_domain_is_gone(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    pv.memory.populate(range(64))
    pv.destroy()
    assert not pv.exists()
    assert pv.domid not in xen.domains
    with pytest.raises(pyxc.DomainNotFound):
        pv.info()
    with pytest.raises(pyxc.DomainNotFound):
        pv.destroy()


def create_again(xen: pyxc.Xen, domid: int) -> pyxc.Domain:
    """A domain with the id of one that was destroyed; since 4.22, Xen frees an id only some time later."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return xen.domains.create(domid=domid)
        except pyxc.HypercallError as error:
            if error.errno != errno.EEXIST or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def test_destructive_calls_refuse_a_recycled_id(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    xen.domains[pv.domid].destroy()
    other = create_again(xen, pv.domid)
    try:
        # Told by its unique id, which Xen has since 4.21, or by its UUID.
        other_one = f"is now another domain|{other.uuid}"
        for call in (pv.info, pv.destroy, pv.shutdown, pv.resume, lambda: pv.set_uuid(uuid.uuid4())):
            with pytest.raises(pyxc.DomainGone, match=other_one):
                call()
        with pytest.raises(pyxc.DomainGone):
            pv.memory.decrease([1])
        assert not pv.exists()
        info = other.info()
        assert info.shutdown_reason is None and not info.dying
    finally:
        other.destroy()


def test_own_mapping_that_keeps_a_domain_is_named(pv: pyxc.Domain) -> None:
    frames = pv.memory.populate(range(3))
    with pv.memory.map(frames):
        started = time.monotonic()
        with pytest.raises(
            pyxc.DomainStuck, match=r"this process still maps 3 of its pages in 1 mapping"
        ) as caught:
            pv.destroy(timeout=0.3)
        assert 0.3 <= time.monotonic() - started < 5
        assert caught.value.errno == errno.ETIMEDOUT
        assert pv.info().dying
    deadline = time.monotonic() + 10
    while pv.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pv.exists()


def test_errors_say_what_where_and_why(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    with pytest.raises(pyxc.DomainNotFound) as caught:
        xen.domains[NOT_THERE]
    error = caught.value
    assert isinstance(error, (LookupError, OSError))
    assert (error.errno, error.operation, error.domid) == (errno.ESRCH, "domctl.getdomaininfo", NOT_THERE)
    assert error.interface_version == xen.interface.domctl
    with pytest.raises(pyxc.HypercallError) as refused:
        xen.call(domctl.GETDOMAININFO, pv.domid, interface_version=0x7777)
    assert refused.value.errno == errno.EACCES
    assert isinstance(refused.value, PermissionError)
    assert "wrong interface version" in str(refused.value)


def test_id_of_a_gap_is_not_answered_with_the_next_domain(
    xen: pyxc.Xen, pv: pyxc.Domain, pvh: pyxc.Domain
) -> None:
    pv.destroy()
    assert pv.domid < pvh.domid
    with pytest.raises(pyxc.DomainNotFound):
        xen.domains[pv.domid]
