# SPDX-License-Identifier: MIT
"""Cpu policies of the host and of domains: CPUID leaves, MSRs, and bitmaps of features."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import NamedTuple

from pyxc import errors
from pyxc.abi import cpu_policy
from pyxc.abi.cpu_features import CPU_FEATURES, Bit
from pyxc.abi.cpu_policy import SET_DOMAIN_CPU_POLICY, Featureset, LevellingCap, Policy
from pyxc.abi.operation import Operation
from pyxc.call.records import Record
from pyxc.host.host import Host


class CpuidLeaf(NamedTuple):
    """The result of one CPUID leaf; the subleaf of a leaf without subleaves is 0xffffffff."""

    leaf: int
    subleaf: int
    a: int
    b: int
    c: int
    d: int

    @property
    def has_subleaf(self) -> bool:
        return self.subleaf != cpu_policy.XEN_CPUID_NO_SUBLEAF


class Msr(NamedTuple):
    """A model-specific register and the value that a domain reads from it."""

    idx: int
    val: int


class CpuPolicy(NamedTuple):
    """All leaves and registers of a policy. Threads: safe to share.

    Example:

    >>> policy = web.cpu_policy()
    >>> hex(policy.leaf(7, 0).b), hex(policy.msrs[0].idx)
    ('0x281', '0xce')
    """

    leaves: tuple[CpuidLeaf, ...]
    msrs: tuple[Msr, ...]

    def leaf(self, leaf: int, subleaf: int | None = None) -> CpuidLeaf | None:
        """One leaf, None if the policy does not have it."""
        wanted = cpu_policy.XEN_CPUID_NO_SUBLEAF if subleaf is None else subleaf
        return next((found for found in self.leaves if (found.leaf, found.subleaf) == (leaf, wanted)), None)

    def has(self, feature: str) -> bool:
        """Whether it shows a feature, by Xen's name in lower case. ValueError for an unknown one.

        >>> xen.cpu_policies.host(Policy.HVM_DEFAULT).has("sse2")
        True
        """
        place, bit = _place_of(feature)
        if isinstance(place, int):
            return any(msr.idx == place and msr.val >> bit & 1 for msr in self.msrs)
        leaf = self.leaf(place.leaf, place.subleaf)
        return leaf is not None and bool(getattr(leaf, place.name) >> bit & 1)

    def with_(self, features: Mapping[str, bool] | None = None, /, **more: bool) -> CpuPolicy:
        """A copy that shows some features, or does not: `policy.with_(avx2=False)`.

        Names are those of Xen's cpufeatureset.h in lower case; a mapping takes those that are no words of
        Python, such as "3dnow". ValueError for an unknown name, and for a feature to be shown in a leaf or
        MSR that the policy does not have.
        """
        policy = self
        for name, shown in {**(features or {}), **more}.items():
            policy = policy._with(name, bool(shown))
        return policy

    def _with(self, name: str, shown: bool) -> CpuPolicy:
        if self.has(name) == shown:
            return self
        place, bit = _place_of(name)
        flip = 1 << bit
        if isinstance(place, int):
            msrs = tuple(msr._replace(val=msr.val ^ flip) if msr.idx == place else msr for msr in self.msrs)
            changed = self._replace(msrs=msrs)
        else:
            old = self.leaf(place.leaf, place.subleaf)
            new = old and old._replace(**{place.name: getattr(old, place.name) ^ flip})
            leaves = tuple(new if new and leaf is old else leaf for leaf in self.leaves)
            changed = self._replace(leaves=leaves)
        if changed.has(name) != shown:
            raise ValueError(f"the policy has no leaf or MSR that could show {name}")
        return changed


def _place_of(feature: str) -> Bit:
    if feature not in CPU_FEATURES:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(feature, CPU_FEATURES))
        hint = f"did you mean {near}?" if near else "see cpufeatureset.h of Xen"
        raise ValueError(f"{feature!r} is not a cpu feature: {hint}")
    return CPU_FEATURES[feature]


_OF_THE_TOPOLOGY = ("htt", "cmp_legacy")
"""Features that toolstacks choose, whatever the processor says."""
_LEAVES_MOST = 1 << 12
_MSRS_MOST = 1 << 12
_WORDS_MOST = 1 << 8
"""Limit: more than any policy and any featureset has."""
_LEAF = Record(CpuidLeaf, cpu_policy.LEAF_STRUCT)
_MSR = Record(Msr, cpu_policy.MSR_STRUCT)


class CpuPolicies:
    """The host's cpu policies: its own, and the limits and defaults for domains. Threads: safe to share.

    Unsupported before the named releases, and for a kind of guest that the hypervisor was built without
    (EOPNOTSUPP).
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def host(self, policy: Policy) -> CpuPolicy:
        """A policy of the host (sysctl get_cpu_policy, Xen 4.12)."""
        return _read(self._xen, cpu_policy.GET_HOST_CPU_POLICY, None, index=int(policy))

    def featureset(self, wanted: Featureset) -> tuple[int, ...]:
        """A featureset as words of 32 bits, in Xen's order (sysctl get_cpu_featureset, Xen 4.7)."""
        xen, index = self._xen, int(wanted)
        count = xen.call(cpu_policy.GET_CPU_FEATURESET, index=index).reported("nr_features", _WORDS_MOST)
        reply = xen.call(cpu_policy.GET_CPU_FEATURESET, index=index, nr_features=count, features=4 * count)
        return tuple(xen.words32(reply.buffer("features")))

    def levelling_caps(self) -> LevellingCap:
        """The parts of CPUID that Xen can hide from PV domains (sysctl get_cpu_levelling_caps, Xen 4.7 to
        4.21)."""
        return LevellingCap(self._xen.call(cpu_policy.GET_CPU_LEVELLING_CAPS).field("caps"))

    def __repr__(self) -> str:
        return f"<CpuPolicies of {self._xen.link.target}>"


def lacking(xen: Host, policy: CpuPolicy, most: Policy) -> list[str]:
    """Features in CPUID that a policy shows, but neither the host nor `most`, the policy of all features for
    that kind of guest, some of which Xen emulates. Unsupported before Xen 4.12."""
    here = [CpuPolicies(xen).host(one) for one in (Policy.HOST, most)]
    return [
        name
        for name, (place, _) in CPU_FEATURES.items()
        if not isinstance(place, int)
        and name not in _OF_THE_TOPOLOGY
        and policy.has(name)
        and not any(one.has(name) for one in here)
    ]


def domain_policy(xen: Host, domid: int) -> CpuPolicy:
    """The cpu policy of a domain (domctl get_cpu_policy, since Xen 4.12)."""
    return _read(xen, cpu_policy.GET_DOMAIN_CPU_POLICY, domid)


def setting(xen: Host, policy: CpuPolicy) -> tuple[Operation, dict[str, int | bytes]]:
    """The operation and fields that make a policy a domain's. Unsupported before Xen 4.13."""
    if not xen.caller.supports(SET_DOMAIN_CPU_POLICY):
        hint = "a toolstack can set the cpu policy of a domain since Xen 4.13"
        operation = SET_DOMAIN_CPU_POLICY.full_name
        raise errors.Unsupported(errno.ENOSYS, operation, hint=hint)
    leaf, msr = cpu_policy.LEAF_STRUCT.at(xen.interface), cpu_policy.MSR_STRUCT.at(xen.interface)
    leaves = b"".join(leaf.pack(found._asdict()) for found in policy.leaves)
    msrs = b"".join(msr.pack(found._asdict()) for found in policy.msrs)
    counts = {"nr_leaves": len(policy.leaves), "nr_msrs": len(policy.msrs)}
    return SET_DOMAIN_CPU_POLICY, {**counts, "leaves": leaves or 0, "msrs": msrs or 0}


def _read(xen: Host, operation: Operation, domid: int | None, **fields: int) -> CpuPolicy:
    """Query the size, then the contents: the largest size of a policy never changes."""
    most = xen.call(operation, domid, **fields)
    leaf, msr = cpu_policy.LEAF_STRUCT.at(xen.interface), cpu_policy.MSR_STRUCT.at(xen.interface)
    leaves, msrs = most.reported("nr_leaves", _LEAVES_MOST), most.reported("nr_msrs", _MSRS_MOST)
    reply = xen.call(
        operation, domid, **fields, nr_leaves=leaves, nr_msrs=msrs,
        leaves=leaves * leaf.size, msrs=msrs * msr.size,
    )  # fmt: skip
    leaf_data = reply.buffer("leaves")[: reply.field("nr_leaves") * leaf.size]
    msr_data = reply.buffer("msrs")[: reply.field("nr_msrs") * msr.size]
    return CpuPolicy(
        tuple(_LEAF.at(xen.interface).all(leaf_data)), tuple(_MSR.at(xen.interface).all(msr_data))
    )
