# SPDX-License-Identifier: MIT
"""Encoding and decoding of each header and record: a pair of functions for each kind.

These functions raise Malformed. They do not check the order of records: rules.py does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

from pyxc.abi.domctl_tsc import TscMode
from pyxc.domain.tsc import TscInfo
from pyxc.guest.stream.pages import Malformed, as_bytes, words
from pyxc.guest.stream.records import (
    PAGE_BYTES,
    ByteOrder,
    Checkpoint,
    CheckpointEnd,
    CpuidPolicy,
    DomainHeader,
    DomainKind,
    Emulator,
    EmulatorContext,
    EmulatorXenstoreData,
    Event,
    HvmContextRecord,
    HvmParams,
    ImageHeader,
    LibxcContext,
    LibxcEnd,
    LibxlEnd,
    LibxlHeader,
    LibxlRecordType,
    MsrPolicy,
    PageData,
    PvInfo,
    PvP2mFrames,
    PvVcpu,
    RecordType,
    SharedInfo,
    StaticDataEnd,
    Verify,
    XlFlag,
    XlHeader,
)
from pyxc.host.cpu_policy import CpuidLeaf, Msr

XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"
LIBXL_MAGIC = b"LibxlFmt"
LIBXC_MAGIC = b"\xff" * 8
XL_HEAD_BYTES = 48
LIBXL_HEADER_BYTES = 16
IMAGE_HEADER_BYTES = 24
DOMAIN_HEADER_BYTES = 16
RECORD_HEAD_BYTES = 8
EMULATOR_HEAD_BYTES = 8
PAGE_DATA_HEAD_BYTES = 8

RECORD_MOST_BYTES = 128 << 20
"""Of a record of libxc's: it reads no longer ones (REC_LENGTH_MAX)."""
PAGES_MOST = 1 << 20
"""Pages in a PAGE_DATA record; Xen sends 1024, and more than 32766 with contents do not fit."""
_OPTIONAL_DATA_MOST_BYTES = 16 << 20
_STORE_DATA_MOST_BYTES = 1 << 20
_VCPU_MOST_BYTES = 1 << 20
_HVM_CONTEXT_MOST_BYTES = 64 << 20
_P2M_FRAMES_MOST = 1 << 23
"""Pages of the p2m of the largest range that the record can name, 2**32 pfns."""
_POLICY_MOST = 1 << 12
_PARAMS_MOST = 256
_INSTANCE_MOST = 255
_XL_BYTEORDER = 0x01020304
_LIBXL_VERSION = 2
_LIBXC_VERSIONS = (2, 3)
_XENF = 0x58454E46
_BIG_ENDIAN, _CONVERTED = 1, 2
_PAGE_SHIFT = 12

_Member = TypeVar("_Member", bound=IntEnum)


def prefix(byteorder: ByteOrder) -> str:
    """A byte order as a prefix of the struct module."""
    return "<" if byteorder == "little" else ">"


def _order(options: int) -> ByteOrder:
    return "big" if options & _BIG_ENDIAN else "little"


def member(kind: type[_Member], what: str, value: int) -> _Member:
    """The enum member of a number."""
    try:
        return kind(value)
    except ValueError:
        raise Malformed(f"{what} is {value}: expected one of {', '.join(f'{k:d}' for k in kind)}") from None


def bounded(what: str, value: int, most: int, least: int = 0) -> int:
    """A number that is checked before memory is allocated for what it counts."""
    if not least <= value <= most:
        raise Malformed(f"{what} is {value}: expected {least} to {most}")
    return value


# Headers.


def xl_size(head: bytes) -> int:
    """The number of bytes of optional data after the head of xl's file."""
    if head[:32] != XL_MAGIC:
        raise Malformed("this is not the header of a file saved by xl")
    size: int = struct.unpack_from(f"{prefix(_xl_byteorder(head))}I", head, 44)[0]
    return bounded("the size of the optional data", size, _OPTIONAL_DATA_MOST_BYTES)


def _xl_byteorder(head: bytes) -> ByteOrder:
    mark = head[32:36]
    if mark == _XL_BYTEORDER.to_bytes(4, "little"):
        return "little"
    if mark == _XL_BYTEORDER.to_bytes(4, "big"):
        return "big"
    raise Malformed(f"the byte order mark is {mark.hex()}: expected 04030201 or 01020304")


def decode_xl(head: bytes, data: bytes) -> XlHeader:
    byteorder = _xl_byteorder(head)
    mandatory, optional = struct.unpack_from(f"{prefix(byteorder)}II", head, 36)
    flags = XlFlag(mandatory & XlFlag(3))
    if mandatory & ~int(flags):
        raise Malformed(f"the mandatory flags are {mandatory:#x}: a newer xl wrote this file")
    if XlFlag.STREAM_V2 not in flags:
        raise Malformed("the file is in the format of Xen 4.5 and earlier, which is not supported")
    if not data:
        return XlHeader(byteorder, flags, None, optional)
    if len(data) < 4:
        raise Malformed(f"the optional data has {len(data)} bytes, too few for its size field")
    (size,) = struct.unpack_from(f"{prefix(byteorder)}I", data)
    bounded("the size of the configuration", size, len(data) - 4)
    return XlHeader(byteorder, flags, data[4 : 4 + size], optional, data[4 + size :])


def encode_xl(header: XlHeader) -> bytes:
    order = prefix(header.byteorder)
    if XlFlag.STREAM_V2 not in header.mandatory_flags:
        raise Malformed("the mandatory flags lack STREAM_V2, but a stream of version 2 follows")
    data = b""
    if header.config is not None:
        data = struct.pack(f"{order}I", len(header.config)) + header.config + header.rest
    elif header.rest:
        raise Malformed("there is optional data, but the configuration is None")
    bounded("the size of the optional data", len(data), _OPTIONAL_DATA_MOST_BYTES)
    fields = (_XL_BYTEORDER, header.mandatory_flags, header.optional_flags, len(data))
    return XL_MAGIC + struct.pack(f"{order}4I", *fields) + data


def decode_libxl(data: bytes) -> LibxlHeader:
    magic, version, options = struct.unpack(">8sII", data)
    if magic != LIBXL_MAGIC:
        raise Malformed(f"it begins with {magic.hex()}, not with LibxlFmt")
    if version != _LIBXL_VERSION:
        raise Malformed(f"its version is {version}: expected {_LIBXL_VERSION}")
    return LibxlHeader(_order(options), bool(options & _CONVERTED))


def encode_libxl(header: LibxlHeader) -> bytes:
    options = _BIG_ENDIAN * (header.byteorder == "big") | _CONVERTED * header.converted
    return struct.pack(">8sII", LIBXL_MAGIC, _LIBXL_VERSION, options)


def decode_image(data: bytes) -> ImageHeader:
    marker, ident, version, options = struct.unpack_from(">8sIIH", data)
    if (marker, ident) != (LIBXC_MAGIC, _XENF):
        raise Malformed("this is not the header of a stream of Xen 4.6 or later")
    return _checked_image(ImageHeader(_order(options), version))


def encode_image(header: ImageHeader) -> bytes:
    _checked_image(header)
    options = _BIG_ENDIAN * (header.byteorder == "big")
    return struct.pack(">8sIIH6x", LIBXC_MAGIC, _XENF, header.version, options)


def _checked_image(header: ImageHeader) -> ImageHeader:
    if header.version not in _LIBXC_VERSIONS:
        raise Malformed(f"its version is {header.version}: expected 2 or 3")
    return header


def decode_domain(data: bytes, order: ByteOrder) -> DomainHeader:
    kind, shift, major, minor = struct.unpack(f"{prefix(order)}IH2xII", data)
    if shift != _PAGE_SHIFT:
        raise Malformed(f"the page shift is {shift}: expected {_PAGE_SHIFT}")
    return DomainHeader(member(DomainKind, "the type of the guest", kind), major, minor)


def encode_domain(header: DomainHeader, order: ByteOrder) -> bytes:
    return struct.pack(f"{prefix(order)}IH2xII", header.kind, _PAGE_SHIFT, header.xen_major, header.xen_minor)


# Records: bodies between `least` and `most` bytes, in whole units behind a head.


class Codec(NamedTuple):
    """How to read and write the body of a record of a type.

    It has `head` bytes, and then 0 or more units of `unit` bytes, up to `most` in total.
    """

    decode: Callable[[bytes, ByteOrder], Event]
    encode: Callable[[Any, ByteOrder], bytes]
    least: int = 0
    most: int = 0
    head: int = 0
    unit: int = 1

    def check(self, length: int) -> None:
        """Malformed for a length that no record of this type has."""
        bounded("its length", length, self.most, self.least)
        if (length - self.head) % self.unit:
            raise Malformed(f"its length is {length}: expected {self.head} and a multiple of {self.unit}")


def _empty(event: Event) -> Codec:
    return Codec(lambda body, order: event, lambda event, order: b"")


def _decode_pv_info(body: bytes, order: ByteOrder) -> PvInfo:
    return PvInfo(*struct.unpack("BB6x", body))


def _encode_pv_info(event: PvInfo, order: ByteOrder) -> bytes:
    return struct.pack("BB6x", *event)


def _decode_p2m_frames(body: bytes, order: ByteOrder) -> PvP2mFrames:
    start, end = struct.unpack_from(f"{prefix(order)}II", body)
    return PvP2mFrames(start, end, words(memoryview(body)[8:], order))


def _encode_p2m_frames(event: PvP2mFrames, order: ByteOrder) -> bytes:
    head = struct.pack(f"{prefix(order)}II", event.start_pfn, event.end_pfn)
    return bytes(head + as_bytes(event.frames, order))


def _decode_cpuid(body: bytes, order: ByteOrder) -> CpuidPolicy:
    return CpuidPolicy(tuple(map(CpuidLeaf._make, struct.iter_unpack(f"{prefix(order)}6I", body))))


def _encode_cpuid(event: CpuidPolicy, order: ByteOrder) -> bytes:
    codec = struct.Struct(f"{prefix(order)}6I")
    return b"".join([codec.pack(*leaf) for leaf in event.leaves])


def _decode_msrs(body: bytes, order: ByteOrder) -> MsrPolicy:
    return MsrPolicy(tuple(map(Msr._make, struct.iter_unpack(f"{prefix(order)}I4xQ", body))))


def _encode_msrs(event: MsrPolicy, order: ByteOrder) -> bytes:
    codec = struct.Struct(f"{prefix(order)}I4xQ")
    return b"".join([codec.pack(*msr) for msr in event.msrs])


def _decode_tsc(body: bytes, order: ByteOrder) -> TscInfo:
    """In a different order than in the domctl."""
    mode, khz, elapsed_ns, incarnation = struct.unpack(f"{prefix(order)}IIQI4x", body)
    return TscInfo(member(TscMode, "the TSC mode", mode), khz, incarnation, elapsed_ns)


def _encode_tsc(event: TscInfo, order: ByteOrder) -> bytes:
    fields = (event.mode, event.khz, event.elapsed_ns, event.incarnation)
    return struct.pack(f"{prefix(order)}IIQI4x", *fields)


def _decode_vcpu(part: RecordType) -> Callable[[bytes, ByteOrder], PvVcpu]:
    def decode(body: bytes, order: ByteOrder) -> PvVcpu:
        (vcpu,) = struct.unpack_from(f"{prefix(order)}I4x", body)
        return PvVcpu(part, vcpu, body[8:])

    return decode


def _encode_vcpu(event: PvVcpu, order: ByteOrder) -> bytes:
    return struct.pack(f"{prefix(order)}I4x", event.vcpu) + event.context


def _decode_params(body: bytes, order: ByteOrder) -> HvmParams:
    (count,) = struct.unpack_from(f"{prefix(order)}I4x", body)
    if len(body) != 8 + 16 * count:
        raise Malformed(f"it has {len(body)} bytes and claims {count} parameters")
    return HvmParams(tuple(struct.iter_unpack(f"{prefix(order)}QQ", body[8:])))


def _encode_params(event: HvmParams, order: ByteOrder) -> bytes:
    head = struct.pack(f"{prefix(order)}I4x", len(event.params))
    return head + b"".join([struct.pack(f"{prefix(order)}QQ", *pair) for pair in event.params])


def _decode_store_data(body: bytes, order: ByteOrder) -> EmulatorXenstoreData:
    emulator, instance = decode_emulator(body, order)
    data = body[EMULATOR_HEAD_BYTES:]
    if data and (not data.endswith(b"\0") or data.count(b"\0") % 2):
        raise Malformed("its keys and values are not pairs of NUL-terminated strings")
    return EmulatorXenstoreData(emulator, instance, data)


def decode_emulator(body: bytes, order: ByteOrder) -> tuple[Emulator, int]:
    """The head of records about a device model."""
    emulator, instance = struct.unpack_from(f"{prefix(order)}II", body)
    bounded("the instance of the device model", instance, _INSTANCE_MOST)
    return member(Emulator, "the device model", emulator), instance


def encode_emulator(event: EmulatorXenstoreData | EmulatorContext, order: ByteOrder) -> bytes:
    return struct.pack(f"{prefix(order)}II", event.emulator, event.instance)


def _encode_store_data(event: EmulatorXenstoreData, order: ByteOrder) -> bytes:
    return encode_emulator(event, order) + event.data


def _vcpu(part: RecordType, unit: int = 1) -> Codec:
    return Codec(_decode_vcpu(part), _encode_vcpu, 8, 8 + _VCPU_MOST_BYTES, 8, unit)


LIBXC: dict[RecordType, Codec] = {
    RecordType.END: _empty(LibxcEnd()),
    RecordType.X86_PV_INFO: Codec(_decode_pv_info, _encode_pv_info, 8, 8),
    RecordType.X86_PV_P2M_FRAMES: Codec(
        _decode_p2m_frames, _encode_p2m_frames, 16, 8 + 8 * _P2M_FRAMES_MOST, 8, 8
    ),
    RecordType.X86_PV_VCPU_BASIC: _vcpu(RecordType.X86_PV_VCPU_BASIC),
    RecordType.X86_PV_VCPU_EXTENDED: _vcpu(RecordType.X86_PV_VCPU_EXTENDED),
    RecordType.X86_PV_VCPU_XSAVE: _vcpu(RecordType.X86_PV_VCPU_XSAVE),
    RecordType.X86_PV_VCPU_MSRS: _vcpu(RecordType.X86_PV_VCPU_MSRS, 16),
    RecordType.SHARED_INFO: Codec(
        lambda body, order: SharedInfo(body), lambda event, order: bytes(event.data), PAGE_BYTES, PAGE_BYTES
    ),
    RecordType.X86_TSC_INFO: Codec(_decode_tsc, _encode_tsc, 24, 24),
    RecordType.HVM_CONTEXT: Codec(
        lambda body, order: HvmContextRecord(body), lambda event, order: bytes(event.data),
        1, _HVM_CONTEXT_MOST_BYTES,
    ),
    RecordType.HVM_PARAMS: Codec(_decode_params, _encode_params, 8, 8 + 16 * _PARAMS_MOST, 8, 16),
    RecordType.VERIFY: _empty(Verify()),
    RecordType.CHECKPOINT: _empty(Checkpoint()),
    RecordType.STATIC_DATA_END: _empty(StaticDataEnd()),
    RecordType.X86_CPUID_POLICY: Codec(_decode_cpuid, _encode_cpuid, 24, 24 * _POLICY_MOST, 0, 24),
    RecordType.X86_MSR_POLICY: Codec(_decode_msrs, _encode_msrs, 16, 16 * _POLICY_MOST, 0, 16),
}  # fmt: skip
"""All but PAGE_DATA, which is never read as a whole."""

LIBXL: dict[LibxlRecordType, Codec] = {
    LibxlRecordType.END: _empty(LibxlEnd()),
    LibxlRecordType.LIBXC_CONTEXT: _empty(LibxcContext()),
    LibxlRecordType.EMULATOR_XENSTORE_DATA: Codec(
        _decode_store_data, _encode_store_data, EMULATOR_HEAD_BYTES, _STORE_DATA_MOST_BYTES
    ),
    LibxlRecordType.CHECKPOINT_END: _empty(CheckpointEnd()),
}
"""All but EMULATOR_CONTEXT, which is never read as a whole."""

TYPES: dict[type, RecordType | LibxlRecordType] = {
    LibxcEnd: RecordType.END,
    PageData: RecordType.PAGE_DATA,
    PvInfo: RecordType.X86_PV_INFO,
    PvP2mFrames: RecordType.X86_PV_P2M_FRAMES,
    PvVcpu: RecordType.X86_PV_VCPU_BASIC,
    SharedInfo: RecordType.SHARED_INFO,
    TscInfo: RecordType.X86_TSC_INFO,
    HvmContextRecord: RecordType.HVM_CONTEXT,
    HvmParams: RecordType.HVM_PARAMS,
    Verify: RecordType.VERIFY,
    Checkpoint: RecordType.CHECKPOINT,
    StaticDataEnd: RecordType.STATIC_DATA_END,
    CpuidPolicy: RecordType.X86_CPUID_POLICY,
    MsrPolicy: RecordType.X86_MSR_POLICY,
    LibxlEnd: LibxlRecordType.END,
    LibxcContext: LibxlRecordType.LIBXC_CONTEXT,
    EmulatorXenstoreData: LibxlRecordType.EMULATOR_XENSTORE_DATA,
    EmulatorContext: LibxlRecordType.EMULATOR_CONTEXT,
    CheckpointEnd: LibxlRecordType.CHECKPOINT_END,
}
"""The record type of an event; for PvVcpu, which has several, the first."""


def codec_of(event: Event) -> tuple[RecordType | LibxlRecordType, Codec]:
    """The record type of an event, and its codec. Malformed if it is not a record."""
    kind = event.part if isinstance(event, PvVcpu) else TYPES.get(type(event))
    if isinstance(kind, LibxlRecordType):
        return kind, LIBXL[kind]
    if kind not in LIBXC:
        raise Malformed(f"{event!r} is not a record")
    return kind, LIBXC[kind]
