# SPDX-License-Identifier: MIT
"""Performance and idle states of physical cpus that dom0 has uploaded to Xen."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pyxc import arguments
from pyxc.abi import pm
from pyxc.abi.pm import Parameter
from pyxc.call.records import Record
from pyxc.host.host import Host
from pyxc.host.version import text

if TYPE_CHECKING:
    from pyxc.call.reply import Reply

_WORD = 8
_STATES_MOST = 1 << 8
"""Limit for performance and idle states of a cpu, frequencies and governors: no cpu has nearly as many."""


class PState(NamedTuple):
    """A performance state of a cpu: its frequency, how long the cpu was in it, how often it was entered."""

    frequency_mhz: int
    residency_ns: int
    entered: int


class PStates(NamedTuple):
    """All performance states of a cpu; `usable` of them may be used, `current` and `last` are indexes."""

    states: tuple[PState, ...]
    usable: int
    last: int
    current: int


class CState(NamedTuple):
    """An idle state of a cpu: how often it was entered, and for how long."""

    entered: int
    residency_ns: int


class CStates(NamedTuple):
    """All idle states of a cpu, C0 first; `last` is an index."""

    states: tuple[CState, ...]
    last: int
    idle_ns: int


class Ondemand(NamedTuple):
    """Parameters of the governor "ondemand"."""

    sampling_rate_max_us: int
    sampling_rate_min_us: int
    sampling_rate_us: int
    up_threshold_percent: int


class CpuFrequency(NamedTuple):
    """The control of a cpu's frequency. `ondemand` is None under another governor."""

    affected_cpus: tuple[int, ...]
    available_khz: tuple[int, ...]
    governors: tuple[str, ...]
    governor: str
    driver: str
    current_khz: int
    minimum_khz: int
    maximum_khz: int
    hardware_minimum_khz: int
    hardware_maximum_khz: int
    turbo: bool | None
    ondemand: Ondemand | None


_PX_VAL = Record(PState, pm.PX_VAL_STRUCT, frequency_mhz="freq", residency_ns="residency", entered="count")


class PowerManagement:
    """The data that `xenpm` reads and sets (sysctl get_pmstat, pm_op). Threads: safe to share.

    ENODEV if Xen has no such states: dom0's kernel uploads the firmware's tables. EINVAL for an offline cpu.
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def p_states(self, cpu: int) -> PStates:
        """Performance states and their use (sysctl get_pmstat pxstat; Xen 3.3)."""
        self._check(cpu)
        count = self._xen.call(pm.GET_PMSTAT_MAX_PX, cpuid=cpu).reported("u.getpx.total", _STATES_MOST)
        size = pm.PX_VAL_STRUCT.at(self._xen.interface).size
        reply = self._xen.call(
            pm.GET_PMSTAT_PXSTAT, cpuid=cpu,
            **{"u.getpx.total": count, "u.getpx.trans_pt": count * count * _WORD, "u.getpx.pt": count * size},
        )  # fmt: skip
        return PStates(
            tuple(_PX_VAL.at(self._xen.interface).all(reply.buffer("u.getpx.pt"))),
            reply.field("u.getpx.usable"),
            reply.field("u.getpx.last"),
            reply.field("u.getpx.cur"),
        )

    def c_states(self, cpu: int) -> CStates:
        """Idle states and their use (sysctl get_pmstat cxstat; Xen 3.3)."""
        self._check(cpu)
        count = self._xen.call(pm.GET_PMSTAT_MAX_CX, cpuid=cpu).reported("u.getcx.nr", _STATES_MOST)
        reply = self._xen.call(
            pm.GET_PMSTAT_CXSTAT, cpuid=cpu,
            **{"u.getcx.nr": count},
            **{"u.getcx.triggers": count * _WORD, "u.getcx.residencies": count * _WORD},
        )  # fmt: skip
        entered = self._xen.words(reply.buffer("u.getcx.triggers"))
        residencies = self._xen.words(reply.buffer("u.getcx.residencies"))
        return CStates(
            tuple(map(CState, entered, residencies)),
            reply.field("u.getcx.last"),
            reply.field("u.getcx.idle_time"),
        )

    def frequency(self, cpu: int) -> CpuFrequency:
        """The control of a cpu's frequency (sysctl pm_op get_para; Xen 3.4)."""
        self._check(cpu)
        sizes = self._para_sizes(cpu)
        cpus, frequencies, governors = sizes.values()
        reply = self._xen.call(
            pm.PM_OP_GET_PARA, cpuid=cpu, **sizes,
            **{
                "u.get_para.affected_cpus": 4 * cpus,
                "u.get_para.scaling_available_frequencies": 4 * frequencies,
                "u.get_para.scaling_available_governors": pm.CPUFREQ_NAME_LEN * governors,
            },
        )  # fmt: skip
        return self._frequency(reply)

    def _para_sizes(self, cpu: int) -> dict[str, int]:
        """The lengths of its lists: Xen returns them in a refused call (EAGAIN)."""
        asked = self._xen.caller.batch(pm.PM_OP_GET_PARA, 1, cpuid=cpu)
        if asked.results[0] != -errno.EAGAIN:
            raise self._xen.caller.error(pm.PM_OP_GET_PARA, -asked.results[0], None)
        fields = asked.layout.unpack(asked.answers[0])
        names = ("u.get_para.cpu_num", "u.get_para.freq_num", "u.get_para.gov_num")
        return {name: fields[name] for name in names}

    def set_frequency(
        self,
        cpu: int,
        *,
        governor: str | None = None,
        maximum_khz: int | None = None,
        minimum_khz: int | None = None,
        speed_khz: int | None = None,
        sampling_rate_us: int | None = None,
        up_threshold_percent: int | None = None,
        turbo: bool | None = None,
    ) -> None:
        """Change the control of a cpu's frequency, and of the cpus that share it (sysctl pm_op; Xen 3.4).

        What is None stays as it is. `speed_khz` is for the governor "userspace", the sampling rate and the
        threshold are for "ondemand". `turbo` exists since Xen 4.0. They are set in the order of the
        signature; if Xen refuses one, those before it stay set. EINVAL: it is out of range, or the governor
        does not have it.

        Example:

        >>> from pyxc.sim.model.frequencies import Frequencies
        >>> hypervisor.frequencies = Frequencies()      # of a simulated host
        >>> xen.pm.set_frequency(0, governor="userspace", speed_khz=1_800_000)
        >>> xen.pm.frequency(0).governor, xen.pm.frequency(0).current_khz
        ('userspace', 1800000)
        """
        self._check(cpu)
        values = {
            Parameter.SCALING_MAX_FREQ: maximum_khz, Parameter.SCALING_MIN_FREQ: minimum_khz,
            Parameter.SCALING_SETSPEED: speed_khz, Parameter.SAMPLING_RATE: sampling_rate_us,
            Parameter.UP_THRESHOLD: up_threshold_percent,
        }  # fmt: skip
        wanted = {which: value for which, value in values.items() if value is not None}
        for which, value in wanted.items():
            arguments.natural(which.name.lower(), value, 2**32 - 1)
        if governor is not None:
            name = governor.encode()
            arguments.natural("length of the governor's name", len(name), pm.CPUFREQ_NAME_LEN - 1, 1)
            padded = name.ljust(pm.CPUFREQ_NAME_LEN, b"\0")
            self._xen.call(pm.PM_OP_SET_GOV, cpuid=cpu, **{"u.set_gov.scaling_governor": padded})
        for which, value in wanted.items():
            fields = {"u.set_para.ctrl_type": int(which), "u.set_para.ctrl_value": value}
            self._xen.call(pm.PM_OP_SET_PARA, cpuid=cpu, **fields)
        if turbo is not None:
            self._xen.call(pm.PM_OP_ENABLE_TURBO if turbo else pm.PM_OP_DISABLE_TURBO, cpuid=cpu)

    def set_max_c_state(self, deepest: int | None) -> None:
        """Limit how deep cpus may idle, None for no limit (sysctl pm_op set_max_cstate; Xen 3.4).

        >>> xen.pm.set_max_c_state(1)
        >>> xen.pm.max_c_state()
        1
        """
        value = pm.XEN_SYSCTL_CX_UNLIMITED if deepest is None else deepest
        arguments.natural("deepest", value, pm.XEN_SYSCTL_CX_UNLIMITED)
        self._xen.call(pm.PM_OP_SET_MAX_CSTATE, **{"u.set_max_cstate": value})

    def max_c_state(self) -> int | None:
        """The deepest allowed idle state, None if there is no limit (sysctl pm_op; Xen 3.4)."""
        deepest = int(self._xen.call(pm.PM_OP_GET_MAX_CSTATE).field("u.get_max_cstate"))
        return None if deepest == pm.XEN_SYSCTL_CX_UNLIMITED else deepest

    def _check(self, cpu: int) -> None:
        arguments.natural("cpu", cpu, self._xen.nr_cpus - 1)

    def _frequency(self, reply: Reply) -> CpuFrequency:
        fields = {name.removeprefix("u.get_para."): value for name, value in reply.fields().items()}
        lists = {name.removeprefix("u.get_para."): data for name, data in reply.buffers.items()}
        governor = text(fields["scaling_governor"])
        return CpuFrequency(
            affected_cpus=tuple(self._xen.words32(lists["affected_cpus"])),
            available_khz=tuple(self._xen.words32(lists["scaling_available_frequencies"])),
            governors=tuple(text(lists["scaling_available_governors"]).split()),
            governor=governor,
            driver=text(fields["scaling_driver"]),
            current_khz=fields["cpuinfo_cur_freq"],
            minimum_khz=fields["scaling_min_freq"],
            maximum_khz=fields["scaling_max_freq"],
            hardware_minimum_khz=fields["cpuinfo_min_freq"],
            hardware_maximum_khz=fields["cpuinfo_max_freq"],
            turbo=bool(fields["turbo_enabled"]) if "turbo_enabled" in fields else None,
            ondemand=Ondemand(*_ondemand(fields)) if governor == "ondemand" else None,
        )

    def __repr__(self) -> str:
        return f"<PowerManagement of {self._xen.link.target}>"


def _ondemand(fields: Mapping[str, int]) -> list[int]:
    names = ("sampling_rate_max", "sampling_rate_min", "sampling_rate", "up_threshold")
    return [fields[f"u.ondemand.{name}"] for name in names]
