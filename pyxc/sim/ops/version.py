# SPDX-License-Identifier: MIT
"""xen_version: what the simulated hypervisor says of itself."""

from __future__ import annotations

from pyxc._core import PAGE_SIZE
from pyxc.abi import version
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import U32, Row, Table
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.build import COMMAND_LINE, VIRT_START, build_id_of
from pyxc.sim.ops.call import Call, handles
from pyxc.sim.profiles import Profile

_HVM = "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
_LENGTH = Table("xen_varbuf", "xen", Row("len", U32))


@handles(version.VERSION)
def running_version(call: Call) -> int:
    major, minor = call.xen.profile.xen
    return major << 16 | minor


def _text(call: Call, name: str, text: str) -> None:
    """A string of fixed size, cut so that a zero ends it."""
    call.replace({name: _cut(text, call.layout.sizes[name])})


def _cut(text: str, size: int) -> bytes:
    return text.encode("ascii")[: size - 1].ljust(size, b"\0")


@handles(version.EXTRAVERSION)
def extraversion(call: Call) -> None:
    _text(call, "extraversion", call.xen.profile.extraversion)


@handles(version.COMPILE_INFO)
def compile_info(call: Call) -> None:
    sizes = call.layout.sizes
    texts = {
        "compiler": f"{call.xen.profile.arch}-linux-gnu-gcc (simulated)",
        "compile_by": "pyxc",
        "compile_domain": "sim.invalid",
        "compile_date": call.xen.profile.built,
    }
    call.replace({name: _cut(text, sizes[name]) for name, text in texts.items()})


def _capabilities(profile: Profile) -> str:
    if profile.dom0_op:
        return "xen-3.0-powerpc64" if profile.arch == "ppc64" else "xen-3.0-x86_64"
    return "xen-3.0-x86_64 " + ("xen-3.0-x86_32p " if profile.pv32 else "") + _HVM


@handles(version.CAPABILITIES)
def capabilities(call: Call) -> None:
    _text(call, "capabilities", _capabilities(call.xen.profile))


@handles(version.CHANGESET)
def changeset(call: Call) -> None:
    _text(call, "changeset", call.xen.profile.changeset)


@handles(version.PLATFORM_PARAMETERS)
def platform_parameters(call: Call) -> None:
    call.replace({"virt_start": VIRT_START if call.xen.profile.arch == "x86_64" else 0})


@handles(version.GET_FEATURES)
def get_features(call: Call) -> None:
    if call["submap_idx"]:
        raise Refusal(XenErrno.EINVAL)
    call.answer(submap=int(call.xen.profile.features))


@handles(version.PAGESIZE)
def pagesize(call: Call) -> int:
    return -XenErrno.EINVAL if call.address else PAGE_SIZE


@handles(version.GUEST_HANDLE)
def guest_handle(call: Call) -> None:
    call.replace({"handle": call.xen.current.domain.handle})


@handles(version.COMMANDLINE)
def commandline(call: Call) -> None:
    _text(call, "commandline", COMMAND_LINE)


def _variable(call: Call, data: bytes) -> int:
    """Bytes behind their length: without a buffer only the size, ENOBUFS where they do not fit."""
    if call.address:
        if _room(call) < len(data):
            raise Refusal(XenErrno.ENOBUFS)
        call.memory.write(call.address + call.xen.layout(_LENGTH).size, data)
    return len(data)


def _room(call: Call) -> int:
    length = call.xen.layout(_LENGTH)
    return int(length.unpack(call.memory.read(call.address, length.size))["len"])


@handles(version.BUILD_ID)
def build_id(call: Call) -> int:
    if call.address and not call.xen.profile.since(4, 20) and _room(call) == 0:
        raise Refusal(XenErrno.EINVAL)
    return _variable(call, build_id_of(call.xen.profile.version))


@handles(version.EXTRAVERSION2)
def extraversion2(call: Call) -> int:
    return _variable(call, call.xen.profile.extraversion.encode())


@handles(version.CAPABILITIES2)
def capabilities2(call: Call) -> int:
    return _variable(call, _capabilities(call.xen.profile).encode())


@handles(version.CHANGESET2)
def changeset2(call: Call) -> int:
    return _variable(call, call.xen.profile.changeset.encode())


@handles(version.COMMANDLINE2)
def commandline2(call: Call) -> int:
    return _variable(call, COMMAND_LINE.encode())
