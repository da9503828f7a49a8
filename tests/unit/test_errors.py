# SPDX-License-Identifier: MIT
"""Errors say whose fault it is, in a kind to catch and a text to read."""

from __future__ import annotations

import builtins
import errno
import pickle

import pytest
from hosts import Host

from pyxc import errors
from pyxc.abi.domid import DOMID_ANY
from pyxc.errors import from_errno


@pytest.mark.parametrize(
    ("number", "kind", "also"),
    [
        (errno.ESRCH, errors.DomainNotFound, LookupError),
        (errno.EPERM, errors.PermissionDenied, builtins.PermissionError),
        (errno.EACCES, errors.PermissionDenied, builtins.PermissionError),
        (errno.ENOSYS, errors.Unsupported, NotImplementedError),
        (errno.EOPNOTSUPP, errors.Unsupported, NotImplementedError),
        (errno.EINVAL, errors.HypercallError, OSError),
    ],
)
def test_the_kind_follows_the_errno(number: int, kind: type[Exception], also: type[Exception]) -> None:
    error = from_errno(number, "domctl.pausedomain", 3)
    assert type(error) is kind
    assert all(isinstance(error, base) for base in (also, errors.Error, OSError))
    assert error.errno == number


def test_no_such_entry_without_a_domain_is_not_a_missing_domain() -> None:
    assert type(from_errno(errno.ESRCH, "sysctl.physinfo")) is errors.HypercallError


def test_a_text_names_operation_version_domain_errno_and_hint() -> None:
    error = from_errno(errno.EBUSY, "domctl.max_vcpus", 7, 0x15)
    assert str(error) == ("domctl.max_vcpus (interface 0x15) on domain 7 failed: EBUSY, busy; it is in use")
    bare = from_errno(errno.EINVAL, "memory_op.claim")
    assert str(bare) == "memory_op.claim failed: EINVAL, invalid argument"
    assert "on domain" not in str(from_errno(errno.EINVAL, "domctl.createdomain", DOMID_ANY))
    assert "errno 99999" in str(from_errno(99999, "domctl.max_mem"))


def test_a_hint_given_is_better_than_a_general_one() -> None:
    error = from_errno(errno.ENOSYS, "p2m", hint="it is a 32-bit guest")
    assert str(error).endswith("; it is a 32-bit guest")


def test_an_error_survives_pickling() -> None:
    error = from_errno(errno.ESRCH, "domctl.pausedomain", 3, 0x17, "gone")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.DomainNotFound
    assert str(again) == str(error)
    assert (again.errno, again.operation, again.domid, again.interface_version, again.hint) == (
        errno.ESRCH, "domctl.pausedomain", 3, 0x17, "gone",
    )  # fmt: skip


def test_the_hypervisor_s_refusal_is_told(host: Host) -> None:
    with pytest.raises(errors.DomainNotFound) as caught:
        host.xen.domains[999]
    assert caught.value.operation == "domctl.getdomaininfo"
    assert caught.value.domid == 999
    assert caught.value.interface_version == 0x15
