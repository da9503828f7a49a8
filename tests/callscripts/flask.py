# SPDX-License-Identifier: MIT
"""The security policy (xsm_op). A hypervisor without FLASK refuses all of it."""

from __future__ import annotations

from callscripts import WRONG_VERSION, Script, Volatile
from pyxc.abi import domctl, flask, flask_vectors

VOLATILE = Volatile(fields=("seqno", "audit_allow", "audit_deny"))
DOM0, SECURITY, DOMU = 3, 7, 12
"""Numbers of the policy's initial labels; those of other labels depend on which was asked for first."""
UNKNOWN = 999
LABELS = (
    "system_u:system_r:dom0_t", "system_u:system_r:domU_t", "system_u:system_r:dm_dom_t",
    "system_u:system_r:nope_t", "nobody:system_r:domU_t", "system_u:nope_r:domU_t", "system_u:vm_r:domU_t",
    "system_u:system_r:domU_t:s0", "x",
)  # fmt: skip
BUILDING, BUILT = "system_u:system_r:nomigrate_t_building", "system_u:system_r:nomigrate_t"


def run(script: Script) -> None:
    script.step("success", flask.GETENFORCE)
    script.step("success", flask.POLICYVERS)
    enforcing(script)
    labels(script)
    decisions(script)
    booleans(script)
    for operation in (flask.CONTEXT_TO_SID, flask.ACCESS, flask.GETBOOL):
        script.step("wrong interface version", operation, interface_version=WRONG_VERSION)
    script.step("no policy", flask.LOAD, buffer=b"garbage", size=7)
    script.step("oversized", flask.LOAD, size=flask.POLICY_BYTES_MOST + 1)
    if script.xen.flask.present:
        relabelling(script)


def enforcing(script: Script) -> None:
    script.step("success", flask.SETENFORCE, enforcing=0)
    script.step("switched off", flask.GETENFORCE)
    script.step("switched on", flask.SETENFORCE, enforcing=1)
    script.step("as before", flask.GETENFORCE)


def labels(script: Script) -> None:
    script.step("success", flask.CONTEXT_TO_SID, context=LABELS[0].encode(), size=len(LABELS[0]))
    for label in LABELS:
        script.step(label, flask.CONTEXT_TO_SID, context=label.encode(), size=len(label))
    script.step("with NUL", flask.CONTEXT_TO_SID, context=LABELS[1].encode() + b"\0", size=len(LABELS[1]) + 1)
    script.step("empty", flask.CONTEXT_TO_SID, context=b"x", size=0)
    script.step("oversized", flask.CONTEXT_TO_SID, context=b"x" * 5000, size=5000)
    script.step("success", flask.SID_TO_CONTEXT, sid=DOMU, context=64, size=64)
    for sid in (0, 1, 2, DOM0, 4, 5, 6, SECURITY, 8, 9, 10, 11, 13, UNKNOWN):
        script.step(f"sid {sid}", flask.SID_TO_CONTEXT, sid=sid, context=64, size=64)
    script.step("short buffer", flask.SID_TO_CONTEXT, sid=DOMU, context=8, size=8)


def decisions(script: Script) -> None:
    release = script.xen.interface.xen
    classes = flask_vectors.classes(release) if release >= (4, 2) else {}
    for name, number in classes.items():
        for source, target in ((DOM0, DOMU), (DOMU, DOM0), (DOMU, DOMU), (DOM0, SECURITY), (DOM0, 2)):
            fields = {"ssid": source, "tsid": target, "tclass": number}
            script.step(f"{name} from {source} to {target}", flask.ACCESS, **fields)
    script.step("success", flask.ACCESS, ssid=DOM0, tsid=DOMU, tclass=classes.get("domain", 0))
    script.step("unknown class", flask.ACCESS, ssid=DOM0, tsid=DOMU, tclass=99)
    script.step("class 0", flask.ACCESS, ssid=DOM0, tsid=DOMU, tclass=0)
    script.step("unknown label", flask.ACCESS, ssid=UNKNOWN, tsid=DOMU, tclass=3)


def booleans(script: Script) -> None:
    locked = b"prot_doms_locked\0"
    by_name = {"bool_id": flask.BOOL_BY_NAME, "name": locked, "size": len(locked)}
    script.step("success", flask.GETBOOL, bool_id=0, name=64, size=64)
    for number in range(3):
        script.step(f"number {number}", flask.GETBOOL, bool_id=number, name=64, size=64)
    script.step("by name", flask.GETBOOL, **by_name)
    script.step("without name", flask.GETBOOL, bool_id=0)
    script.step("short buffer", flask.GETBOOL, bool_id=0, name=2, size=2)
    script.step("unknown", flask.GETBOOL, bool_id=flask.BOOL_BY_NAME, name=b"nope\0", size=5)
    script.step("success", flask.SETBOOL, **by_name, new_value=1)
    script.step("pending", flask.GETBOOL, **by_name)
    script.step("success", flask.COMMITBOOLS)
    script.step("committed", flask.GETBOOL, **by_name)
    script.step("at once", flask.SETBOOL, **by_name, new_value=0, commit=1)
    script.step("as before", flask.GETBOOL, **by_name)
    script.step("unknown", flask.SETBOOL, bool_id=99, new_value=1)
    script.step("unknown at once", flask.SETBOOL, bool_id=99, new_value=1, commit=1)


def relabelling(script: Script) -> None:
    """The policy has one label that may become another: that of a domain while it is built."""
    xen = script.xen
    building, built = xen.flask.sid(BUILDING), xen.flask.sid(BUILT)
    domain = xen.domains.create(uuid="11111111-2222-4333-8444-555555555503", ssidref=building)
    script.domains.append(domain)
    for case, sid in (("success", built), ("not back", building), ("forbidden", DOMU)):
        script.step(case, flask.RELABEL_DOMAIN, domid=domain.domid, sid=sid)
        outcome = script.outcomes[f"{flask.RELABEL_DOMAIN.full_name}/{case}"]
        outcome.get("fields", {}).pop("sid", None)
        outcome["label"] = domain.label()
    script.without_mistakes(flask.RELABEL_DOMAIN)
    script.step("unknown domid", flask.RELABEL_DOMAIN, domid=0x7000, sid=DOMU)
    script.step("oneself", flask.RELABEL_DOMAIN, domid=0x7FF0, sid=DOMU)
    script.step("by one's own id", flask.RELABEL_DOMAIN, domid=0, sid=DOMU)
    script.step("with a label", domctl.GETDOMAININFO, script.pv())
    script.without_mistakes(domctl.GETDOMAININFO)
