# SPDX-License-Identifier: MIT
"""How the simulated hypervisor reads an HVM context that it is to load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyxc.abi import hvm_save
from pyxc.abi.errno import XenErrno
from pyxc.abi.hvm_save import HVM_FILE_MAGIC, HvmRecordType
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.host import Host

if TYPE_CHECKING:
    from pyxc.sim.model.domain import Domain

FILE_VERSION = 1
LENGTHS = {
    HvmRecordType.CPU: 1032,
    HvmRecordType.LAPIC: 24,
    HvmRecordType.LAPIC_REGS: 1024,
    HvmRecordType.PCI_IRQ: 16,
    HvmRecordType.ISA_IRQ: 8,
    HvmRecordType.PCI_LINK: 8,
    HvmRecordType.MTRR: 240,
    HvmRecordType.VMCE_VCPU: 32,
    HvmRecordType.TSC_ADJUST: 8,
}
"""Of the records that the hardware of a PVH domain has."""
OF_VCPU = frozenset(
    (
        HvmRecordType.CPU, HvmRecordType.LAPIC, HvmRecordType.LAPIC_REGS, HvmRecordType.MTRR,
        HvmRecordType.CPU_XSAVE, HvmRecordType.VIRIDIAN_VCPU, HvmRecordType.VMCE_VCPU,
        HvmRecordType.TSC_ADJUST, HvmRecordType.CPU_MSR,
    )
)  # fmt: skip
"""Records that each vcpu has; the others are of the domain."""


def length(xen: Host, kind: HvmRecordType) -> int:
    """LAPIC grew in 4.20."""
    return LENGTHS[kind] + (8 if kind is HvmRecordType.LAPIC and xen.profile.since(4, 20) else 0)


def records(xen: Host, domain: Domain, data: bytes, place: int) -> Iterator[tuple[HvmRecordType, int, bytes]]:
    """The records from an offset up to END. Refusal (ENODATA, EINVAL) if they are malformed."""
    descriptor = xen.layout(hvm_save.DESCRIPTOR_STRUCT)
    while True:
        if len(data) - place < descriptor.size:
            raise Refusal(XenErrno.ENODATA)
        found = descriptor.unpack(data, place)
        code, instance, start = found["typecode"], found["instance"], place + descriptor.size
        if code == HvmRecordType.END:
            return
        if code not in LENGTHS:
            raise Refusal(XenErrno.EINVAL)
        kind = HvmRecordType(code)
        if found["length"] > len(data) - start:
            raise Refusal(XenErrno.ENODATA if xen.profile.since(4, 20) else XenErrno.EINVAL)
        missing = kind in OF_VCPU and domain.vcpu(instance) is None
        if missing or found["length"] != length(xen, kind):
            raise Refusal(XenErrno.EINVAL)
        place = start + found["length"]
        yield kind, instance, data[start:place]


def after_header(xen: Host, data: bytes) -> int:
    """Where the first record behind the header begins. Refusal (ENODATA, EINVAL) without a good header."""
    descriptor, header = xen.layout(hvm_save.DESCRIPTOR_STRUCT), xen.layout(hvm_save.HEADER_STRUCT)
    stop = descriptor.size + header.size
    if len(data) < stop:
        raise Refusal(XenErrno.ENODATA)
    first = descriptor.unpack(data)
    if first["typecode"] != HvmRecordType.HEADER or first["length"] != header.size:
        raise Refusal(XenErrno.ENODATA)
    fields = header.unpack(data, descriptor.size)
    if (fields["magic"], fields["version"]) != (HVM_FILE_MAGIC, FILE_VERSION):
        raise Refusal(XenErrno.EINVAL)
    return stop
