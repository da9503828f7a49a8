# SPDX-License-Identifier: MIT
"""The exceptions that pyxc raises.

Invalid arguments raise ValueError or TypeError before any hypercall. A refusal by the hypervisor or the
kernel raises a HypercallError, an OSError that also names the operation. Malformed data from the hypervisor,
a guest or a file raises a DecodeError.

    >>> import pyxc
    >>> with pyxc.open("sim:xen-4.17") as xen:
    ...     try:
    ...         xen.domains[77].pause()
    ...     except pyxc.DomainNotFound as error:
    ...         print(error.operation, error.domid)
    domctl.getdomaininfo 77
"""

from __future__ import annotations

import errno as host_errno
from collections.abc import Iterable

from pyxc.abi.domid import DOMID_ANY
from pyxc.abi.errno import describe, name_of


class Error(Exception):
    """Base class of pyxc's own exceptions."""


class NotXenError(Error, OSError):
    """This process cannot manage a Xen: there is no device, or this is not dom0."""


class DecodeError(Error, ValueError):
    """The hypervisor, a guest or a file supplied malformed or out-of-range data."""


class StoreError(Error, OSError):
    """xenstore refused a request, or did not reply.

    Attributes: `errno`, `operation` ("write"; "" if the connection itself failed) and `path` (None if the
    operation has none).
    """

    def __init__(self, number: int, reason: str, operation: str = "", path: str | None = None) -> None:
        super().__init__(number, reason)
        self.operation = operation
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.errno or 0, self.strerror or "", self.operation, self.path)

    def __str__(self) -> str:
        what = f"xenstore {self.operation}{'' if self.path is None else f' of {self.path}'} failed: "
        return f"{what if self.operation else ''}{self.strerror}"


class HypercallError(Error, OSError):
    """A hypercall failed.

    Attributes: `errno` (Xen's number), `operation` ("domctl.pausedomain"), `domid` (None if the operation is
    not about a domain), `interface_version` (None in families without one), and `hint` ("" or one sentence).
    """

    def __init__(
        self,
        number: int,
        operation: str,
        domid: int | None = None,
        interface_version: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(number, describe(number))
        self.operation = operation
        self.domid = domid
        self.interface_version = interface_version
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        number = self.errno or 0
        return type(self), (number, self.operation, self.domid, self.interface_version, self.hint)

    def __str__(self) -> str:
        where = "" if self.domid is None or self.domid == DOMID_ANY else f" on domain {self.domid}"
        version = "" if self.interface_version is None else f" (interface {self.interface_version:#x})"
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.operation}{version}{where} failed: {name_of(self.errno or 0)}, {self.strerror}{hint}"


class DomainNotFound(HypercallError, KeyError):
    """No domain has this id, name or UUID. A KeyError, so that `in` and get() work on a mapping of domains.

    After a lookup by name or UUID in the list of all domains, `domid` is None and `hint` is the message.
    """

    def __str__(self) -> str:
        return self.hint if self.domid is None else super().__str__()


class Ambiguous(Error, LookupError):
    """Several domains, or several cpu pools, have the same name or UUID: use one of their `ids`."""

    def __init__(self, what: str, key: object, ids: Iterable[int]) -> None:
        self.what = what
        self.key = key
        self.ids = tuple(ids)
        super().__init__(what, key, self.ids)

    def __str__(self) -> str:
        ids = ", ".join(map(str, self.ids))
        return f"{len(self.ids)} {self.what} have the name or UUID {self.key}: use an id ({ids})"


class LabelNotFound(HypercallError, KeyError):
    """The hypervisor's security policy has no such label or boolean."""


class PermissionDenied(HypercallError, PermissionError):
    """The hypervisor's policy, or the kernel's privcmd device, forbids the operation."""


class VersionMismatch(HypercallError):
    """The hypervisor has an interface version that pyxc does not know."""


class Unsupported(HypercallError, NotImplementedError):
    """This hypervisor, or the kernel in between, does not have this operation."""


class ReadOnlyError(Error, PermissionError):
    """The handle was opened read-only and the operation changes something."""


class NotMapped(Error, LookupError):
    """A guest has no memory at an `address`, or none that may be read."""

    def __init__(self, address: int, why: str) -> None:
        super().__init__(address, why)
        self.address = address
        self.why = why

    def __str__(self) -> str:
        return f"address {self.address:#x} is not mapped: {self.why}"


class MissingLibrary(Error, ImportError):
    """An optional Python package is needed and not installed; `name` is its name."""


class DomainGone(Error, LookupError):
    """The domain of this object no longer exists; its id may now belong to another domain."""


class MigrationInDoubt(Error, ConnectionError):
    """The connection broke when the guest may already run on the other host; it is suspended on this one."""


class DomainStuck(Error, TimeoutError):
    """A destroyed domain did not disappear in time."""


class GuestUnable(Error):
    """A guest cannot do what it is asked to: it has no Xen drivers, or does not support this."""


class GuestSilent(GuestUnable, TimeoutError):
    """A guest did not do what it was asked to in time."""


class ConfigError(Error, ValueError):
    """The configuration of a guest cannot be read, or asks for what is not supported; it names the line."""


class AttributeForbidden(Error, PermissionError):
    """This process may not see or change an extended attribute: trusted ones need CAP_SYS_ADMIN."""


class AttributeUnsupported(Error, OSError):
    """A file system does not support extended attributes of this kind."""


class LabelConflict(Error):
    """The label of a file is not the one that the caller expected."""


_HINTS = {
    host_errno.EPERM: "only the control domain may do this, unless XSM or kernel lockdown restricts it",
    host_errno.EACCES: "the target is read-only, or the hypervisor's security policy (FLASK) forbids this",
    host_errno.EFAULT: "the hypervisor could not reach the buffer",
    host_errno.EBUSY: "it is in use",
}


def from_errno(
    number: int,
    operation: str,
    domid: int | None = None,
    interface_version: int | None = None,
    hint: str = "",
) -> HypercallError:
    """The HypercallError subclass for an errno."""
    kind: type[HypercallError] = HypercallError
    if number == host_errno.EINVAL and domid == 0:
        hint = hint or "dom0 cannot do this to itself or to the calling vcpu"
    if number == host_errno.ESRCH and domid is not None:
        kind = DomainNotFound
    elif number in (host_errno.EPERM, host_errno.EACCES):
        kind = PermissionDenied
    elif number in (host_errno.ENOSYS, host_errno.EOPNOTSUPP):
        kind, hint = Unsupported, hint or "this hypervisor does not support it, or was built without it"
    return kind(number, operation, domid, interface_version, hint or _HINTS.get(number, ""))
