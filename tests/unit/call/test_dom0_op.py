# SPDX-License-Identifier: MIT
"""The same objects on a Xen of 2006: what it can do, what it tells, and what it had nothing for."""

from __future__ import annotations

import errno
import uuid

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import errors
from pyxc.abi.operation import DOM0_OP, SYSCTL
from pyxc.sim import Hypervisor, named

TARGETS = ["sim:ppc64", "sim:xen-3.0"]


@pytest.fixture(params=TARGETS)
def old(request: pytest.FixtureRequest, boot: Boot) -> Host:
    """A host of 2006, of either byte order."""
    return boot(request.param)


def test_the_interface_is_found(old: Host) -> None:
    interface = old.xen.interface
    assert (interface.xen, interface.domctl, interface.sysctl) == ((3, 0), 0, 0)
    assert interface.dom0_op == 0x03000000
    assert interface.byteorder == {"ppc64": "big", "x86_64": "little"}[interface.arch]
    guests = {"ppc64": "xen-3.0-powerpc64", "x86_64": "xen-3.0-x86_64"}[interface.arch]
    assert old.xen.capabilities == (guests,)


@pytest.mark.parametrize("number", [0x03000000, 0x03000001, 0x13000001])
@pytest.mark.parametrize("target", TARGETS)
def test_each_number_of_dom0_op_is_found(target: str, number: int) -> None:
    profile = named(target)._replace(dom0_op=number)
    with pyxc.connect(Hypervisor(profile).connect(), names=False) as xen:
        assert xen.interface.dom0_op == number
        assert [info.domid for info in xen.domains.infos()] == [0, 1, 2, 3]
        assert xen.physinfo().total_pages > 0
        assert (xen.physinfo().scrub_pages is None) == (number < 0x13000001)


def test_domains_are_listed_with_what_it_tells(old: Host) -> None:
    web1 = old.xen.domains["web1"].info()
    truth = old.truth.domains[1]
    assert (web1.domid, web1.tot_pages, web1.handle) == (1, truth.tot_pages, truth.handle)
    assert (web1.cpupool, web1.outstanding_pages, web1.emulation_flags) == (None, None, None)
    assert not web1.is_hvm


def test_a_domain_lives(old: Host) -> None:
    domain = old.xen.domains.create(uuid=uuid.UUID(int=7), max_vcpus=2)
    domain.set_max_memory(4096)
    assert domain.info().uuid == uuid.UUID(int=7)
    assert (domain.info().nr_vcpus, domain.info().max_memory_kb) == (2, 4096)
    assert len(domain.memory.populate(range(16))) == 16
    assert len(domain.memory.frames().frames) == domain.info().tot_pages == 16
    domain.destroy()
    assert domain.domid not in old.truth.domains


def test_pausing_stops_a_domain(old: Host) -> None:
    domain = old.xen.domains["db1"]
    domain.pause()
    assert old.truth.domains[domain.domid].stopped
    domain.unpause()
    assert not old.truth.domains[domain.domid].stopped


def test_affinities_are_words(old: Host) -> None:
    vcpu = old.xen.domains["web1"].vcpu(1)
    assert vcpu.set_affinity(hard={1}) == pyxc.Affinity(frozenset({1}), None)
    assert old.truth.domains[1].live_vcpus[1].hard == 0b10
    assert old.xen.affinities()[1, 1].hard == {1}
    with pytest.raises(errors.Unsupported, match="soft affinity exists since Xen 4.5"):
        vcpu.set_affinity(soft={0})


def test_the_context_of_a_vcpu_goes_both_ways(old: Host) -> None:
    vcpu = old.xen.domains["build"].vcpu(0)
    counter = "pc" if old.xen.interface.arch == "ppc64" else "rip"
    vcpu.set_context(vcpu.context().replace(**{counter: 0x4000}))
    assert vcpu.context()[counter] == 0x4000


def test_what_it_had_nothing_for_is_unsupported(old: Host) -> None:
    domain = old.xen.domains["web1"]
    with pytest.raises(errors.Unsupported, match=r"Xen 3\.0 has no domctl"):
        domain.resume()
    with pytest.raises(errors.Unsupported, match="can make HVM domains only since Xen 3.1"):
        old.xen.domains.create(hvm=True)
    with pytest.raises(errors.Unsupported):
        domain.hvm_params.read(1)
    with pytest.raises(errors.Unsupported, match="no readable p2m"):
        domain.memory.p2m("p2m_vaddr")


def test_an_error_names_the_dom0_op(old: Host) -> None:
    expected = r"dom0_op\.getdomaininfo \(interface 0x3000000\) on domain 9"
    with pytest.raises(errors.DomainNotFound, match=expected):
        pyxc.Domain(old.xen, 9, uuid.UUID(int=0)).pause()


def test_the_scheduler_and_the_console(old: Host) -> None:
    assert old.xen.scheduler.name == "SEDF"
    assert old.xen.console.read().startswith(b"(XEN) Xen version 3.0")


def test_a_guest_that_may_not_is_told_so(boot: Boot) -> None:
    host = boot("sim:ppc64")
    host.link.fail(SYSCTL.hypercall, errno.ENOSYS)
    host.link.fail(DOM0_OP.hypercall, errno.EPERM)
    with pytest.raises(errors.NotXenError, match="this is not dom0"):
        pyxc.connect(host.link, names=False)


def test_an_older_interface_is_refused_by_what_it_is(boot: Boot) -> None:
    host = boot("sim:xen-3.0")
    host.link.fail(DOM0_OP.hypercall, errno.EACCES, times=3)
    with pytest.raises(errors.VersionMismatch, match="older than December 2005"):
        pyxc.connect(host.link, names=False)
