# SPDX-License-Identifier: MIT
"""What can go wrong, by whose fault it is.

Bad arguments raise ValueError or TypeError before any hypercall. What the hypervisor or the kernel refuses is
a HypercallError, an OSError that also names the operation. Bytes that make no sense are a DecodeError.
"""

from __future__ import annotations

import errno as host_errno
from collections.abc import Iterable

from pyxc.abi.domid import DOMID_ANY
from pyxc.abi.errno import describe, name_of


class Error(Exception):
    """Base of everything that pyxc raises on its own account."""


class NotXenError(Error, OSError):
    """There is no Xen that this process could manage: no device, or not dom0."""


class DecodeError(Error, ValueError):
    """The hypervisor or a guest handed over bytes that make no sense."""


class StoreError(Error, OSError):
    """xenstore refused, or did not answer.

    Attributes: `errno`, `operation` ("write", "" where the connection itself failed) and `path` (None where
    the operation concerns none).
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

    Attributes: `errno` (Xen's number), `operation` ("domctl.pausedomain"), `domid` (None where the operation
    concerns no domain), `interface_version` (None in families without one), and `hint` ("" or one sentence).
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

    For a name or UUID, which was looked for in a list of all domains, `domid` is None and `hint` says it all.
    """

    def __str__(self) -> str:
        return self.hint if self.domid is None else super().__str__()


class Ambiguous(Error, LookupError):
    """Several domains, or several cpu pools, go by one name or UUID. `ids` are theirs: only an id tells them
    apart."""

    def __init__(self, what: str, key: object, ids: Iterable[int]) -> None:
        self.what = what
        self.key = key
        self.ids = tuple(ids)
        super().__init__(what, key, self.ids)

    def __str__(self) -> str:
        ids = ", ".join(map(str, self.ids))
        return f"{len(self.ids)} {self.what} go by {self.key}: name one of them by its id ({ids})"


class LabelNotFound(HypercallError, KeyError):
    """The security policy has no such label or boolean."""


class PermissionDenied(HypercallError, PermissionError):
    """The hypervisor's policy, or the kernel's privcmd device, forbids the operation."""


class VersionMismatch(HypercallError):
    """The hypervisor speaks an interface version that pyxc does not know."""


class Unsupported(HypercallError, NotImplementedError):
    """This hypervisor, or the kernel between, has no such operation."""


class ReadOnlyError(Error, PermissionError):
    """The handle was opened read-only and the operation changes something."""


class MissingLibrary(Error, ImportError):
    """An optional Python package that this takes is not installed; `name` is its name."""


class DomainGone(Error, LookupError):
    """The domain that this object stood for no longer exists; its id may belong to another one by now."""


class DomainStuck(Error, TimeoutError):
    """A destroyed domain did not go away in time."""


class GuestUnable(Error):
    """A guest cannot do what it is asked to: it has no drivers for Xen, or says that it does not do this."""


class GuestSilent(GuestUnable, TimeoutError):
    """A guest did not do in time what it was asked to."""


class ConfigError(Error, ValueError):
    """The configuration of a guest cannot be read, or asks for what is not supported; it names the line."""


class AttributeForbidden(Error, PermissionError):
    """This process may not see or change an extended attribute: trusted ones are for CAP_SYS_ADMIN."""


class AttributeUnsupported(Error, OSError):
    """A file system does not keep extended attributes of a kind."""


class LabelConflict(Error):
    """The label of a file is not what the caller said it would be."""


_HINTS = {
    host_errno.EPERM: "only the control domain may do this, and privcmd may be restricted (XSM, lockdown)",
    host_errno.EACCES: "it is read-only, or the hypervisor's security policy (FLASK) forbids it",
    host_errno.EFAULT: "the hypervisor could not reach the buffer",
    host_errno.EBUSY: "somebody else holds it at the moment",
}


def from_errno(
    number: int,
    operation: str,
    domid: int | None = None,
    interface_version: int | None = None,
    hint: str = "",
) -> HypercallError:
    """The HypercallError of the kind that an errno means."""
    kind: type[HypercallError] = HypercallError
    if number == host_errno.EINVAL and domid == 0:
        hint = hint or "dom0 cannot do this to itself, nor to the vcpu that asks"
    if number == host_errno.ESRCH and domid is not None:
        kind = DomainNotFound
    elif number in (host_errno.EPERM, host_errno.EACCES):
        kind = PermissionDenied
    elif number in (host_errno.ENOSYS, host_errno.EOPNOTSUPP):
        kind, hint = Unsupported, hint or "this hypervisor does not have it, or was built without it"
    return kind(number, operation, domid, interface_version, hint or _HINTS.get(number, ""))
