# SPDX-License-Identifier: MIT
"""What a full sample says of domains and the host."""

from __future__ import annotations

from hosts import Boot, Host

from pyxc.abi import domctl_paging, memory, pm
from pyxc.abi.errno import XenErrno


def test_every_domain_has_details(any_host: Host) -> None:
    sample = any_host.xen.sample(full=True)
    assert sample.details is not None
    assert list(sample.details.domains) == [info.domid for info in sample.domains]
    assert [one.name for one in sample.details.domains.values()] == ["Domain-0", "web1", "db1", "build"]
    assert sample.details.domains[2].paging_pool_kb == any_host.xen.domains[2].memory.paging_pool_kb()
    assert sample.details.domains[1].paging_pool_kb is None


def test_a_plain_sample_has_none(host: Host) -> None:
    assert host.xen.sample().details is None


def test_details_are_what_each_domain_says(boot: Boot) -> None:
    xen = boot("4.22").xen
    details = xen.sample(full=True).details
    assert details is not None
    for domid, found in details.domains.items():
        assert found.unique_id == xen.domains[domid].unique_id
        assert found.grant_frames == xen.domains[domid].grants.info().nr_frames
    assert details.domains[2].pod == xen.domains[2].memory.pod_target()
    assert details.host.physinfo == xen.physinfo()
    assert details.host.pools == tuple(xen.pools.infos())
    assert details.host.nodes == tuple(xen.numa())
    assert len(details.host.c_states[1].states) == len(xen.pm.c_states(1).states)


def test_targets_of_balloon_drivers(host: Host) -> None:
    for text, target in (("4096", 4096), ("", None), ("-4", None), ("9" * 30, None)):
        host.xen.store.write("/local/domain/1/memory/target", text)
        details = host.xen.sample(full=True).details
        assert details is not None and details.domains[1].target_kb == target


def test_what_is_forbidden_is_unknown(boot: Boot) -> None:
    host = boot("4.17-xsm")
    details = host.xen.sample(full=True).details
    assert details is not None
    assert [one.grant_frames for one in details.domains.values()] == [1, None, None, None]


def test_what_a_xen_is_built_without_is_unknown(host: Host) -> None:
    absent = (memory.GET_POD_TARGET, domctl_paging.GET_PAGING_MEMPOOL_SIZE, pm.GET_PMSTAT_MAX_CX)
    host.truth.handles(*absent)(lambda call: -XenErrno.ENOSYS)
    details = host.xen.sample(full=True).details
    assert details is not None
    assert (details.domains[2].pod, details.domains[2].paging_pool_kb) == (None, None)
    assert details.host.c_states == {}


def test_without_names_xenstore_is_not_asked(boot: Boot) -> None:
    host = boot(names=False)
    details = host.xen.sample(full=True).details
    assert details is not None
    assert {(one.name, one.target_kb) for one in details.domains.values()} == {(None, None)}
