# SPDX-License-Identifier: MIT
"""Performance and idle states of cpus."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

from pyxc import errors
from pyxc.sim.model.frequencies import Frequencies


@pytest.fixture(params=["4.10", "4.17", "4.20", "4.22"])
def scaling(request: pytest.FixtureRequest, boot: Boot) -> Host:
    """A host whose cpus have frequencies."""
    host = boot(request.param)
    host.truth.frequencies = Frequencies()
    return host


def test_performance_states_and_which_is_the_present_one(scaling: Host) -> None:
    found = scaling.xen.pm.p_states(1)
    assert [state.frequency_mhz for state in found.states] == [2400, 1800, 1200]
    assert found.states[found.current].residency_ns > 0
    assert (found.usable, found.last) == (3, 0)


def test_idle_states_add_up(scaling: Host) -> None:
    found = scaling.xen.pm.c_states(0)
    assert len(found.states) == 2
    assert found.states[1].residency_ns == found.idle_ns
    assert sum(state.residency_ns for state in found.states) >= found.idle_ns > 0


def test_how_the_frequency_is_governed(scaling: Host) -> None:
    found = scaling.xen.pm.frequency(1)
    assert found.affected_cpus == (1,)
    assert found.available_khz == (2_400_000, 1_800_000, 1_200_000)
    assert (found.governor, found.driver) == ("ondemand", "acpi-cpufreq")
    assert "powersave" in found.governors
    assert (found.minimum_khz, found.current_khz, found.maximum_khz) == (1_200_000, 2_400_000, 2_400_000)
    assert found.ondemand and found.ondemand.up_threshold_percent == 80
    assert found.turbo is True


def test_another_governor_has_no_parameters_of_ondemand(scaling: Host) -> None:
    scaling.truth.frequencies = Frequencies(governor="performance")
    assert scaling.xen.pm.frequency(0).ondemand is None


@pytest.mark.parametrize("cpu", [-1, 2])
def test_a_cpu_that_there_is_not_is_refused_before_the_hypercall(scaling: Host, cpu: int) -> None:
    for ask in (scaling.xen.pm.p_states, scaling.xen.pm.c_states, scaling.xen.pm.frequency):
        with pytest.raises(ValueError, match="cpu"):
            ask(cpu)


def test_a_host_without_frequencies(host: Host) -> None:
    for ask, number in ((host.xen.pm.p_states, errno.ENODEV), (host.xen.pm.frequency, errno.EINVAL)):
        with pytest.raises(errors.HypercallError) as refused:
            ask(0)
        assert refused.value.errno == number


def test_the_deepest_idle_state_that_may_be_used(boot: Boot) -> None:
    assert boot("4.17").xen.pm.max_c_state() == 1
    assert boot("4.20").xen.pm.max_c_state() is None


@pytest.mark.parametrize("release", ["3.4", "4.1", "4.17", "4.22"])
def test_the_control_of_a_frequency_is_changed(boot: Boot, release: str) -> None:
    host = boot(release)
    host.truth.frequencies = Frequencies()
    pm = host.xen.pm
    pm.set_frequency(0, maximum_khz=1_800_000, sampling_rate_us=10, up_threshold_percent=50)
    found = pm.frequency(1)
    assert (found.maximum_khz, found.current_khz) == (1_800_000, 1_800_000)
    assert found.ondemand is not None and found.ondemand[2:] == (10, 50)
    pm.set_frequency(0, governor="userspace", minimum_khz=1_300_000, speed_khz=1_500_000)
    found = pm.frequency(0)
    assert (found.governor, found.minimum_khz, found.current_khz) == ("userspace", 1_300_000, 1_500_000)
    if release == "3.4":
        with pytest.raises(errors.Unsupported):
            pm.set_frequency(0, turbo=False)
    else:
        pm.set_frequency(0, turbo=False)
        assert pm.frequency(0).turbo is False
    pm.set_max_c_state(2)
    assert pm.max_c_state() == 2
    pm.set_max_c_state(None)
    assert pm.max_c_state() is None


def test_what_xen_or_nobody_takes(host: Host) -> None:
    host.truth.frequencies = Frequencies()
    pm = host.xen.pm
    for refused in (
        {"governor": "nope"}, {"speed_khz": 1}, {"minimum_khz": 3_000_000},
        {"governor": "performance", "up_threshold_percent": 5},
    ):  # fmt: skip
        with pytest.raises(errors.HypercallError) as error:
            pm.set_frequency(0, **refused)
        assert error.value.errno == errno.EINVAL
    for wrong in ({"governor": ""}, {"governor": "x" * 16}, {"maximum_khz": 1 << 32}):
        with pytest.raises(ValueError):
            pm.set_frequency(0, **wrong)
    with pytest.raises(ValueError):
        pm.set_frequency(2, turbo=True)
