# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: the security policy (XSM, FLASK)."""

from __future__ import annotations

import errno
from typing import SupportsIndex

from pyxc.abi import flask
from pyxc.compat.xc import base as c
from pyxc.compat.xc.base import Handle, failed, raises_error


@raises_error
class Flask(Handle):
    """The security policy of a hypervisor that was built with one; others answer with Error (ENOSYS)."""

    def flask_context_to_sid(self, context: str) -> int:
        """Get the number of a label.

         context [str]: the label, as "system_u:system_r:domU_t"

        Returns: [int] its number.
        """
        return self._open.flask.sid(c.text(context))

    def flask_sid_to_context(self, sid: SupportsIndex) -> str:
        """Get the label of a number.

         sid [int]: the number

        Returns: [str] the label.
        """
        return self._open.flask.context(c.unsigned(sid))

    def flask_load(self, policy: str | bytes) -> int:
        """Replace the policy.

         policy [str or bytes]: what checkpolicy made

        Returns: [int] 0.
        """
        self._open.flask.load(policy.encode() if isinstance(policy, str) else bytes(memoryview(policy)))
        return 0

    def flask_getenforce(self) -> int:
        """Ask whether the policy is enforced.

        Returns: [int] 0: what it forbids is only logged, 1: it is enforced.
        """
        return int(self._open.flask.enforcing())

    def flask_setenforce(self, mode: SupportsIndex) -> int:
        """Enforce the policy, or only log what it forbids.

         mode [int]: 0: log, else: enforce

        Returns: [int] 0.
        """
        self._open.flask.set_enforcing(bool(c.integer(mode)))
        return 0

    def flask_access(
        self,
        src_context: str,
        tar_context: str,
        tar_class: SupportsIndex,
        req_permissions: SupportsIndex,
        decided: SupportsIndex = 0,
        auditallow: SupportsIndex = 0,
        auditdeny: SupportsIndex = 0,
        seqno: SupportsIndex = 0,
    ) -> int:
        """Ask whether the policy lets one label do something to another.

         src_context     [str]: the label of who does it
         tar_context     [str]: the label of what it is done to
         tar_class       [int]: the class of what it is done to
         req_permissions [int]: what is done, one bit for each permission
         decided, auditallow, auditdeny, seqno [int]: without a meaning

        Returns: [int] 0: all of it is allowed; an Error (EPERM) when something is not.
        """
        for ignored in (decided, auditallow, auditdeny, seqno):
            c.wide(ignored)
        wanted = c.wide(req_permissions) & c.U32_MOST
        labels = self._open.flask
        reply = self._open.call(
            flask.ACCESS,
            ssid=labels.sid(c.text(src_context)),
            tsid=labels.sid(c.text(tar_context)),
            tclass=c.unsigned(tar_class),
            req=wanted,
        )
        if wanted & ~reply.field("allowed"):
            raise failed(errno.EPERM)
        return 0
