# SPDX-License-Identifier: MIT
"""The security policy: labels, decisions, booleans, and what it is without one."""

from __future__ import annotations

import errno
from contextlib import nullcontext

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import errors
from pyxc.abi import flask as abi
from pyxc.abi.domctl_create import default_ssidref
from pyxc.sim import Hypervisor, named

DOM0, GUEST = "system_u:system_r:dom0_t", "system_u:system_r:domU_t"
BUILDING, BUILT = "system_u:system_r:nomigrate_t_building", "system_u:system_r:nomigrate_t"


@pytest.fixture
def guarded(boot: Boot) -> Host:
    """A host with a security policy."""
    return boot("4.17-xsm")


def test_a_label_has_a_number_and_the_number_a_label(guarded: Host) -> None:
    for label in (DOM0, GUEST, BUILT):
        assert guarded.xen.flask.context(guarded.xen.flask.sid(label)) == label


@pytest.mark.parametrize(("target", "number"), [("sim:xen-4.17-xsm", 0), ("sim:xen-4.23", errno.EMSGSIZE)])
def test_strings_end_in_a_nul_which_xen_wants_since_4_23(target: str, number: int) -> None:
    truth = Hypervisor(named(target)._replace(xsm=True))
    with pyxc.connect(truth.connect(), names=False) as xen:
        assert xen.flask.context(xen.flask.sid(GUEST)) == GUEST
        assert xen.flask.booleans.set("prot_doms_locked", True).value
        assert dict(xen.flask.booleans)["prot_doms_locked"].value
        with pytest.raises(errors.HypercallError) if number else nullcontext() as caught:
            xen.call(abi.CONTEXT_TO_SID, context=GUEST.encode(), size=len(GUEST))
        assert not caught or caught.value.errno == number


def test_a_label_that_the_policy_does_not_know(guarded: Host) -> None:
    with pytest.raises(errors.LabelNotFound, match="the policy has no label 'system_u:system_r:nope_t'"):
        guarded.xen.flask.sid("system_u:system_r:nope_t")


@pytest.mark.parametrize("label", ["", "a\0b", "käse:r:t", "two\nlines", "x" * 4096])
def test_what_can_be_no_label_is_refused_before_the_hypercall(guarded: Host, label: str) -> None:
    before = guarded.link.hypercalls
    with pytest.raises(ValueError):
        guarded.xen.flask.sid(label)
    assert guarded.link.hypercalls == before


def test_the_policy_says_who_may_do_what(guarded: Host) -> None:
    access = guarded.xen.flask.access
    assert {"create", "destroy", "pause"} <= access(DOM0, GUEST, "domain")
    assert access(GUEST, DOM0, "domain") == frozenset()
    assert access(GUEST, GUEST, "grant") >= {"map_read", "copy"}


def test_the_policy_says_it_of_numbers_too(guarded: Host) -> None:
    numbers = [guarded.xen.flask.sid(label) for label in (DOM0, GUEST)]
    assert guarded.xen.flask.access(*numbers, "shadow") == guarded.xen.flask.access(DOM0, GUEST, "shadow")


def test_an_unknown_class_is_refused_with_those_that_there_are(guarded: Host) -> None:
    with pytest.raises(ValueError, match="tclass is 'disk': expected one of xen, xen2, domain"):
        guarded.xen.flask.access(DOM0, GUEST, "disk")


def test_a_new_domain_has_the_label_of_guests_or_the_one_that_was_chosen(guarded: Host) -> None:
    xen = guarded.xen
    assert xen.domains.create().label() == GUEST
    chosen = "system_u:system_r:isolated_domU_t"
    assert xen.domains.create(ssidref=xen.flask.sid(chosen)).label() == chosen


def test_what_the_policy_forbids_is_denied_while_it_is_enforced(guarded: Host) -> None:
    flask = guarded.xen.flask
    with pytest.raises(errors.PermissionDenied, match="security policy"):
        guarded.xen.domains.create(ssidref=flask.sid(DOM0))
    assert flask.enforcing()
    flask.set_enforcing(False)
    assert not flask.enforcing()
    assert guarded.xen.domains.create(ssidref=flask.sid("system_u:system_r:xen_t")).label().endswith(":xen_t")


def test_what_is_denied_in_a_status_is_told_as_a_denial(guarded: Host) -> None:
    with pytest.raises(errors.PermissionDenied):
        guarded.xen.domains[1].grants.info()


def test_a_domain_becomes_what_the_policy_lets_it_become(guarded: Host) -> None:
    domain = guarded.xen.domains.create(ssidref=guarded.xen.flask.sid(BUILDING))
    domain.set_label(BUILT)
    assert domain.label() == BUILT
    with pytest.raises(errors.PermissionDenied):
        domain.set_label(BUILDING)
    assert domain.label() == BUILT


def test_a_domain_that_was_replaced_is_not_relabelled(guarded: Host) -> None:
    domain = guarded.xen.domains[1]
    guarded.truth.domains[1].handle = bytes(16)
    with pytest.raises(errors.DomainGone):
        domain.set_label(BUILT)


def test_booleans_are_a_mapping(guarded: Host) -> None:
    booleans = guarded.xen.flask.booleans
    assert sorted(booleans) == ["guest_writeconsole", "prot_doms_locked"]
    assert len(booleans) == 2
    assert booleans["prot_doms_locked"] == ("prot_doms_locked", False, False)
    assert "nope" not in booleans
    with pytest.raises(errors.LabelNotFound, match="no boolean 'nope'"):
        booleans["nope"]
    with pytest.raises(errors.LabelNotFound, match="no boolean 'nope'"):
        booleans.set("nope", True)


def test_a_boolean_changes_decisions_once_it_is_in_force(guarded: Host) -> None:
    booleans, guest = guarded.xen.flask.booleans, "system_u:system_r:prot_domU_t"
    assert "create" in guarded.xen.flask.access(DOM0, guest, "domain")
    booleans.set("prot_doms_locked", True, commit=False)
    assert booleans["prot_doms_locked"] == ("prot_doms_locked", False, True)
    assert "create" in guarded.xen.flask.access(DOM0, guest, "domain")
    booleans.commit()
    assert booleans["prot_doms_locked"].value
    assert "create" not in guarded.xen.flask.access(DOM0, guest, "domain")
    booleans.set("prot_doms_locked", False)
    assert "create" in guarded.xen.flask.access(DOM0, guest, "domain")


def test_loading_takes_a_policy_and_nothing_else(guarded: Host) -> None:
    guarded.xen.flask.booleans.set("prot_doms_locked", True, commit=False)
    with pytest.raises(errors.HypercallError) as refused:
        guarded.xen.flask.load(b"no policy")
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(ValueError, match="size of the policy"):
        guarded.xen.flask.load(b"")
    guarded.xen.flask.load((0xF97CFF8C).to_bytes(4, "little") + bytes(100))
    assert not guarded.xen.flask.booleans["prot_doms_locked"].pending


def test_a_read_only_handle_changes_no_policy(boot: Boot) -> None:
    xen = boot("4.17-xsm", readonly=True).xen
    assert xen.flask.enforcing()
    for change in (lambda: xen.flask.set_enforcing(False), lambda: xen.flask.booleans.commit()):
        with pytest.raises(errors.ReadOnlyError):
            change()


def test_other_failures_are_passed_on_as_they_are(guarded: Host) -> None:
    flask = guarded.xen.flask
    for operation, ask in (
        (abi.CONTEXT_TO_SID, lambda: flask.sid(GUEST)),
        (abi.GETBOOL, lambda: flask.booleans["prot_doms_locked"]),
        (abi.GETBOOL, lambda: list(flask.booleans)),
    ):
        guarded.link.fail(operation, errno.EACCES)
        with pytest.raises(errors.PermissionDenied):
            ask()


def test_a_hypervisor_without_flask_says_so(host: Host) -> None:
    assert not host.xen.flask.present
    xen = host.xen
    for ask in (lambda: xen.flask.enforcing(), lambda: xen.flask.sid(GUEST), lambda: xen.domains[1].label()):
        with pytest.raises(errors.Unsupported):
            ask()
    assert host.xen.domains.create().info().ssidref == 0


def test_the_label_of_guests_is_the_one_of_the_release() -> None:
    assert [default_ssidref((4, minor)) for minor in (5, 6, 16, 17, 22)] == [0, 11, 11, 12, 12]
