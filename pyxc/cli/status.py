# SPDX-License-Identifier: MIT
"""Exit statuses, and which of them an error means."""

from __future__ import annotations

import errno
from enum import IntEnum

from pyxc import errors


class Status(IntEnum):
    """What the process exits with; man/pyxc.1 lists them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_XEN = 3
    FORBIDDEN = 4
    NO_DOMAIN = 5
    UNSUPPORTED = 6
    PARTIAL = 7
    UNKNOWN = 10
    STALE = 11
    INCOMPLETE = 12
    MISMATCH = 13
    DENIED = 14
    LEFT = 15
    CRASHED = 20
    REBOOTED = 21
    WATCHDOG = 22
    GONE = 23
    HUNG_UP = 129
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


class UsageError(Exception):
    """The command line is invalid."""


class NoSuchDomain(Exception):
    """Nothing goes by this id, name or UUID."""


class Failed(Exception):
    """The operation is impossible, for a reason that is not an error of the library."""


_MEANING: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Status], ...] = (
    (UsageError, Status.USAGE),
    ((NoSuchDomain, errors.DomainNotFound, errors.DomainGone), Status.NO_DOMAIN),
    ((errors.PermissionDenied, errors.ReadOnlyError, errors.AttributeForbidden), Status.FORBIDDEN),
    ((errors.VersionMismatch, errors.Unsupported, errors.AttributeUnsupported), Status.UNSUPPORTED),
    (errors.NotXenError, Status.NOT_XEN),
    ((Failed, errors.Error, OSError, MemoryError), Status.FAILED),
    (ValueError, Status.USAGE),
)

_REFUSED = (errno.EACCES, errno.EPERM)


def status_of(error: Exception) -> Status | None:
    """The exit status of an expected error; None for one that would be a fault in pyxc."""
    told = isinstance(error, errors.StoreError) or (isinstance(error, errors.NotXenError) and error.filename)
    if told and isinstance(error, OSError) and error.errno in _REFUSED:
        return Status.FORBIDDEN
    return next((status for kinds, status in _MEANING if isinstance(error, kinds)), None)


def describe(error: Exception) -> str:
    """An error in one line, with its notes: what is left, or what can be done."""
    text = str(error) or ("not enough memory" if isinstance(error, MemoryError) else type(error).__name__)
    named = isinstance(error, errors.HypercallError | errors.StoreError)
    if isinstance(error, OSError) and not named and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join("; ".join((text, *notes(error))).split())


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))
