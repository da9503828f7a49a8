# SPDX-License-Identifier: MIT
"""sysctl get_pmstat, pm_op: two idle states, and no frequencies until a program gives the host some."""

from __future__ import annotations

from pyxc.abi import pm
from pyxc.abi.errno import XenErrno
from pyxc.abi.pm import PmStat
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


@handles(pm.PM_OP_GET_PARA, pm.PM_OP_GET_MAX_CSTATE)
def pm_op(call: Call) -> None:
    if call["op"] == pm.XEN_SYSCTL_PM_OP_GET_MAX_CSTATE:
        _max_cstate(call.reading(pm.PM_OP_GET_MAX_CSTATE))
    elif call["op"] == pm.GET_CPUFREQ_PARA:
        _check_cpu(call)
        without_driver = XenErrno.ENODEV if call.xen.profile.since(4, 21) else XenErrno.EINVAL
        _para(call.reading(pm.PM_OP_GET_PARA), _frequencies(call, without_driver))
    else:
        raise Refusal(XenErrno.ENOSYS)


def _max_cstate(call: Call) -> None:
    """`cpuid` is not a cpu here: 0 selects the state, 1 the sub-state."""
    if call["cpuid"] > 1:
        raise Refusal(XenErrno.EINVAL)
    limited = not call["cpuid"] and not call.xen.profile.since(4, 20)
    call.answer(**{"u.get_max_cstate": _MAX_CSTATE if limited else pm.XEN_SYSCTL_CX_UNLIMITED})


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
        "cpuinfo_cur_freq": khz[0], "scaling_cur_freq": khz[0],
        "cpuinfo_max_freq": khz[0], "scaling_max_freq": khz[0],
        "cpuinfo_min_freq": khz[-1], "scaling_min_freq": khz[-1],
        "turbo_enabled": 1,
    }  # fmt: skip
    if states.governor == "ondemand":
        told |= {"u.ondemand.sampling_rate": 20000, "u.ondemand.up_threshold": 80}
    known = {f"u.get_para.{name}": value for name, value in told.items()}
    call.answer(**{name: value for name, value in known.items() if name in call.layout.index})
