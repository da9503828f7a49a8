# SPDX-License-Identifier: MIT
"""What cpus show of themselves: the leaves and registers are those of one machine."""

from __future__ import annotations

from callscripts import Script, Volatile
from pyxc.abi import cpu_policy
from pyxc.abi.cpu_policy import Featureset, Policy

VOLATILE = Volatile(
    fields=("leaves", "msrs", "nr_leaves", "nr_msrs", "features", "nr_features", "caps"),
)
LEAVES, MSRS, WORDS = 400, 32, 32
ROOM = {"nr_leaves": LEAVES, "leaves": LEAVES * 24, "nr_msrs": MSRS, "msrs": MSRS * 16}
UNKNOWN = 9


def run(script: Script) -> None:
    host, domain = cpu_policy.GET_HOST_CPU_POLICY, cpu_policy.GET_DOMAIN_CPU_POLICY
    script.step("success", host, index=int(Policy.HOST), **ROOM)
    for policy in Policy:
        script.step(policy.name.lower(), host, index=int(policy), **ROOM)
    script.step("sizes", host, index=int(Policy.HOST))
    script.step("unknown policy", host, index=UNKNOWN)
    script.step("reserved field", host, index=0, _rsvd=1)
    script.step("room for one leaf", host, index=int(Policy.HOST), nr_leaves=1, leaves=24)
    script.step("no room for msrs", host, index=int(Policy.HOST), nr_msrs=0, msrs=16)
    script.step("success", domain, script.pv(), **ROOM)
    script.step("sizes", domain, 0)
    script.step("pvh", domain, script.pvh(), **ROOM)
    setting(script)
    features(script)
    script.step("success", cpu_policy.GET_CPU_LEVELLING_CAPS)


def setting(script: Script) -> None:
    """A domain's own policy is one that it can have; nothing changes once it ran."""
    operation = cpu_policy.SET_DOMAIN_CPU_POLICY
    if not script.xen.caller.supports(operation):
        return
    leaf, msr = (table.at(script.xen.interface) for table in (cpu_policy.LEAF_STRUCT, cpu_policy.MSR_STRUCT))
    for name, domid in (("success", script.pv()), ("pvh", script.pvh())):
        own = script.xen.domains[domid].cpu_policy()
        leaves = b"".join(leaf.pack(row._asdict()) for row in own.leaves)
        msrs = b"".join(msr.pack(row._asdict()) for row in own.msrs)
        rows = {"nr_leaves": len(own.leaves), "nr_msrs": len(own.msrs)}
        script.step(name, operation, domid, **rows, leaves=leaves, msrs=msrs)
        script.step(f"nothing, {name}", operation, domid)
    domid = script.pv()
    script.step("unknown leaf", operation, domid, nr_leaves=1, leaves=leaf.pack({"leaf": 0x12345}))
    script.step("unknown msr", operation, domid, nr_msrs=1, msrs=msr.pack({"idx": 0x12345}))
    script.step("flags of an msr", operation, domid, nr_msrs=1, msrs=msr.pack({"idx": 0xCE, "flags": 1}))
    script.step("too many", operation, domid, nr_leaves=10000, leaves=240000)
    script.xen.domains[domid].unpause()
    script.step("after it ran", operation, domid, nr_leaves=1, leaves=leaf.pack({"leaf": 0}))


def features(script: Script) -> None:
    operation = cpu_policy.GET_CPU_FEATURESET
    script.step("success", operation, index=int(Featureset.HOST), nr_features=WORDS, features=WORDS * 4)
    for wanted in Featureset:
        fields = {"index": int(wanted), "nr_features": WORDS, "features": WORDS * 4}
        script.step(wanted.name.lower(), operation, **fields)
    script.step("size", operation, index=int(Featureset.HOST))
    script.step("unknown featureset", operation, index=UNKNOWN, nr_features=WORDS, features=WORDS * 4)
    script.step("short list", operation, index=int(Featureset.HOST), nr_features=2, features=8)
