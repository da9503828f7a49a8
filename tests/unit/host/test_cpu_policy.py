# SPDX-License-Identifier: MIT
"""What cpus show of themselves."""

from __future__ import annotations

import pytest
from hosts import Boot, Host

from pyxc import errors
from pyxc.abi.cpu_policy import Featureset, LevellingCap, Policy

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
