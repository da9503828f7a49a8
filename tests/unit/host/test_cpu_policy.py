# SPDX-License-Identifier: MIT
"""What cpus show of themselves."""

from __future__ import annotations

import pytest
from hosts import Boot, Host

from pyxc import errors
from pyxc.abi.cpu_features import CPU_FEATURES
from pyxc.abi.cpu_policy import Featureset, LevellingCap, Policy
from pyxc.host.cpu_policy import CpuidLeaf

VENDOR = b"GenuineIntel"


@pytest.mark.parametrize("release", ["4.14", "4.17", "4.22"])
def test_a_policy_holds_leaves_and_registers(boot: Boot, release: str) -> None:
    host = boot(release)
    policy = host.xen.cpu_policies.host(Policy.HOST)
    basic = policy.leaf(0)
    assert basic is not None
    assert b"".join(word.to_bytes(4, "little") for word in (basic.b, basic.d, basic.c)) == VENDOR
    assert policy.leaf(0xD, 1) is not None
    assert policy.leaf(0xD) is None
    assert 0xCE in [msr.idx for msr in policy.msrs]


def test_a_domain_has_a_policy_of_its_own(host: Host) -> None:
    policy = host.xen.domains[1].cpu_policy()
    assert policy.leaves and policy.msrs
    with pytest.raises(errors.DomainNotFound):
        from_nowhere = host.xen.domains[1]
        from_nowhere.domid = 77
        from_nowhere.cpu_policy()


def test_featuresets_are_words(host: Host) -> None:
    words = host.xen.cpu_policies.featureset(Featureset.HOST)
    assert len(words) > 2
    assert words[0] == host.xen.cpu_policies.host(Policy.HOST).leaf(1).d


def test_what_can_be_hidden(boot: Boot) -> None:
    assert boot("4.20").xen.cpu_policies.levelling_caps() == LevellingCap.FAULTING
    with pytest.raises(errors.Unsupported):
        boot("4.22").xen.cpu_policies.levelling_caps()


def test_releases_before_4_12_have_featuresets_only(boot: Boot) -> None:
    xen = boot("4.10").xen
    assert xen.cpu_policies.featureset(Featureset.PV)
    for ask in (lambda: xen.cpu_policies.host(Policy.HOST), lambda: xen.domains[1].cpu_policy()):
        with pytest.raises(errors.Unsupported):
            ask()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("fpu", ((1, None, "d"), 0)),
        ("sse2", ((1, None, "d"), 26)),
        ("avx", ((1, None, "c"), 28)),
        ("nx", ((0x80000001, None, "d"), 20)),
        ("svm", ((0x80000001, None, "c"), 2)),
        ("avx2", ((7, 0, "b"), 5)),
        ("pku", ((7, 0, "c"), 3)),
        ("xsaves", ((0xD, 1, "a"), 3)),
        ("rdcl_no", (0x10A, 0)),
    ],
)
def test_where_features_are_said(name: str, place: object) -> None:
    assert CPU_FEATURES[name] == place


def test_no_two_features_are_in_one_place() -> None:
    assert len(set(CPU_FEATURES.values())) == len(CPU_FEATURES) > 280
    assert all(0 <= bit < (64 if isinstance(place, int) else 32) for place, bit in CPU_FEATURES.values())


def test_a_policy_with_other_features(host: Host) -> None:
    before = host.xen.cpu_policies.host(Policy.PV_DEFAULT)
    after = before.with_({"lahf_lm": False}, avx=False, avx512f=True, rdcl_no=True)
    shown = {name for name in CPU_FEATURES if after.has(name) != before.has(name)}
    assert shown == {"lahf_lm", "avx", "avx512f", "rdcl_no"}
    assert after.with_(lahf_lm=True, avx=True, avx512f=False, rdcl_no=False) == before
    assert before.with_(avx=True) is before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("avx9", "'avx9' is not a cpu feature: did you mean avx"),
        ("prefetchi", "no leaf or MSR that could show prefetchi"),
    ],
)
def test_what_a_policy_cannot_show(host: Host, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        host.xen.cpu_policies.host(Policy.PV_DEFAULT).with_({name: True})
    if name == "prefetchi":
        policy = host.xen.cpu_policies.host(Policy.PV_DEFAULT)
        assert policy.with_(prefetchi=False) is policy


@pytest.mark.parametrize("release", ["4.14", "4.17", "4.17-xsm", "4.20"])
def test_the_policy_of_a_domain(boot: Boot, release: str) -> None:
    xen = boot(release).xen
    made = xen.domains.create()
    made.set_cpu_policy(made.cpu_policy().with_(avx=False))
    assert not made.cpu_policy().has("avx")
    assert xen.domains[1].cpu_policy().has("avx")
    made.unpause()
    with pytest.raises(errors.HypercallError, match="unpaused already"):
        made.set_cpu_policy(made.cpu_policy())


def test_a_leaf_that_no_policy_has(host: Host) -> None:
    made = host.xen.domains.create()
    policy = made.cpu_policy()
    with pytest.raises(errors.HypercallError, match="no such leaf or MSR"):
        made.set_cpu_policy(policy._replace(leaves=(CpuidLeaf(0x12345, 0, 0, 0, 0, 0),)))
    assert made.cpu_policy() == policy


def test_setting_a_policy_on_a_xen_that_has_none(boot: Boot, host: Host) -> None:
    policy = host.xen.domains[1].cpu_policy()
    with pytest.raises(errors.Unsupported, match=r"since Xen 4\.13"):
        boot("4.10").xen.domains.create().set_cpu_policy(policy)
