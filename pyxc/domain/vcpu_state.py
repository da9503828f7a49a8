# SPDX-License-Identifier: MIT
"""What a vcpu of a PV guest has besides its registers, in the form that Xen's streams have it."""

from __future__ import annotations

from pyxc import errors
from pyxc.abi import domctl_vcpu
from pyxc.domain.vcpus import Vcpu

_MOST_BYTES = 1 << 20
_MSR_BYTES = 16
_MOST_MSRS = 1 << 10
_LEAST_EXTENDED_BYTES = 32


def read_extended(vcpu: Vcpu) -> bytes:
    """The callbacks of system calls and the banks of machine checks (domctl get_ext_vcpucontext)."""
    layout = domctl_vcpu.EXT_VCPUCONTEXT_STRUCT.at(vcpu.domain.xen.interface)
    reply = vcpu.domain.call(domctl_vcpu.GET_EXT_VCPUCONTEXT, vcpu=vcpu.index)
    fields = reply.fields()
    return bytes(layout.pack({name: fields[name] for name in layout.names}))[: fields["size"]]


def write_extended(vcpu: Vcpu, data: bytes) -> None:
    """The same, as any release has it (domctl set_ext_vcpucontext). DecodeError for something else."""
    layout = domctl_vcpu.EXT_VCPUCONTEXT_STRUCT.at(vcpu.domain.xen.interface)
    if len(data) < _LEAST_EXTENDED_BYTES:
        raise errors.DecodeError(f"the extended context of vcpu {vcpu.index} has only {len(data)} bytes")
    fields = layout.unpack(data[: layout.size].ljust(layout.size, b"\0"))
    fields.update(vcpu=vcpu.index, size=min(fields["size"], len(data), layout.size))
    vcpu.domain.change(domctl_vcpu.SET_EXT_VCPUCONTEXT, **fields)


def read_xstate(vcpu: Vcpu) -> bytes:
    """xcr0, all features that it ever used, and the xsave area, if any (domctl getvcpuextstate)."""
    asked = vcpu.domain.call(domctl_vcpu.GETVCPUEXTSTATE, vcpu=vcpu.index)
    size = asked.reported("size", _MOST_BYTES)
    if not size:
        return b""
    mask = asked.field("xfeature_mask")
    reply = vcpu.domain.call(
        domctl_vcpu.GETVCPUEXTSTATE, vcpu=vcpu.index, xfeature_mask=mask, size=size, buffer=size
    )
    return reply.buffer("buffer")[: reply.reported("size", size)]


def write_xstate(vcpu: Vcpu, data: bytes) -> None:
    """The same (domctl setvcpuextstate). EINVAL: the cpus of this host do not have these features."""
    vcpu.domain.change(domctl_vcpu.SETVCPUEXTSTATE, vcpu=vcpu.index, size=len(data), buffer=data)


def read_msrs(vcpu: Vcpu) -> bytes:
    """Its model-specific registers that are not 0 (domctl get_vcpu_msrs), 16 bytes each."""
    asked = vcpu.domain.call(domctl_vcpu.GET_VCPU_MSRS, vcpu=vcpu.index)
    most = asked.reported("msr_count", _MOST_MSRS)
    if not most:
        return b""
    reply = vcpu.domain.call(
        domctl_vcpu.GET_VCPU_MSRS, vcpu=vcpu.index, msr_count=most, msrs=_MSR_BYTES * most
    )
    return reply.buffer("msrs")[: _MSR_BYTES * reply.reported("msr_count", most)]


def write_msrs(vcpu: Vcpu, data: bytes) -> None:
    """The same (domctl set_vcpu_msrs)."""
    vcpu.domain.change(
        domctl_vcpu.SET_VCPU_MSRS, vcpu=vcpu.index, msr_count=len(data) // _MSR_BYTES, msrs=data
    )
