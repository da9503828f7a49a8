# SPDX-License-Identifier: MIT
"""The security policy of a simulated hypervisor with FLASK: Xen's example policy, seen from outside.

What it allows was asked of a real Xen 4.17 that had the example policy built in, label by label.
"""

from __future__ import annotations

from pyxc.abi import flask_vectors
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import Release
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.policy_rules import RULES, WHERE

DOM0_SID = 3
UNLABELED_SID = 6
_INITIAL = (
    "system_u:system_r:unlabeled_t", "system_u:system_r:xenboot_t", "system_u:system_r:xen_t",
    "system_u:system_r:dom0_t", "system_u:system_r:domio_t", "system_u:system_r:domxen_t",
    "system_u:system_r:unlabeled_t", "system_u:system_r:security_t", "system_u:object_r:ioport_t",
    "system_u:object_r:iomem_t", "system_u:object_r:irq_t", "system_u:object_r:device_t",
    "system_u:system_r:domU_t", "system_u:system_r:dm_dom_t", "system_u:object_r:dom0_t_channel",
)  # fmt: skip
"""The labels that a hypervisor has when it has booted, by sid."""
_GUESTS = ("domU_t", "dm_dom_t", "isolated_domU_t", "prot_domU_t", "nomigrate_t", "nomigrate_t_building")
_OBJECTS = ("ioport_t", "iomem_t", "irq_t", "device_t", "nic_dev_t", "dom0_t_channel")
_HYPERVISORS = ("xenboot_t", "xen_t", "domio_t", "domxen_t", "unlabeled_t", "security_t")
_SYSTEM = "system_u"
_ROLES = {
    "system_r": {*_HYPERVISORS, *_GUESTS, "dom0_t"},
    "vm_r": {*_GUESTS},
    "object_r": {*_HYPERVISORS, *_GUESTS, *_OBJECTS, "dom0_t"},
}
"""Types that each role may have."""
_USERS = {_SYSTEM: "system_r", "user_1": "vm_r", "user_2": "vm_r", "user_3": "vm_r"}
"""The role of each user, besides object_r."""
_BETWEEN_USERS = frozenset(("unmap",))


class Switch:
    """A boolean: what it is, and what the next commit makes it."""

    def __init__(self, name: str, value: bool) -> None:
        self.name = name
        self.value = self.pending = value


class Policy:
    """State of FLASK. `commits` counts what changed decisions."""

    def __init__(self, release: Release) -> None:
        self.enforcing = True
        self.commits = 0
        self.booleans = [Switch("guest_writeconsole", True), Switch("prot_doms_locked", False)]
        self._release = release
        self._contexts = list(_INITIAL)

    def sid(self, context: str) -> int:
        """The number of a label; a new one for one that was not asked for before. Refusal (EINVAL)."""
        if context in self._contexts[1:]:
            return self._contexts.index(context, 1)
        user, _, rest = context.partition(":")
        role, _, kind = rest.partition(":")
        if role not in (_USERS.get(user), "object_r") or user not in _USERS or kind not in _ROLES[role]:
            raise Refusal(XenErrno.EINVAL)
        self._contexts.append(context)
        return len(self._contexts) - 1

    def context(self, sid: int) -> str:
        """The label of a number; an unknown number is that of an unlabelled object."""
        return self._contexts[sid if sid < len(self._contexts) else UNLABELED_SID]

    def allowed(self, source: int, target: int, tclass: int) -> int:
        """The permission bits of one label on another. Refusal (EINVAL) for an unknown class."""
        names = list(flask_vectors.classes(self._release))
        if not 0 < tclass <= len(names):
            raise Refusal(XenErrno.EINVAL)
        bits = flask_vectors.permissions(self._release, names[tclass - 1])
        return sum(bits[name] for name in self._granted(source, target, names[tclass - 1]))

    def demand(self, source: int, target: int, tclass: str, permission: str) -> None:
        """Refusal (EACCES) unless the policy grants a permission, or is not enforced."""
        if self.enforcing and permission not in self._granted(source, target, tclass):
            raise Refusal(XenErrno.EACCES)

    def _granted(self, source: int, target: int, tclass: str) -> set[str]:
        """What the rules of both types give; two users of guests share no memory."""
        (user, kind), (other, other_kind) = (self._user_and_type(sid) for sid in (source, target))
        granted = set(RULES.get((kind, other_kind), {}).get(tclass, "").split())
        for switch in self.booleans:
            more = WHERE.get((switch.name, switch.value), {})
            granted.update(more.get((kind, other_kind), {}).get(tclass, "").split())
        if tclass == "grant" and user != other and _SYSTEM not in (user, other):
            granted &= _BETWEEN_USERS
        return granted

    def _user_and_type(self, sid: int) -> tuple[str, str]:
        user, _, kind = self.context(sid).split(":")
        return user, kind

    def find_boolean(self, name: str) -> int:
        """Its number, -1 if nothing has this name."""
        return next((number for number, known in enumerate(self.booleans) if known.name == name), -1)

    def forget_pending(self) -> None:
        for switch in self.booleans:
            switch.pending = switch.value
