# SPDX-License-Identifier: MIT
"""The security policy of a hypervisor that was built with XSM and FLASK."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from pyxc import answers, arguments, errors
from pyxc.abi import flask, flask_vectors
from pyxc.abi.operation import Operation
from pyxc.host.host import Host

_U32_MAX = 2**32 - 1


class Boolean(NamedTuple):
    """A switch of the policy: its present value, and its value after the next commit.

    Example:

    >>> xsm = pyxc.open("sim:xen-4.17-xsm")
    >>> xsm.flask.booleans["prot_doms_locked"]
    Boolean(name='prot_doms_locked', value=False, pending=False)
    """

    name: str
    value: bool
    pending: bool


class Flask:
    """The security policy (xsm_op, public/xsm/flask_op.h). Threads: safe to share.

    A label is a context, such as "system_u:system_r:domU_t"; the hypervisor's number for it is a sid, which
    is valid until the next boot. Without FLASK everything but `present` raises Unsupported; if the policy is
    enforced, operations that dom0's label may not do raise PermissionDenied.

    Example:

    >>> xsm = pyxc.open("sim:xen-4.17-xsm")
    >>> xsm.flask.enforcing(), xsm.flask.sid("system_u:system_r:domU_t")
    (True, 12)
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen
        self.booleans = Booleans(xen)

    @cached_property
    def present(self) -> bool:
        """Whether this hypervisor has FLASK."""
        try:
            self._xen.call(flask.GETENFORCE)
        except errors.Unsupported:
            return False
        return True

    def enforcing(self) -> bool:
        """Whether the policy is enforced; if not, forbidden operations are only logged (FLASK_GETENFORCE)."""
        return bool(self._xen.call(flask.GETENFORCE).result)

    def set_enforcing(self, enforcing: bool) -> None:
        """Enforce the policy, or only log forbidden operations (FLASK_SETENFORCE)."""
        self._xen.call(flask.SETENFORCE, enforcing=int(enforcing))

    @cached_property
    def policy_version(self) -> int:
        """The newest format of policies that load() accepts (FLASK_POLICYVERS)."""
        return self._xen.call(flask.POLICYVERS).result

    def load(self, policy: bytes) -> None:
        """Replace the policy by one compiled by checkpolicy (FLASK_LOAD).

        EINVAL if it is malformed, or conflicts with the labels in use; then the old policy remains.
        """
        arguments.natural("size of the policy", len(policy), flask.POLICY_BYTES_MOST, 1)
        self._xen.call(flask.LOAD, buffer=policy, size=len(policy))

    def sid(self, context: str) -> int:
        """The number of a label (FLASK_CONTEXT_TO_SID). LabelNotFound if the policy has no such label."""
        text = _text("context", context)
        try:
            reply = self._xen.call(flask.CONTEXT_TO_SID, context=text, size=len(text))
        except errors.HypercallError as error:
            if error.errno != errno.EINVAL:
                raise
            hint = f"the policy has no label {context!r}"
            raise errors.LabelNotFound(errno.EINVAL, error.operation, hint=hint) from error
        return int(reply.field("sid"))

    def context(self, sid: int) -> str:
        """The label with a number (FLASK_SID_TO_CONTEXT); an unknown number is that of "unlabeled"."""
        arguments.natural("sid", sid, _U32_MAX)
        room = flask.CONTEXT_BYTES_MOST
        reply = self._xen.call(flask.SID_TO_CONTEXT, sid=sid, context=room, size=room)
        return reply.buffers["context"].split(b"\0", 1)[0].decode("ascii", "replace")

    def access(self, source: str | int, target: str | int, tclass: str) -> frozenset[str]:
        """The permissions of one label on objects with another label (FLASK_ACCESS).

        Labels are contexts or sids; `tclass` is a class of objects, such as "domain" or "resource". The
        result does not depend on whether the policy is enforced. ValueError for a class that this Xen does
        not have.
        """
        release = self._xen.interface.xen
        number = flask_vectors.classes(release).get(tclass)
        if number is None:
            known = ", ".join(flask_vectors.classes(release))
            raise ValueError(f"tclass is {tclass!r}: expected one of {known}")
        reply = self._xen.call(flask.ACCESS, ssid=self._sid(source), tsid=self._sid(target), tclass=number)
        allowed = reply.field("allowed")
        return frozenset(
            name for name, bit in flask_vectors.permissions(release, tclass).items() if allowed & bit
        )

    def _sid(self, label: str | int) -> int:
        return self.sid(label) if isinstance(label, str) else arguments.natural("sid", label, _U32_MAX)

    def __repr__(self) -> str:
        return f"<Flask of {self._xen.link.target}>"


class Booleans(Mapping[str, Boolean]):
    """The policy's switches by name (FLASK_GETBOOL, SETBOOL, COMMITBOOLS). Threads: safe to share."""

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def __getitem__(self, name: str) -> Boolean:
        """One switch. LabelNotFound, a KeyError, if the policy has no switch of this name."""
        text = _text("name", name)
        return self._by_name(flask.GETBOOL, name, text)

    def set(self, name: str, value: bool, commit: bool = True) -> Boolean:
        """Set a switch, at once or (`commit` False) together with others at the next commit()."""
        text = _text("name", name)
        return self._by_name(flask.SETBOOL, name, text, new_value=int(value), commit=int(commit))

    def commit(self) -> None:
        """Put all pending values into effect at once."""
        self._xen.call(flask.COMMITBOOLS)

    def _by_name(self, operation: Operation, name: str, text: bytes, **fields: int) -> Boolean:
        try:
            reply = self._xen.call(operation, bool_id=flask.BOOL_BY_NAME, name=text, size=len(text), **fields)
        except errors.HypercallError as error:
            if error.errno != errno.ENOENT:
                raise
            hint = f"the policy has no boolean {name!r}"
            raise errors.LabelNotFound(errno.ENOENT, operation.full_name, hint=hint) from error
        return Boolean(name, bool(reply.field("enforcing")), bool(reply.field("pending")))

    def _all(self) -> Iterator[Boolean]:
        number = 0
        room = flask.CONTEXT_BYTES_MOST
        while True:
            try:
                reply = self._xen.call(flask.GETBOOL, bool_id=number, name=room, size=room)
            except errors.HypercallError as error:
                if error.errno != errno.ENOENT:
                    raise
                return
            name = answers.name("a boolean", reply.buffers["name"][: reply.field("size")])
            yield Boolean(name, bool(reply.field("enforcing")), bool(reply.field("pending")))
            number += 1

    def __iter__(self) -> Iterator[str]:
        return (boolean.name for boolean in self._all())

    def __len__(self) -> int:
        return sum(1 for _ in self._all())

    def __repr__(self) -> str:
        return f"<Booleans of {self._xen.link.target}>"


def _text(what: str, text: str) -> bytes:
    """A string for the hypervisor, with the NUL that it needs since 4.23.

    ValueError if no policy can have it.
    """
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError(f"{what} is {text!r}: expected printable ASCII, not empty")
    data = text.encode("ascii")
    arguments.natural(f"length of the {what}", len(data), flask.CONTEXT_BYTES_MOST - 1)
    return data + b"\0"
