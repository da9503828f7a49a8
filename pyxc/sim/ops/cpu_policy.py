# SPDX-License-Identifier: MIT
"""get_cpu_policy, get_cpu_featureset, get_cpu_levelling_caps: one small processor, the same for all
domains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyxc.abi import cpu_policy
from pyxc.abi.cpu_policy import XEN_CPUID_NO_SUBLEAF, Featureset, LevellingCap, Policy
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import Table
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.call import Call, handles

_NONE = XEN_CPUID_NO_SUBLEAF
_FEATURES = (0x078BFBFF, 0xF7BA2203)
_LEAVES = (
    (0x0, _NONE, 0xD, 0x756E6547, 0x6C65746E, 0x49656E69),
    (0x1, _NONE, 0x000306A9, 0x00020800, _FEATURES[1], _FEATURES[0]),
    (0x7, 0, 0, 0x00000281, 0, 0),
    (0xD, 0, 7, 0x340, 0x340, 0),
    (0xD, 1, 1, 0, 0, 0),
    (0x80000000, _NONE, 0x80000008, 0, 0, 0),
    (0x80000001, _NONE, 0, 0, 0x00000001, 0x28100800),
    (0x80000008, _NONE, 0x00003028, 0, 0, 0),
)
"""Leaf, subleaf, and what eax, ebx, ecx and edx hold."""
_MSRS = ((0xCE, 0x80000000), (0x10A, 0))
"""MSR_INTEL_PLATFORM_INFO, MSR_ARCH_CAPABILITIES."""
Key = tuple[int, int | None]
_POLICY: dict[Key, tuple[int, ...]] = {
    **{(row[0], row[1]): row[2:] for row in _LEAVES},
    **{(number, None): (value,) for number, value in _MSRS},
}
"""Leaves by leaf and subleaf, registers by their number alone."""
_MOST_LEAF, _MOST_GIVEN = 0x21, 400
_MOST_LEAVES, _MOST_MSRS = 116, 3
_WORDS = 22


@handles(cpu_policy.GET_HOST_CPU_POLICY)
def host_policy(call: Call) -> None:
    if call["_rsvd"] or call["index"] > max(Policy):
        raise Refusal(XenErrno.EINVAL)
    _answer(call, _POLICY)


@handles(cpu_policy.GET_DOMAIN_CPU_POLICY)
def domain_policy(call: Call) -> None:
    _answer(call, call.domain.policy or _POLICY)


@handles(cpu_policy.SET_DOMAIN_CPU_POLICY)
def set_domain_policy(call: Call) -> None:
    """What is given replaces what there is, leaf by leaf, once all of it can be. ERANGE: no such leaf.

    A domain that ran once keeps what it saw.
    """
    call.not_on_self()
    domain = call.domain
    if domain.started:
        raise Refusal(XenErrno.EEXIST)
    policy = dict(domain.policy or _POLICY)
    for row in _given(call, "leaves", cpu_policy.LEAF_STRUCT):
        key = (row["leaf"], row["subleaf"])
        if row["leaf"] & 0x3FFFFFFF > _MOST_LEAF:
            raise Refusal(XenErrno.ERANGE)
        if key in policy:
            policy[key] = (row["a"], row["b"], row["c"], row["d"])
    for row in _given(call, "msrs", cpu_policy.MSR_STRUCT):
        if (row["idx"], None) not in policy:
            raise Refusal(XenErrno.ERANGE)
        if row["flags"]:
            raise Refusal(XenErrno.EINVAL)
        policy[row["idx"], None] = (row["val"],)
    domain.policy = policy


def _given(call: Call, name: str, table: Table) -> Iterator[dict[str, int]]:
    layout, count = call.xen.layout(table), call[f"nr_{name}"]
    if count > _MOST_GIVEN:
        raise Refusal(XenErrno.E2BIG)
    data = call.memory.read(call[name], layout.size * count) if count else b""
    for place in range(0, len(data), layout.size):
        yield layout.unpack(data, place)


def _answer(call: Call, policy: Mapping[Key, tuple[int, ...]]) -> None:
    """Leaves, then registers; of what has no buffer only how many there can be. ENOBUFS: too little room."""
    leaf, msr = call.xen.layout(cpu_policy.LEAF_STRUCT), call.xen.layout(cpu_policy.MSR_STRUCT)
    leaves = [leaf.codec.pack(*key, *row) for key, row in policy.items() if key[1] is not None]
    msrs = [msr.codec.pack(key[0], 0, *row) for key, row in policy.items() if key[1] is None]
    nr_leaves = _copy(call, "leaves", leaves, _MOST_LEAVES)
    call.answer(nr_leaves=nr_leaves)
    call.answer(nr_leaves=nr_leaves, nr_msrs=_copy(call, "msrs", msrs, _MOST_MSRS))


def _copy(call: Call, name: str, rows: list[bytes], most: int) -> int:
    if not call[name]:
        return most
    room: int = call[f"nr_{name}"]
    call.memory.write(call[name], b"".join(rows[:room]))
    if room < len(rows):
        raise Refusal(XenErrno.ENOBUFS)
    return len(rows)


@handles(cpu_policy.GET_CPU_FEATURESET)
def cpu_featureset(call: Call) -> None:
    if not call["features"]:
        call.answer(nr_features=_WORDS)
        return
    if call["index"] > max(Featureset):
        raise Refusal(XenErrno.EINVAL)
    count = min(call["nr_features"], _WORDS)
    words = [*_FEATURES, *[0] * _WORDS][:count]
    order = call.xen.interface.byteorder
    call.memory.write(call["features"], b"".join(word.to_bytes(4, order) for word in words))
    call.answer(nr_features=count)
    if count < _WORDS:
        raise Refusal(XenErrno.ENOBUFS)


@handles(cpu_policy.GET_CPU_LEVELLING_CAPS)
def cpu_levelling_caps(call: Call) -> None:
    call.answer(caps=int(LevellingCap.FAULTING))
