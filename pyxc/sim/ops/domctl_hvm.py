# SPDX-License-Identifier: MIT
"""domctl: the state of virtual hardware, kept and loaded as records."""

from __future__ import annotations

from collections.abc import Iterator

from pyxc.abi import domctl_hvm, hvm_save
from pyxc.abi.errno import XenErrno
from pyxc.abi.hvm_save import HVM_FILE_MAGIC, HvmRecordType
from pyxc.abi.layout import Layout
from pyxc.sim.model import context, hvm_loader
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.hvm_loader import LENGTHS, OF_VCPU
from pyxc.sim.ops.call import Call, handles

_BOUND = 7264
"""Bytes that Xen asks for to be sure, for each vcpu."""
_CHANGESET_UNKNOWN = 2**64 - 1
_CPUID = 0x663


def _domain(call: Call) -> Domain:
    call.not_on_self()
    if not call.domain.hvm or call.domain.dying:
        raise Refusal(XenErrno.EINVAL)
    return call.domain


def _saved(domain: Domain) -> Iterator[tuple[HvmRecordType, int]]:
    """What is saved: type and instance. A vcpu that is down has no registers to save."""
    for kind in sorted(LENGTHS):
        if kind not in OF_VCPU:
            yield kind, 0
            continue
        for vcpu in domain.live_vcpus:
            if not (vcpu.down and kind is HvmRecordType.CPU):
                yield kind, vcpu.index


def _data(call: Call, kind: HvmRecordType, instance: int) -> bytes:
    return call.domain.hvm_records.get((kind, instance)) or bytes(hvm_loader.length(call.xen, kind))


@handles(domctl_hvm.GETHVMCONTEXT)
def gethvmcontext(call: Call) -> None:
    domain = _domain(call)
    bound = _BOUND * max(1, len(domain.live_vcpus))
    if not call["buffer"]:
        call.answer(size=bound)
        return
    if call["size"] < bound:
        raise Refusal(XenErrno.ENOSPC)
    descriptor = call.xen.layout(hvm_save.DESCRIPTOR_STRUCT)
    records = _record(descriptor, HvmRecordType.HEADER, 0, _header(call))
    for kind, instance in _saved(domain):
        records += _record(descriptor, kind, instance, _data(call, kind, instance))
    records += _record(descriptor, HvmRecordType.END, 0, b"")
    call.answer(size=len(records))
    call.memory.write(call["buffer"], records)


def _record(descriptor: Layout, kind: HvmRecordType, instance: int, data: bytes) -> bytes:
    return descriptor.pack({"typecode": int(kind), "instance": instance, "length": len(data)}) + data


def _header(call: Call) -> bytes:
    fields = {
        "magic": HVM_FILE_MAGIC,
        "version": hvm_loader.FILE_VERSION,
        "changeset": _CHANGESET_UNKNOWN,
        "cpuid": _CPUID,
    }
    layout = call.xen.layout(hvm_save.HEADER_STRUCT)
    if "gtsc_khz" in layout.index:
        fields["gtsc_khz"] = call.domain.time.tsc_khz or call.xen.cpu_khz
    return layout.pack(fields)


@handles(domctl_hvm.GETHVMCONTEXT_PARTIAL)
def gethvmcontext_partial(call: Call) -> None:
    """Without a buffer only how long it is, where there is a field for that."""
    domain, code, instance = _domain(call), call["type"], call["instance"]
    if code > max(HvmRecordType) or code in (HvmRecordType.END, HvmRecordType.HEADER):
        raise Refusal(XenErrno.EINVAL)
    kind = HvmRecordType(code)
    of_vcpu = kind in OF_VCPU
    if of_vcpu and domain.vcpu(instance) is None:
        raise Refusal(XenErrno.ENOENT)
    if (kind, instance) not in list(_saved(domain)):
        raise Refusal(XenErrno.ENODATA if of_vcpu else XenErrno.ENOENT)
    data = _data(call, kind, instance)
    if call["buffer"]:
        if call.fields.get("bufsz", len(data)) < len(data):
            raise Refusal(XenErrno.ENOBUFS)
        call.memory.write(call["buffer"], data)
    if "bufsz" in call.layout.index:
        call.answer(bufsz=len(data))


@handles(domctl_hvm.SETHVMCONTEXT)
def sethvmcontext(call: Call) -> None:
    """Up to 4.19 what comes before a bad record was loaded, and all vcpus were down."""
    domain = _domain(call)
    data = call.memory.read(call["buffer"], call["size"])
    records = hvm_loader.records(call.xen, domain, data, hvm_loader.after_header(call.xen, data))
    if call.xen.profile.since(4, 20):
        records = iter(list(records))
    for vcpu in domain.live_vcpus:
        vcpu.down = True
    for kind, instance, content in records:
        domain.hvm_records[kind, instance] = content
        if kind is HvmRecordType.CPU:
            context.load_record(call.xen, domain.live_vcpus[instance], content)
    call.xen.schedule()
