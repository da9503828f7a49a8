# SPDX-License-Identifier: MIT
"""A hypervisor with FLASK and Xen's example policy, which it enforces."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from ground_truth import Peer

import pyxc
from pyxc import errors
from pyxc.host.flask import Flask

DOM0, GUEST = "system_u:system_r:dom0_t", "system_u:system_r:domU_t"
BUILDING, BUILT = "system_u:system_r:nomigrate_t_building", "system_u:system_r:nomigrate_t"
PROTECTED = "system_u:system_r:prot_domU_t"


@pytest.fixture
def flask(xen: pyxc.Xen) -> Iterator[Flask]:
    """The policy; as it was before, when a test is over."""
    if not xen.flask.present:
        pytest.skip("this hypervisor has no security policy")
    yield xen.flask
    xen.flask.set_enforcing(True)
    for name in xen.flask.booleans:
        xen.flask.booleans.set(name, name == "guest_writeconsole")


def test_it_is_enforced_from_the_boot_on(flask: Flask) -> None:
    assert flask.enforcing()
    assert flask.policy_version >= 30


def test_domains_have_their_labels(flask: Flask, xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    assert xen.domains[0].label() == DOM0
    assert pv.label() == GUEST
    assert flask.sid(GUEST) == pv.info().ssidref


def test_dom0_may_make_guests_and_no_second_dom0(flask: Flask, xen: pyxc.Xen) -> None:
    with pytest.raises(errors.PermissionDenied, match="security policy"):
        xen.domains.create(ssidref=flask.sid(DOM0))
    assert "create" not in flask.access(DOM0, DOM0, "domain")
    assert "create" in flask.access(DOM0, GUEST, "domain")


def test_a_domain_is_built_under_one_label_and_runs_under_another(flask: Flask, xen: pyxc.Xen) -> None:
    domain = xen.domains.create(ssidref=flask.sid(BUILDING))
    domain.set_label(BUILT)
    try:
        assert domain.label() == BUILT
        with pytest.raises(errors.PermissionDenied):
            domain.set_label(BUILDING)
        assert "getvcpucontext" not in flask.access(DOM0, BUILT, "domain")
        with pytest.raises(errors.PermissionDenied):
            domain.vcpu(0).context()
    finally:
        domain.destroy(timeout=10)


def test_permissive_lets_pass_what_enforcing_forbids(flask: Flask, xen: pyxc.Xen) -> None:
    flask.set_enforcing(False)
    domain = xen.domains.create(ssidref=flask.sid("system_u:system_r:domio_t"))
    try:
        assert domain.label() == "system_u:system_r:domio_t"
        assert b"avc:  denied  { create }" in xen.console.read()
    finally:
        domain.destroy(timeout=10)


def test_a_boolean_locks_protected_domains(flask: Flask, xen: pyxc.Xen) -> None:
    flask.booleans.set("prot_doms_locked", True, commit=False)
    assert flask.booleans["prot_doms_locked"] == ("prot_doms_locked", False, True)
    flask.booleans.commit()
    assert "create" not in flask.access(DOM0, PROTECTED, "domain")
    with pytest.raises(errors.PermissionDenied):
        xen.domains.create(ssidref=flask.sid(PROTECTED))


def test_the_policy_that_is_loaded_can_be_loaded_again(flask: Flask, policy: bytes) -> None:
    flask.load(policy)
    assert flask.context(flask.sid(GUEST)) == GUEST
    for broken in (policy[:-1], policy[4:], b"no policy"):
        with pytest.raises(errors.HypercallError) as refused:
            flask.load(broken)
        assert refused.value.errno == errno.EINVAL
    assert "create" in flask.access(DOM0, GUEST, "domain")


def test_xens_own_tools_say_the_same(flask: Flask, peer: Peer) -> None:
    assert mode_of(peer) == "Enforcing"
    listed = dict(line.split(": ") for line in peer.run("flask-get-bool", "-a").splitlines())
    assert listed == {name: str(int(found.value)) for name, found in flask.booleans.items()}
    peer.run("flask-set-bool", "prot_doms_locked", "1")
    assert flask.booleans["prot_doms_locked"].value
    flask.set_enforcing(False)
    assert mode_of(peer) == "Permissive"


def mode_of(peer: Peer) -> str:
    """What flask-getenforce prints; its exit status is the mode, too."""
    return peer.run("sh", "-c", "flask-getenforce; true").strip()


def test_what_is_denied_in_a_status_is_told_as_a_denial(flask: Flask, pv: pyxc.Domain) -> None:
    assert "query" not in flask.access(DOM0, GUEST, "grant")
    with pytest.raises(errors.PermissionDenied):
        pv.grants.info()


def test_the_counters_of_a_hypervisor_that_has_them(flask: Flask, xen: pyxc.Xen) -> None:
    found = {counter.name: counter for counter in xen.perfc.read()}
    before = found["hypercalls"].values[35]
    again = {counter.name: counter for counter in xen.perfc.read()}
    assert again["hypercalls"].values[35] >= before + 2
    assert len(again["calls to mmuext_op"].values) == xen.nr_cpus
    xen.perfc.reset()
    assert sum(counter.total for counter in xen.perfc.read()) < sum(c.total for c in again.values())


def test_xenperf_has_the_same_counters(flask: Flask, xen: pyxc.Xen, peer: Peer) -> None:
    names = [line.partition("  ")[0].partition(" T=")[0].strip() for line in peer.run("xenperf").splitlines()]
    assert [counter.name for counter in xen.perfc.read()] == names
