# SPDX-License-Identifier: MIT
"""Detects, with harmless calls, the interface versions of a hypervisor."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from pyxc import errors
from pyxc.abi import domctl, releases, sysctl, version
from pyxc.abi.domid import DOMID_INVALID
from pyxc.abi.layout import Interface, Release
from pyxc.abi.operation import DOM0_OP
from pyxc.call.caller import Caller
from pyxc.link import Link, unrecorded

_RECORD_SPACE, _UNKNOWN_RECORD_SPACE = 256, 4096
_AHEAD = 64
"""How many numbers after the newest known one to try for an assumed release; a release uses one."""
_ELSEWHERE = {"aarch64": "64-bit Arm", "armv": "Arm", "riscv": "RISC-V", "powerpc": "PowerPC", "ppc": "Power"}
"""Architectures with other structures, by the names of a hypervisor's kinds of guests."""


def interface_of(link: Link, assume: Release | None = None) -> Interface:
    """The interface of the hypervisor behind a link.

    `assume` is a Xen release whose structures are used, for experts with a hypervisor newer than pyxc; see
    _assumed(). Raises VersionMismatch if no known version is accepted or structures have a different size,
    Unsupported on another architecture than x86-64, NotXenError outside dom0.
    """
    xen = _release(link)
    if assume is not None:
        return _assumed(link, xen, releases.known(assume))
    try:
        interface = Interface(xen, *releases.numbers(xen), byteorder=link.byteorder)
        interface = _accepted(link, interface, "sysctl", _sysctl_answers)
        interface = _accepted(link, interface, "domctl", _domctl_answers)
    except errors.Unsupported:
        if xen != releases.BEFORE_DOMCTL[0].xen:
            raise
        interface = _before_domctl(link)
    else:
        _check_architecture(link, interface)
    _check_record_size(Caller(link, interface))
    return interface


def _assumed(link: Link, xen: Release, assume: Release) -> Interface:
    """The structures of a known release with the numbers that this hypervisor accepts: its own, or newer
    ones.

    The size of a domain's record is measured here, and that of other records on first use. A number with
    known different structures is refused.
    """
    interface = Interface(assume, *releases.numbers(assume), byteorder=link.byteorder, assumed=True)
    _check_architecture(link, interface._replace(xen=xen))
    taken = tuple(
        _number_taken(link, interface, family, answers)
        for family, answers in (("domctl", _domctl_answers), ("sysctl", _sysctl_answers))
    )
    interface = interface._replace(taken=(taken[0], taken[1]))
    _check_record_size(Caller(link, interface._replace(assumed=False)), _UNKNOWN_RECORD_SPACE)
    return interface


def _number_taken(link: Link, interface: Interface, family: str, answers: Callable[[Caller], bool]) -> int:
    """The number of a family that a hypervisor accepts with these structures."""
    own = interface.version(family)[0]
    newest = releases.candidates(family)[0]
    tries: list[int] = [own, *range(newest + 1, newest + 1 + _AHEAD), *releases.candidates(family)]
    for number in tries:
        taken = (number, 0) if family == "domctl" else (0, number)
        if answers(Caller(link, interface._replace(taken=taken))):
            if own != number <= newest:
                own_text = f"Xen {_text(interface.xen)} has {own:#x}"
                hint = f"pyxc knows this version, but {own_text}: do not assume a release"
                raise errors.VersionMismatch(errno.EINVAL, family, interface_version=number, hint=hint)
            return number
    tried = f"{own:#x} and {newest + 1:#x} to {newest + _AHEAD:#x}"
    hint = f"the hypervisor accepts none of {tried}, or its security policy (XSM) forbids the call"
    raise errors.VersionMismatch(errno.EACCES, family, hint=hint)


def _check_architecture(link: Link, interface: Interface) -> None:
    """Unsupported on another architecture than x86-64: some have records of the same size with other fields.

    A recording is of a supported hypervisor: it is not checked.
    """
    asked = unrecorded(link)
    if asked is None:
        return
    try:
        reply = Caller(asked, interface).call(version.CAPABILITIES)
    except errors.HypercallError:
        return
    kinds = reply.field("capabilities").split(b"\0", 1)[0].decode("ascii", "replace").split()
    architecture = _foreign(kinds)
    if architecture:
        what = f"this is Xen {_text(interface.xen)} for {architecture} ({' '.join(kinds)})"
        hint = f"{what}: pyxc supports Xen on x86-64 only"
        raise errors.Unsupported(errno.EOPNOTSUPP, version.CAPABILITIES.full_name, hint=hint)


def _foreign(kinds: list[str]) -> str:
    """The architecture according to the kinds of guests, "" for x86-64 and if they do not say."""
    for kind in kinds:
        for part, name in _ELSEWHERE.items():
            if part in kind:
                return name
    only_32_bits = any("x86_32" in kind for kind in kinds) and not any("x86_64" in kind for kind in kinds)
    return "32-bit x86" if only_32_bits else ""


def _text(release: Release) -> str:
    return ".".join(map(str, release))


def _before_domctl(link: Link) -> Interface:
    """A Xen without domctl and sysctl: the newest dom0_op that it accepts, as the last one accepted two
    numbers.

    The only big-endian Xen was that for PowerPC.
    """
    arch = "ppc64" if link.byteorder == "big" else "x86_64"
    for interface in reversed(releases.BEFORE_DOMCTL):
        candidate = interface._replace(arch=arch, byteorder=link.byteorder)
        if _dom0_op_answers(Caller(link, candidate)):
            return candidate
    hint = "this Xen 3.0 has neither domctl nor a known dom0_op: it is older than December 2005"
    raise errors.VersionMismatch(errno.EACCES, DOM0_OP.name, hint=hint)


def _release(link: Link) -> Release:
    """XENVER_version: needs no interface version and no buffer."""
    packed = link.hypercall(version.VERSION.family.hypercall, version.VERSION.command)
    if packed < 0:
        raise errors.from_errno(-packed, version.VERSION.full_name)
    return version.release(packed)


def _accepted(link: Link, guess: Interface, family: str, answers: Callable[[Caller], bool]) -> Interface:
    """The first candidate that it accepts: that of its release, then newest to oldest."""
    for number in _candidates(guess, family):
        candidate = guess._replace(domctl=number) if family == "domctl" else guess._replace(sysctl=number)
        if answers(Caller(link, candidate)):
            return candidate
    raise errors.VersionMismatch(errno.EACCES, family, hint=_why_none(guess.xen, family))


def _why_none(xen: Release, family: str) -> str:
    """Why a hypervisor accepts no known version."""
    refused = f"Xen {_text(xen)} accepted none of the known {family} versions"
    if xen < releases.OLDEST:
        return (
            f"{refused}: Xen 3.0.3 and 3.0.4 (domctl 3 and 4, sysctl 2) have structures that depend on the"
            " calling kernel's word size; pyxc supports Xen since 3.1, and the releases before 3.0.3"
        )
    newest = releases.NEWEST
    return (
        f"{refused}: it is newer than {newest[0]}.{newest[1]}, the newest known release, or its security"
        " policy (XSM) forbids the call; pyxc.open(assume=(MAJOR, MINOR)), PYXC_ASSUME=MAJOR.MINOR and pyxc"
        " --assume try the structures of a release anyway"
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
    """Query a domain that cannot exist: every result but EACCES proves that the version was accepted."""
    try:
        caller.call(domctl.GETDOMAININFO, DOMID_INVALID)
    except errors.HypercallError as error:
        return error.errno != errno.EACCES
    return True


def _dom0_op_answers(caller: Caller) -> bool:
    """The same query. Here EPERM is returned before the number is checked."""
    try:
        caller.call(domctl.GETDOMAININFO, DOMID_INVALID)
    except errors.HypercallError as error:
        if error.errno == errno.EPERM:
            raise errors.NotXenError(errno.EPERM, "dom0_op is refused: this is not dom0") from error
        return error.errno not in (errno.EACCES, errno.ENOSYS)
    return True


def _check_record_size(caller: Caller, space: int = _RECORD_SPACE) -> None:
    """Compare the size of a getdomaininfo record with the size that this hypervisor writes for dom0.

    The highest byte that changes in a buffer filled with one of two patterns is the last of the record.
    """
    written = 0
    for filler in (b"\xa5", b"\x5a"):
        reply = caller.call(sysctl.GETDOMAININFOLIST, first_domain=0, max_domains=1, buffer=filler * space)
        written = max(written, len(reply.buffers["buffer"].rstrip(filler)))
    expected = domctl.GETDOMAININFO_STRUCT.at(caller.interface).size
    if written != expected:
        raise errors.VersionMismatch(
            errno.EINVAL,
            sysctl.GETDOMAININFOLIST.full_name,
            interface_version=caller.interface.number("sysctl") or caller.interface.dom0_op,
            hint=f"this hypervisor writes domain records of {written} bytes; pyxc expects {expected}",
        )
