# SPDX-License-Identifier: MIT
"""Lock profiles."""

from __future__ import annotations

import pytest
from hosts import Boot, Host

from pyxc import errors
from pyxc.abi import lockprof


@pytest.fixture
def profiling(boot: Boot) -> Host:
    """A host whose hypervisor profiles its locks."""
    return boot("4.17-xsm")


def test_locks_are_counted(profiling: Host) -> None:
    first, *_ = profiling.xen.lockprof.read().locks
    second, _, *own = profiling.xen.lockprof.read().locks
    assert str(second) == "global lock sysctl_lock"
    assert (second.lock_cnt - first.lock_cnt, second.lock_time_ns - first.lock_time_ns) == (2, 2000)
    assert [str(lock) for lock in own[:2]] == [f"domain {domid} lock page_alloc_lock" for domid in (0, 1)]


def test_reset(profiling: Host) -> None:
    before = profiling.xen.lockprof.read()
    profiling.xen.lockprof.reset()
    after = profiling.xen.lockprof.read()
    assert after.locks[0].lock_cnt == 2 < before.locks[0].lock_cnt
    assert after.time_ns < before.time_ns + 10**9


def test_domains_that_come_between_the_two_questions(profiling: Host) -> None:
    profiling.link.lie(lockprof.LOCKPROF_OP_QUERY, nr_elem=1000)
    found = profiling.xen.lockprof.read()
    assert (found.nr_locks, len(found.locks)) == (1000, 1000)
    profiling.link.lie(lockprof.LOCKPROF_OP_QUERY, nr_elem=1 << 20)
    with pytest.raises(errors.DecodeError, match="nr_elem is reported as 1048576"):
        profiling.xen.lockprof.read()


def test_a_hypervisor_that_was_built_without_says_so(host: Host) -> None:
    with pytest.raises(errors.Unsupported, match="built without"):
        host.xen.lockprof.read()
