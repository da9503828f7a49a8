# SPDX-License-Identifier: MIT
"""Performance counters."""

from __future__ import annotations

import pytest
from hosts import Boot, Host

from pyxc import errors
from pyxc.abi import version
from pyxc.abi.operation import MULTICALL, XEN_VERSION


@pytest.fixture
def counting(boot: Boot) -> Host:
    """A host whose hypervisor has counters."""
    return boot("4.17-xsm")


def hypercalls(host: Host) -> tuple[int, ...]:
    return next(counter.values for counter in host.xen.perfc.read() if counter.name == "hypercalls")


def test_counters_count(counting: Host) -> None:
    before = hypercalls(counting)[XEN_VERSION.hypercall]
    for _ in range(3):
        counting.xen.call(version.PAGESIZE)
    assert hypercalls(counting)[XEN_VERSION.hypercall] == before + 3


def test_a_counter_has_a_value_for_each_cpu_or_each_element(counting: Host) -> None:
    counting.xen.vcpus()
    found = {counter.name: counter for counter in counting.xen.perfc.read()}
    assert len(found["hypercalls"].values) == 64
    assert found["hypercalls"].values[MULTICALL] == 1
    assert len(found["calls from multicall"].values) == counting.truth.pcpus
    assert found["calls from multicall"].total == sum(info.nr_vcpus for info in counting.xen.domains.infos())


def test_reset_sets_them_to_zero(counting: Host) -> None:
    assert sum(hypercalls(counting)) > 3
    counting.xen.perfc.reset()
    assert sum(hypercalls(counting)) == 2  # those that read them


def test_a_read_only_handle_resets_nothing(boot: Boot) -> None:
    xen = boot("4.17-xsm", readonly=True).xen
    assert xen.perfc.read()
    with pytest.raises(errors.ReadOnlyError):
        xen.perfc.reset()


def test_cpus_that_come_between_the_two_questions(counting: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, truth = counting.link.hypercall, counting.truth

    def with_more_cpus(*arguments: int) -> int:
        result = ask(*arguments)
        truth.pcpus += 1
        return result

    monkeypatch.setattr(counting.link, "hypercall", with_more_cpus)
    found = {counter.name: counter for counter in counting.xen.perfc.read()}
    assert len(found["calls from multicall"].values) == 3


def test_a_hypervisor_that_was_built_without_says_so(host: Host) -> None:
    with pytest.raises(errors.Unsupported, match="built without"):
        host.xen.perfc.read()
