# SPDX-License-Identifier: MIT
"""Finds out, with harmless calls, which interface a hypervisor speaks."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from pyxc import errors
from pyxc.abi import domctl, releases, sysctl, version
from pyxc.abi.domid import DOMID_INVALID
from pyxc.abi.layout import Interface, Release
from pyxc.abi.operation import DOM0_OP
from pyxc.call.caller import Caller
from pyxc.link import Link

_RECORD_LIMIT = 256


def interface_of(link: Link, assume: Release | None = None) -> Interface:
    """The interface of the hypervisor behind a link.

    `assume` names a Xen release whose interface is used without asking: for an expert before a hypervisor
    that is newer than pyxc. Raises VersionMismatch when no known version is accepted, NotXenError outside
    dom0.
    """
    xen = _release(link)
    if assume is not None:
        domctl_number, sysctl_number = releases.numbers(assume)
        return Interface(assume, domctl_number, sysctl_number, byteorder=link.byteorder)
    try:
        interface = Interface(xen, *releases.numbers(xen), byteorder=link.byteorder)
        interface = _accepted(link, interface, "sysctl", _sysctl_answers)
        interface = _accepted(link, interface, "domctl", _domctl_answers)
    except errors.Unsupported:
        if xen != releases.BEFORE_DOMCTL[0].xen:
            raise
        interface = _before_domctl(link)
    _check_record_size(Caller(link, interface))
    return interface


def _before_domctl(link: Link) -> Interface:
    """A Xen without domctl and sysctl: the newest dom0_op that it takes, as its last took two numbers.

    The only big-endian Xen was PowerPC's.
    """
    arch = "ppc64" if link.byteorder == "big" else "x86_64"
    for interface in reversed(releases.BEFORE_DOMCTL):
        candidate = interface._replace(arch=arch, byteorder=link.byteorder)
        if _dom0_op_answers(Caller(link, candidate)):
            return candidate
    hint = "this Xen 3.0 has neither domctl nor a dom0_op that is known: it is older than December 2005"
    raise errors.VersionMismatch(errno.EACCES, DOM0_OP.name, hint=hint)


def _release(link: Link) -> Release:
    """XENVER_version: needs no interface version and no buffer."""
    packed = link.hypercall(version.VERSION.family.hypercall, version.VERSION.command)
    if packed < 0:
        raise errors.from_errno(-packed, version.VERSION.full_name)
    return packed >> 16, packed & 0xFFFF


def _accepted(link: Link, guess: Interface, family: str, answers: Callable[[Caller], bool]) -> Interface:
    """The first candidate that it takes: the one its release should have, then newest to oldest."""
    for number in _candidates(guess, family):
        candidate = guess._replace(domctl=number) if family == "domctl" else guess._replace(sysctl=number)
        if answers(Caller(link, candidate)):
            return candidate
    raise errors.VersionMismatch(errno.EACCES, family, hint=_why_none(guess.xen, family))


def _why_none(xen: Release, family: str) -> str:
    """Why a hypervisor takes no known version."""
    refused = f"Xen {xen[0]}.{xen[1]} took none of the known {family} versions"
    if xen < releases.OLDEST:
        return (
            f"{refused}: Xen 3.0.3 and 3.0.4 (domctl 3 and 4, sysctl 2) have structures as wide as the kernel"
            " that asks, not of 64 bits for all; pyxc manages Xen from 3.1 on, and what was before 3.0.3"
        )
    newest = releases.NEWEST
    return (
        f"{refused}: it is newer than {newest[0]}.{newest[1]}, the newest known release, or its security"
        " policy (XSM) forbids the call; pyxc.open(assume=(MAJOR, MINOR)) tries the layouts of a release"
        " nonetheless"
    )


def _candidates(guess: Interface, family: str) -> Iterable[int]:
    first = guess.version(family)[0]
    return dict.fromkeys([first, *releases.candidates(family)])


def _sysctl_answers(caller: Caller) -> bool:
    try:
        caller.call(sysctl.GETDOMAININFOLIST, first_domain=0, max_domains=0, buffer=8)
    except errors.HypercallError as error:
        if error.errno == errno.EACCES:
            return False
        if error.errno == errno.EPERM:
            raise errors.NotXenError(errno.EPERM, "sysctl is refused: this is not dom0") from error
        raise
    return True


def _domctl_answers(caller: Caller) -> bool:
    """Asks about a domain that cannot exist: every answer but EACCES proves that the version was taken."""
    try:
        caller.call(domctl.GETDOMAININFO, DOMID_INVALID)
    except errors.HypercallError as error:
        return error.errno != errno.EACCES
    return True


def _dom0_op_answers(caller: Caller) -> bool:
    """The same question. Here EPERM comes before the number is looked at."""
    try:
        caller.call(domctl.GETDOMAININFO, DOMID_INVALID)
    except errors.HypercallError as error:
        if error.errno == errno.EPERM:
            raise errors.NotXenError(errno.EPERM, "dom0_op is refused: this is not dom0") from error
        return error.errno not in (errno.EACCES, errno.ENOSYS)
    return True


def _check_record_size(caller: Caller) -> None:
    """Compare the size of a getdomaininfo record with what this hypervisor really writes (dom0's, always
    there).

    The highest byte that changes in a buffer filled with either of two patterns is the record's last.
    """
    written = 0
    for filler in (b"\xa5", b"\x5a"):
        reply = caller.call(
            sysctl.GETDOMAININFOLIST, first_domain=0, max_domains=1, buffer=filler * _RECORD_LIMIT
        )
        written = max(written, len(reply.buffers["buffer"].rstrip(filler)))
    expected = domctl.GETDOMAININFO_STRUCT.at(caller.interface).size
    if written != expected:
        raise errors.VersionMismatch(
            errno.EINVAL,
            sysctl.GETDOMAININFOLIST.full_name,
            interface_version=caller.interface.sysctl or caller.interface.dom0_op,
            hint=f"this hypervisor writes domain records of {written} bytes where {expected} are known",
        )
