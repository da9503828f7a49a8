# SPDX-License-Identifier: MIT
"""ACPI tables of a PVH guest (ACPI specification 5.1): how many processors there are, and little else.

A kernel starts the other vcpus that the MADT lists. The FADT declares that the usual hardware of a PC is
absent, and the DSDT describes no devices.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<4sIBB6s8sI4sI")
_OEM, _TABLE, _CREATOR = b"Xen\0\0\0", b"HVM\0\0\0\0\0", b"PYXC"
_RSDP = struct.Struct("<8sB6sBIIQB3x")
_RSDP_1_BYTES = 20
"""The part that the first checksum covers."""
_RSDP_CHECKSUM_AT, _RSDP_EXTENDED_AT = 8, 32
_CHECKSUM_AT = 9

_FADT_BYTES = 268
_FADT_DSDT_AT, _FADT_BOOT_AT, _FADT_FLAGS_AT, _FADT_MINOR_AT, _FADT_X_DSDT_AT = 40, 109, 112, 131, 140
_NO_VGA, _NO_CMOS_CLOCK = 1 << 2, 1 << 5
_WBINVD, _C1, _NO_POWER_BUTTON, _NO_SLEEP_BUTTON, _HARDWARE_REDUCED = 1, 1 << 2, 1 << 4, 1 << 5, 1 << 20
_LOCAL_APIC = 0xFEE00000
_ENABLED = 1
_APIC_IDS_PER_VCPU = 2
"""Xen numbers the local APICs of a guest's vcpus 0, 2, 4 and so on."""


def tables(address: int, vcpus: int) -> bytes:
    """All tables, one after the other, for a base address; the start info points to the first one.

    For 128 vcpus, the most that Xen gives a PVH guest, they need less than a page.
    """
    dsdt = _table(b"DSDT", 2, b"")
    dsdt_at = address + _RSDP.size
    fadt, fadt_at = _fadt(dsdt_at), dsdt_at + len(dsdt)
    madt, madt_at = _madt(vcpus), fadt_at + len(fadt)
    xsdt, xsdt_at = _table(b"XSDT", 1, struct.pack("<QQ", fadt_at, madt_at)), madt_at + len(madt)
    return _rsdp(xsdt_at) + dsdt + fadt + madt + xsdt


def _rsdp(xsdt: int) -> bytes:
    data = bytearray(_RSDP.pack(b"RSD PTR ", 0, _OEM, 2, 0, _RSDP.size, xsdt, 0))
    data[_RSDP_CHECKSUM_AT] = _checksum(data[:_RSDP_1_BYTES])
    data[_RSDP_EXTENDED_AT] = _checksum(data)
    return bytes(data)


def _fadt(dsdt: int) -> bytes:
    body = bytearray(_FADT_BYTES)
    struct.pack_into("<I", body, _FADT_DSDT_AT, dsdt)
    struct.pack_into("<H", body, _FADT_BOOT_AT, _NO_VGA | _NO_CMOS_CLOCK)
    flags = _WBINVD | _C1 | _NO_POWER_BUTTON | _NO_SLEEP_BUTTON | _HARDWARE_REDUCED
    struct.pack_into("<I", body, _FADT_FLAGS_AT, flags)
    body[_FADT_MINOR_AT] = 1
    struct.pack_into("<Q", body, _FADT_X_DSDT_AT, dsdt)
    return _table(b"FACP", 5, bytes(body[_HEADER.size :]))


def _madt(vcpus: int) -> bytes:
    apics = (struct.pack("<BBBBI", 0, 8, vcpu, vcpu * _APIC_IDS_PER_VCPU, _ENABLED) for vcpu in range(vcpus))
    return _table(b"APIC", 3, struct.pack("<II", _LOCAL_APIC, 0) + b"".join(apics))


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    size = _HEADER.size + len(body)
    head = _HEADER.pack(signature, size, revision, 0, _OEM, _TABLE, 0, _CREATOR, 0)
    data = bytearray(head + body)
    data[_CHECKSUM_AT] = _checksum(data)
    return bytes(data)


def _checksum(data: bytes | bytearray) -> int:
    """The byte that makes the sum of all bytes 0."""
    return -sum(data) & 0xFF
