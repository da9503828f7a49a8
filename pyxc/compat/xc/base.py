# SPDX-License-Identifier: MIT
"""What all methods of xen.lowlevel.xc have in common: the handle, arguments as C takes them, and Error."""

from __future__ import annotations

import errno
import functools
import operator
import os
import types
from collections.abc import Callable
from typing import Any, SupportsIndex, TypeVar

from pyxc import errors
from pyxc._core import fork_count
from pyxc.abi.errno import describe
from pyxc.abi.layout import NotInInterface
from pyxc.compat import target
from pyxc.domain.domain import Domain
from pyxc.domain.info import read_info
from pyxc.opening import connect_again
from pyxc.xen import Xen

_INT_MOST = 2**31 - 1
_U16_MOST = 2**16 - 1
U32_MOST = 2**32 - 1
_U64_MOST = 2**64 - 1
_OPENING = (1, "Internal error")
"""The first two arguments of an Error if no hypervisor is available: libxc's own code."""
_NUMBERS = (
    (errors.ReadOnlyError, errno.EPERM),
    (errors.DomainGone, errno.ESRCH),
    (NotInInterface, errno.ENOSYS),
    (ValueError, errno.EINVAL),
)
"""The errno for errors without a number."""

C = TypeVar("C", bound=type)


class Error(RuntimeError):
    """Something failed: args are (errno, text), or (1, "Internal error", text) when xc() found no hypervisor.

    `errno` is the number in both cases; `__cause__` has more details, such as the hypercall.
    """

    errno: int = 0
    __module__ = "pyxc.compat.xc"


def failed(number: int, reason: str | None = None) -> Error:
    """An Error with args (errno, text): the C library's text unless there is a reason to tell."""
    made = Error(number, _reason(number) if reason is None else reason)
    made.errno = number
    return made


def _reason(number: int) -> str:
    """The C library's text; none for a number that is not a C int."""
    return os.strerror(number) if number <= _INT_MOST else describe(number)


def _failed_to_open(error: Exception) -> Error:
    made = Error(*_OPENING, f"xc_interface_open failed: {error}")
    made.errno = _number(error)
    return made


def _number(error: Exception) -> int:
    number = error.errno if isinstance(error, OSError) else None
    return number or next((number for kind, number in _NUMBERS if isinstance(error, kind)), errno.EIO)


def raises_error(cls: C) -> C:
    """Let the methods of a class raise Error in place of what pyxc raises."""
    for name, method in list(vars(cls).items()):
        if isinstance(method, types.FunctionType) and not name.startswith("_"):
            setattr(cls, name, _raising_error(method))
    return cls


def _raising_error(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except (errors.Error, OSError, ValueError, NotInInterface) as error:
            raise failed(_number(error)) from error

    return call


class Handle:
    """An open hypervisor. A child that inherits it opens it again on first use, as daemons need."""

    _xen: Xen | None = None
    _forks: int = 0

    def __init__(self) -> None:
        self._connect()

    def _connect(self) -> None:
        """Programs may open a handle for each question."""
        try:
            self._xen = connect_again(target.open_link(), names=False)
        except (errors.Error, OSError, ValueError) as error:
            raise _failed_to_open(error) from error
        self._forks = fork_count()

    def __del__(self) -> None:
        if self._xen is not None:
            self._xen.close()

    @property
    def _open(self) -> Xen:
        if self._forks != fork_count():
            parents, self._xen = self._xen, None
            if parents is not None:
                parents.close()
            self._connect()
        assert self._xen is not None
        return self._xen

    def _domain(self, domid: int) -> Domain:
        """The domain that has an id now."""
        return Domain(self._open, domid, read_info(self._open, domid).uuid)


def integer(value: SupportsIndex, most: int = _INT_MOST) -> int:
    """A C int: TypeError unless it is a whole number, OverflowError if it does not fit.

    `most` is larger where the original's int was too small for what it means.
    """
    number = operator.index(value)
    if not -_INT_MOST - 1 <= number <= most:
        raise OverflowError(f"{number} does not fit a C int")
    return number


def unsigned(value: SupportsIndex) -> int:
    """A C int that is taken as unsigned: -1 means the largest number."""
    return integer(value, U32_MOST) & U32_MOST


def size(value: SupportsIndex) -> int:
    """A number of KiB: up to 64 bits, where the original had 31; below 0 as C makes it unsigned."""
    number = integer(value, _U64_MOST)
    return number if number >= 0 else number & U32_MOST


def wide(value: SupportsIndex) -> int:
    """A number of 64 bits, which may be given as signed."""
    number = operator.index(value)
    if not -(2**63) <= number <= _U64_MOST:
        raise OverflowError(f"{number} does not fit 64 bits")
    return number & _U64_MOST


def signed(number: int) -> int:
    """A u32 as the original puts it into a C int."""
    return number - 2**32 if number >= 2**31 else number


def short(value: SupportsIndex) -> int:
    """A C unsigned short; the original cut off what did not fit."""
    number = operator.index(value)
    if not -0x8000 <= number <= _U16_MOST:
        raise OverflowError(f"{number} does not fit a C short")
    return number & _U16_MOST


def domid(value: SupportsIndex) -> int:
    """A domain's id, as C's int. One of more than 16 bits has no domain: the original truncated it."""
    number = integer(value)
    if not 0 <= number <= _U16_MOST:
        raise failed(errno.ESRCH)
    return number


def text(value: str) -> str:
    """A C string: TypeError unless it is a str, ValueError for a str with a NUL."""
    if not isinstance(value, str):
        raise TypeError(f"expected a str, not {type(value).__name__}")
    if "\0" in value:
        raise ValueError("embedded null character")
    return value


def handle(value: object) -> bytes:
    """A domain's handle: a list of 16 ints. Error (EINVAL) for anything else."""
    if not isinstance(value, list) or len(value) != 16 or not all(isinstance(part, int) for part in value):
        raise failed(errno.EINVAL)
    return bytes(part & 0xFF for part in value)
