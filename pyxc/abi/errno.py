# SPDX-License-Identifier: MIT
"""Xen's own errno numbers (public/errno.h), which privcmd passes through on every architecture."""

from __future__ import annotations

from enum import IntEnum


class XenErrno(IntEnum):
    """An errno of the hypervisor, with its meaning there."""

    description: str

    def __new__(cls, number: int, description: str) -> XenErrno:
        member = int.__new__(cls, number)
        member._value_ = number
        member.description = description
        return member

    EPERM = 1, "operation not permitted"
    ENOENT = 2, "no such entry"
    ESRCH = 3, "no such domain or vcpu"
    EINTR = 4, "interrupted"
    EIO = 5, "input/output error"
    ENXIO = 6, "no such device or address"
    E2BIG = 7, "argument list too long"
    ENOEXEC = 8, "executable format error"
    EBADF = 9, "bad file number"
    ECHILD = 10, "no child"
    EAGAIN = 11, "try again"
    ENOMEM = 12, "out of memory"
    EACCES = 13, "access denied, or wrong interface version"
    EFAULT = 14, "bad address"
    EBUSY = 16, "busy"
    EEXIST = 17, "exists already"
    EXDEV = 18, "belongs to another device or pool"
    ENODEV = 19, "no such device"
    ENOTDIR = 20, "not a directory"
    EISDIR = 21, "is a directory"
    EINVAL = 22, "invalid argument"
    ENFILE = 23, "table overflow"
    EMFILE = 24, "too many open"
    ENOSPC = 28, "no space left"
    EROFS = 30, "read-only"
    EMLINK = 31, "too many links"
    EDOM = 33, "argument outside its domain"
    ERANGE = 34, "result out of range"
    EDEADLK = 35, "would deadlock"
    ENAMETOOLONG = 36, "name too long"
    ENOLCK = 37, "no lock available"
    ENOSYS = 38, "not implemented"
    ENOTEMPTY = 39, "not empty"
    ENODATA = 61, "no data available"
    ETIME = 62, "timer expired"
    EBADMSG = 74, "not a data message"
    EOVERFLOW = 75, "value too large"
    EILSEQ = 84, "illegal sequence"
    ERESTART = 85, "should be restarted"
    ENOTSOCK = 88, "not an endpoint"
    EMSGSIZE = 90, "message too large"
    EOPNOTSUPP = 95, "operation not supported"
    EADDRINUSE = 98, "address in use"
    EADDRNOTAVAIL = 99, "address not available"
    ENOBUFS = 105, "buffer too small"
    EISCONN = 106, "already connected"
    ENOTCONN = 107, "not connected"
    ETIMEDOUT = 110, "timed out"
    ECONNREFUSED = 111, "connection refused"


_KNOWN = {int(member): member for member in XenErrno}


def name_of(number: int) -> str:
    """The name of a positive errno, "errno N" if Xen has none."""
    known = _KNOWN.get(number)
    return known.name if known else f"errno {number}"


def describe(number: int) -> str:
    """The meaning of a positive errno, in a few words."""
    known = _KNOWN.get(number)
    return known.description if known else "unknown error"
