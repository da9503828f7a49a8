# SPDX-License-Identifier: MIT
"""sysctl get_pmstat, pm_op: two idle states, and no frequencies until a program gives the host some."""

from __future__ import annotations

from pyxc.abi import pm
from pyxc.abi.errno import XenErrno
from pyxc.abi.pm import Parameter, PmStat
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.frequencies import Frequencies
from pyxc.sim.ops.call import Call, handles

_WORD, _LONG = 4, 8
_IDLE_STATES = 2
_MAX_CSTATE = 1


def _check_cpu(call: Call) -> None:
    if call["cpuid"] >= call.xen.pcpus:
        raise Refusal(XenErrno.EINVAL)


def _frequencies(call: Call, otherwise: XenErrno) -> Frequencies:
    if call.xen.frequencies is None:
        raise Refusal(otherwise)
    return call.xen.frequencies


@handles(pm.GET_PMSTAT_MAX_PX, pm.GET_PMSTAT_PXSTAT, pm.GET_PMSTAT_MAX_CX, pm.GET_PMSTAT_CXSTAT)
def get_pmstat(call: Call) -> None:
    _check_cpu(call)
    if call["type"] == PmStat.GET_MAX_CX:
        call.reading(pm.GET_PMSTAT_MAX_CX).answer(**{"u.getcx.nr": _IDLE_STATES})
    elif call["type"] == PmStat.GET_CXSTAT:
        _cxstat(call.reading(pm.GET_PMSTAT_CXSTAT))
    elif call["type"] == PmStat.GET_MAX_PX:
        count = len(_frequencies(call, XenErrno.ENODEV).frequencies_mhz)
        call.reading(pm.GET_PMSTAT_MAX_PX).answer(**{"u.getpx.total": count})
    elif call["type"] == PmStat.GET_PXSTAT:
        _pxstat(call.reading(pm.GET_PMSTAT_PXSTAT), _frequencies(call, XenErrno.ENODEV))
    else:
        raise Refusal(XenErrno.ENODEV)


def _pxstat(call: Call, states: Frequencies) -> None:
    """The cpu was always in its fastest state."""
    count = len(states.frequencies_mhz)
    layout = call.xen.layout(pm.PX_VAL_STRUCT)
    spent = [call.xen.clock_ns, *[0] * (count - 1)]
    rows = [
        layout.pack({"freq": frequency, "residency": residency, "count": int(residency > 0)})
        for frequency, residency in zip(states.frequencies_mhz, spent)
    ]
    call.memory.write(call["u.getpx.trans_pt"], bytes(_LONG * count * count))
    call.memory.write(call["u.getpx.pt"], b"".join(rows))
    call.answer(**{"u.getpx.total": count, "u.getpx.usable": count, "u.getpx.last": 0, "u.getpx.cur": 0})


def _cxstat(call: Call) -> None:
    """Awake, or idle in the only other state; as many states as fit in the buffer."""
    order = call.xen.interface.byteorder
    idle = call.xen.idle_ns(call["cpuid"])
    count = min(call["u.getcx.nr"], _IDLE_STATES)
    for name, values in (("triggers", (1, 1)), ("residencies", (call.xen.clock_ns - idle, idle))):
        data = b"".join(value.to_bytes(_LONG, order) for value in values[:count])
        call.memory.write(call[f"u.getcx.{name}"], data)
    call.answer(**{"u.getcx.nr": _IDLE_STATES, "u.getcx.last": 0, "u.getcx.idle_time": idle})


@handles(
    pm.PM_OP_GET_PARA, pm.PM_OP_GET_MAX_CSTATE, pm.PM_OP_SET_MAX_CSTATE, pm.PM_OP_SET_GOV, pm.PM_OP_SET_PARA,
    pm.PM_OP_ENABLE_TURBO, pm.PM_OP_DISABLE_TURBO,
)  # fmt: skip
def pm_op(call: Call) -> None:
    if call["op"] == pm.XEN_SYSCTL_PM_OP_GET_MAX_CSTATE:
        _max_cstate(call.reading(pm.PM_OP_GET_MAX_CSTATE))
    elif call["op"] == pm.XEN_SYSCTL_PM_OP_SET_MAX_CSTATE:
        _set_max_cstate(call.reading(pm.PM_OP_SET_MAX_CSTATE))
    elif call["op"] in _OF_CPUS:
        _check_cpu(call)
        without_driver = XenErrno.ENODEV if call.xen.profile.since(4, 21) else XenErrno.EINVAL
        operation, carry_out = _OF_CPUS[call["op"]]
        carry_out(call.reading(operation), _frequencies(call, without_driver))
    else:
        raise Refusal(XenErrno.ENOSYS)


def _max_cstate(call: Call) -> None:
    """`cpuid` is not a cpu here: 0 selects the state, 1 the sub-state."""
    if call["cpuid"] > 1:
        raise Refusal(XenErrno.EINVAL)
    limited = not call["cpuid"] and not call.xen.profile.since(4, 20)
    state = _MAX_CSTATE if limited else pm.XEN_SYSCTL_CX_UNLIMITED
    if not call["cpuid"] and call.xen.max_c_state is not None:
        state = call.xen.max_c_state
    call.answer(**{"u.get_max_cstate": state})


def _set_max_cstate(call: Call) -> None:
    if call["cpuid"] > 1:
        raise Refusal(XenErrno.EINVAL)
    if not call["cpuid"]:
        call.xen.max_c_state = call["u.set_max_cstate"]


def _set_gov(call: Call, states: Frequencies) -> None:
    name = call["u.set_gov.scaling_governor"].split(b"\0", 1)[0].decode("latin-1")
    if name not in states.governors:
        raise Refusal(XenErrno.EINVAL)
    call.xen.frequencies = states._replace(governor=name)


_PARAMETERS = {
    Parameter.SCALING_MAX_FREQ: ("maximum_khz", None),
    Parameter.SCALING_MIN_FREQ: ("minimum_khz", None),
    Parameter.SCALING_SETSPEED: ("speed_khz", "userspace"),
    Parameter.SAMPLING_RATE: ("sampling_rate_us", "ondemand"),
    Parameter.UP_THRESHOLD: ("up_threshold_percent", "ondemand"),
}
"""The field of each, and the governor that alone has it."""


def _set_para(call: Call, states: Frequencies) -> None:
    """All cpus share one control. The lowest frequency may not be above the highest."""
    field, governor = _PARAMETERS.get(call["u.set_para.ctrl_type"], ("", "none has it"))
    if governor not in (None, states.governor):
        raise Refusal(XenErrno.EINVAL)
    changed = states._replace(**{field: call["u.set_para.ctrl_value"]})
    if changed.minimum_khz > (changed.maximum_khz or 1000 * states.frequencies_mhz[0]):
        raise Refusal(XenErrno.EINVAL)
    call.xen.frequencies = changed


def _set_turbo(call: Call, states: Frequencies) -> None:
    if not call.xen.profile.since(4, 0):
        raise Refusal(XenErrno.ENOSYS)
    call.xen.frequencies = states._replace(turbo=call["op"] == pm.XEN_SYSCTL_PM_OP_ENABLE_TURBO)


def _para(call: Call, states: Frequencies) -> None:
    """EAGAIN, with the right lengths, when the caller has other ones."""
    order = call.xen.interface.byteorder
    khz = [frequency * 1000 for frequency in states.frequencies_mhz]
    lengths = {"cpu_num": 1, "freq_num": len(khz), "gov_num": len(states.governors)}
    fields: dict[str, int | bytes] = {f"u.get_para.{name}": length for name, length in lengths.items()}
    if any(call[name] != length for name, length in fields.items()):
        call.answer(**fields)
        raise Refusal(XenErrno.EAGAIN)
    governors = " ".join(states.governors).encode().ljust(pm.CPUFREQ_NAME_LEN * len(states.governors), b"\0")
    lists = {
        "affected_cpus": call["cpuid"].to_bytes(_WORD, order),
        "scaling_available_frequencies": b"".join(value.to_bytes(_WORD, order) for value in khz),
        "scaling_available_governors": governors,
    }
    for name, data in lists.items():
        call.memory.write(call[f"u.get_para.{name}"], data)
    told: dict[str, int | bytes] = {
        "scaling_driver": states.driver.encode().ljust(pm.CPUFREQ_NAME_LEN, b"\0"),
        "scaling_governor": states.governor.encode().ljust(pm.CPUFREQ_NAME_LEN, b"\0"),
        "cpuinfo_cur_freq": _current_khz(states), "scaling_cur_freq": _current_khz(states),
        "cpuinfo_max_freq": khz[0], "scaling_max_freq": states.maximum_khz or khz[0],
        "cpuinfo_min_freq": khz[-1], "scaling_min_freq": states.minimum_khz or khz[-1],
        "turbo_enabled": int(states.turbo),
    }  # fmt: skip
    if states.governor == "ondemand":
        told |= {
            "u.ondemand.sampling_rate": states.sampling_rate_us,
            "u.ondemand.up_threshold": states.up_threshold_percent,
        }
    known = {f"u.get_para.{name}": value for name, value in told.items()}
    call.answer(**{name: value for name, value in known.items() if name in call.layout.index})


def _current_khz(states: Frequencies) -> int:
    if states.governor == "userspace" and states.speed_khz:
        return states.speed_khz
    slowest = states.minimum_khz or 1000 * states.frequencies_mhz[-1]
    return (
        slowest if states.governor == "powersave" else states.maximum_khz or 1000 * states.frequencies_mhz[0]
    )


_OF_CPUS = {
    pm.GET_CPUFREQ_PARA: (pm.PM_OP_GET_PARA, _para),
    pm.SET_CPUFREQ_GOV: (pm.PM_OP_SET_GOV, _set_gov),
    pm.SET_CPUFREQ_PARA: (pm.PM_OP_SET_PARA, _set_para),
    pm.XEN_SYSCTL_PM_OP_ENABLE_TURBO: (pm.PM_OP_ENABLE_TURBO, _set_turbo),
    pm.XEN_SYSCTL_PM_OP_DISABLE_TURBO: (pm.PM_OP_DISABLE_TURBO, _set_turbo),
}
