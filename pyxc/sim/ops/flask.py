# SPDX-License-Identifier: MIT
"""xsm_op: a hypervisor with FLASK. The policy decides; the simulator nevertheless lets dom0 do everything."""

from __future__ import annotations

from pyxc.abi import flask
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.policy import Policy
from pyxc.sim.ops.call import Call, handles

_POLICY_MAGIC = 0xF97CFF8C
_POLICYDB_VERSION_MAX = 30


def _policy(call: Call) -> Policy:
    assert call.xen.policy is not None
    return call.xen.policy


def _string(call: Call, address: int, size: int) -> str:
    """Text of a given size, to its NUL. Refusal: ENOBUFS beyond a page, since 4.23 EMSGSIZE without NUL."""
    if size > flask.CONTEXT_BYTES_MOST:
        raise Refusal(XenErrno.ENOBUFS)
    text, nul, _ = call.memory.read(address, size).partition(b"\0")
    if not nul and call.xen.profile.since(4, 23):
        raise Refusal(XenErrno.EMSGSIZE)
    return text.decode("latin-1")


@handles(flask.LOAD)
def load(call: Call) -> None:
    if call["size"] > flask.POLICY_BYTES_MOST:
        raise Refusal(XenErrno.EINVAL)
    policy = call.memory.read(call["buffer"], call["size"])
    if int.from_bytes(policy[:4], "little") != _POLICY_MAGIC:
        raise Refusal(XenErrno.EINVAL)
    _policy(call).forget_pending()


@handles(flask.GETENFORCE)
def getenforce(call: Call) -> int:
    return int(_policy(call).enforcing)


@handles(flask.SETENFORCE)
def setenforce(call: Call) -> None:
    _policy(call).enforcing = bool(call["enforcing"])


@handles(flask.CONTEXT_TO_SID)
def context_to_sid(call: Call) -> None:
    call.answer(sid=_policy(call).sid(_string(call, call["context"], call["size"])))


@handles(flask.SID_TO_CONTEXT)
def sid_to_context(call: Call) -> None:
    text = _policy(call).context(call["sid"]).encode("ascii") + b"\0"
    if len(text) > call["size"]:
        raise Refusal(XenErrno.ERANGE)
    call.memory.write(call["context"], text)
    call.answer(size=len(text))


@handles(flask.ACCESS)
def access(call: Call) -> None:
    policy = _policy(call)
    allowed = policy.allowed(call["ssid"], call["tsid"], call["tclass"])
    call.answer(allowed=allowed, audit_allow=0, audit_deny=2**32 - 1, seqno=policy.commits)


@handles(flask.POLICYVERS)
def policyvers(call: Call) -> int:
    return _POLICYDB_VERSION_MAX


def _boolean(call: Call) -> int:
    """Which boolean is meant: by its number, or by its name where that is -1."""
    if call["bool_id"] != flask.BOOL_BY_NAME:
        number: int = call["bool_id"]
    else:
        number = _policy(call).find_boolean(_string(call, call["name"], call["size"]))
    if not 0 <= number < len(_policy(call).booleans):
        raise Refusal(XenErrno.ENOENT)
    return number


@handles(flask.GETBOOL)
def getbool(call: Call) -> None:
    policy = _policy(call)
    number = _boolean(call)
    found = policy.booleans[number]
    size = 0
    if call["bool_id"] == number and call["size"]:
        name = found.name.encode("ascii")
        if len(name) > call["size"]:
            raise Refusal(XenErrno.ERANGE)
        call.memory.write(call["name"], name)
        size = len(name)
    call.answer(bool_id=number, enforcing=found.value, pending=found.pending, size=size)


@handles(flask.SETBOOL)
def setbool(call: Call) -> None:
    policy = _policy(call)
    number = _boolean(call)
    found = policy.booleans[number]
    found.pending = bool(call["new_value"])
    if call["commit"]:
        found.value = found.pending
        policy.commits += 1
    size = 0 if call["bool_id"] == flask.BOOL_BY_NAME else call["size"]
    call.answer(bool_id=number, enforcing=found.value, pending=found.pending, size=size)


@handles(flask.COMMITBOOLS)
def commitbools(call: Call) -> None:
    policy = _policy(call)
    for boolean in policy.booleans:
        boolean.value = boolean.pending
    policy.commits += 1


@handles(flask.RELABEL_DOMAIN)
def relabel_domain(call: Call) -> None:
    """What the policy must allow: dom0 to take the old label away and to give the new one, and the change."""
    policy = _policy(call)
    domain = call.xen.find_any(call["domid"])
    own, new = call.xen.current.domain.ssidref, call["sid"]
    if domain is call.xen.current.domain:
        wanted = [(own, new, "domain2", "relabelself")]
    else:
        wanted = [(own, domain.ssidref, "domain2", "relabelfrom"), (own, new, "domain2", "relabelto")]
    for source, target, tclass, permission in [*wanted, (domain.ssidref, new, "domain", "transition")]:
        policy.demand(source, target, tclass, permission)
    domain.ssidref = new
