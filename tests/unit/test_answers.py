# SPDX-License-Identifier: MIT
"""Hypervisors and guests that tell nonsense: it is a DecodeError, before any room is made for it."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import errors
from pyxc.abi import (
    cpu_policy,
    domctl,
    domctl_hvm,
    domctl_tsc,
    event_channel,
    flask,
    memory,
    perfc,
    pm,
    sysctl,
    sysctl_cpupool,
)
from pyxc.abi.cpu_policy import Featureset, Policy
from pyxc.abi.operation import Operation

Ask = Callable[[pyxc.Xen], object]

LIES: list[tuple[Ask, Operation, dict[str, Any]]] = [
    (lambda xen: xen.topology(), sysctl.PHYSINFO, {"max_cpu_id": 2**32 - 1}),
    (lambda xen: xen.vcpus(), sysctl.GETDOMAININFOLIST, {"num_domains": 2**32 - 1}),
    (lambda xen: xen.numa(), sysctl.PHYSINFO, {"max_node_id": 2**31}),
    (lambda xen: xen.cpu_policies.host(Policy.HOST), cpu_policy.GET_HOST_CPU_POLICY,
     {"nr_leaves": 2**32 - 1}),
    (lambda xen: xen.domains[1].cpu_policy(), cpu_policy.GET_DOMAIN_CPU_POLICY, {"nr_msrs": 2**31}),
    (lambda xen: xen.cpu_policies.featureset(Featureset.HOST), cpu_policy.GET_CPU_FEATURESET,
     {"nr_features": 2**30}),
    (lambda xen: xen.perfc.read(), perfc.PERFC_OP_QUERY, {"nr_counters": 2**31}),
    (lambda xen: xen.pm.c_states(0), pm.GET_PMSTAT_MAX_CX, {"u.getcx.nr": 2**32 - 1}),
    (lambda xen: xen.pools.infos(), sysctl_cpupool.CPUPOOL_OP_INFO, {"result": 0, "cpupool_id": 0}),
    (lambda xen: xen.domains[1].vnuma(), memory.GET_VNUMAINFO, {"nr_vnodes": 33}),
    (lambda xen: xen.domains[1].tsc_info(), domctl_tsc.GETTSCINFO, {"tsc_mode": 9}),
    (lambda xen: xen.domains[1].channels.status(1), event_channel.STATUS, {"status": 99}),
    (lambda xen: xen.domains[1].vcpu(0).context(), domctl.GET_ADDRESS_SIZE, {"size": 48}),
    (lambda xen: xen.domains[2].hvm_context.read(), domctl_hvm.GETHVMCONTEXT, {"size": 2**32 - 1}),
    (lambda xen: dict(xen.flask.booleans), flask.GETBOOL, {"size": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "operation", "fields"), LIES, ids=[lie[1].name for lie in LIES])
def test_what_makes_no_sense_is_no_length(
    boot: Boot, ask: Ask, operation: Operation, fields: dict[str, Any]
) -> None:
    host = boot("sim:xen-4.17-xsm")
    if operation is memory.GET_VNUMAINFO:
        host.xen.domains[1].set_vnuma(pyxc.Vnuma(((10,),), (0, 0), (pyxc.VnumaRange(0, 1 << 26, 0),), (0,)))
    ask(host.xen)
    host.xen.__dict__.pop("nr_cpus", None)
    host.link.lie(operation, **fields)
    with pytest.raises(errors.DecodeError):
        ask(host.xen)
    assert host.link.largest_arena < 1 << 21


def test_a_policy_may_be_empty(host: Host) -> None:
    host.link.lie(cpu_policy.GET_HOST_CPU_POLICY, nr_leaves=0, nr_msrs=0)
    assert host.xen.cpu_policies.host(Policy.HOST) == ((), ())


def test_a_guest_that_claims_too_many_pfns_is_not_believed(host: Host) -> None:
    """A list of nothing but holes would cost it one page, and this process 32 GiB."""
    host.publish(3, max_pfn=2**32)
    with pytest.raises(errors.Unsupported, match="the guest claims 4294967296 pfns"):
        host.xen.domains[3].memory.p2m()


def test_a_guests_tree_may_name_frames_that_no_machine_has(host: Host) -> None:
    host.publish(3, pfn_to_mfn_frame_list_list=2**60)
    with pytest.raises(errors.DecodeError, match="a frame of the p2m"):
        host.xen.domains[3].memory.frames()


def test_a_type_that_no_frame_can_have_is_none(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyxc.domain.frame_types.type_words", lambda domain, frames: array("Q", [1 << 40]))
    with pytest.raises(errors.DecodeError, match="the type of a frame"):
        host.xen.domains[1].memory.frames(types=True)


def test_vcpus_of_domains_that_nobody_listed_are_nobodys(host: Host) -> None:
    before = host.xen.sample()
    after = host.xen.sample()
    stray = after.vcpus[0]._replace(domid=99)
    usage = after._replace(time_ns=before.time_ns + 1, vcpus=(*after.vcpus, stray)).since(before)
    assert [one.info.domid for one in usage] == [0, 1, 2, 3]


def test_what_a_guest_finds_when_it_goes_on_is_known_on_x86_only(boot: Boot) -> None:
    host = boot("sim:ppc64")
    domain = host.xen.domains[1]
    domain.shutdown(pyxc.ShutdownReason.SUSPEND)
    with pytest.raises(errors.Unsupported, match="on x86 only"):
        domain.resume(fast=False)


def test_counters_of_a_xen_of_2006_are_refused_as_everything_else(boot: Boot) -> None:
    with pytest.raises(errors.Unsupported):
        boot("sim:xen-3.0").xen.perfc.read()
