# SPDX-License-Identifier: MIT
"""What a saved or migrating guest consists of: the headers and records of its stream, as events.

Three layers, each around the next: the file header of xl (`xl save`), libxl's stream (version 2), and
libxc's stream (version 3, or 2 from Xen 4.6 to 4.13). `xl migrate` sends all three, `libxl_domain_suspend()`
the last two, `xc_domain_save()` the last one.

Sources: docs/specs/libxc-migration-stream.pandoc and libxl-migration-stream.pandoc; tools/xl/xl.h for the
file header. In the layouts below, a number in brackets is a size in bytes; "-" is reserved: zero when
written, ignored when read. Integers have the byte order that the layer's header names. All events are
frozen and safe in any thread, but for the arrays and views in them, which belong to whoever has the event.
"""

from __future__ import annotations

import json
from array import array
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from pyxc import errors
from pyxc.abi.flags import Flags
from pyxc.domain.tsc import TscInfo
from pyxc.host.cpu_policy import CpuidLeaf, Msr

ByteOrder = Literal["little", "big"]
Layer = Literal["xl", "libxl", "libxc"]

PAGE_BYTES = 4096
OPTIONAL = 1 << 31
"""In the type of a record: a reader that does not know the type may skip the record."""
NO_DATA = bytes((0xD, 0xE, 0xF))
"""Page types (PageType >> 28) of which no data is sent: BROKEN, XALLOC and XTAB."""


class RecordType(IntEnum):
    """Records of libxc's stream (REC_TYPE_* in xg_sr_stream_format.h)."""

    END = 0x0
    PAGE_DATA = 0x1
    X86_PV_INFO = 0x2
    X86_PV_P2M_FRAMES = 0x3
    X86_PV_VCPU_BASIC = 0x4
    X86_PV_VCPU_EXTENDED = 0x5
    X86_PV_VCPU_XSAVE = 0x6
    SHARED_INFO = 0x7
    X86_TSC_INFO = 0x8
    HVM_CONTEXT = 0x9
    HVM_PARAMS = 0xA
    TOOLSTACK = 0xB
    """Never in a released Xen; refused."""
    X86_PV_VCPU_MSRS = 0xC
    VERIFY = 0xD
    CHECKPOINT = 0xE
    CHECKPOINT_DIRTY_PFN_LIST = 0xF
    """From the secondary of COLO to the primary, never in a saved guest; refused."""
    STATIC_DATA_END = 0x10
    X86_CPUID_POLICY = 0x11
    X86_MSR_POLICY = 0x12


class LibxlRecordType(IntEnum):
    """Records of libxl's stream (REC_TYPE_* in libxl_sr_stream_format.h)."""

    END = 0x0
    LIBXC_CONTEXT = 0x1
    EMULATOR_XENSTORE_DATA = 0x2
    EMULATOR_CONTEXT = 0x3
    CHECKPOINT_END = 0x4
    CHECKPOINT_STATE = 0x5
    """Between the two hosts of COLO; refused."""


class DomainKind(IntEnum):
    """What kind of guest it is (DHDR_TYPE_*); a PVH guest is an HVM guest."""

    PV = 1
    HVM = 2


class Emulator(IntEnum):
    """Whose state a record has (EMULATOR_*)."""

    UNKNOWN = 0
    """In streams converted from those of Xen 4.5 and earlier."""
    QEMU_TRADITIONAL = 1
    """To Xen 4.20."""
    QEMU_UPSTREAM = 2


class XlFlag(Flags):
    """What a reader of xl's file must understand (XL_MANDATORY_FLAG_*)."""

    JSON = 1
    """The configuration is libxl's, in JSON; without it, xl's own text."""
    STREAM_V2 = 2
    """libxl's stream version 2 follows; without it, the stream of Xen 4.5 and earlier, which is refused."""


class XlHeader(NamedTuple):
    """The beginning of a file that `xl save` writes: magic [32], byteorder [4], mandatory_flags [4],
    optional_flags [4], optional_data_len [4], then the optional data: size of the configuration [4], the
    configuration, and what later versions may add.

    `config` is the configuration as it stands in the file, with the NUL at its end; None where there is no
    optional data at all. `rest` is optional data behind it. `byteorder` is that of the numbers in the header.
    """

    byteorder: ByteOrder
    mandatory_flags: XlFlag
    config: bytes | None
    optional_flags: int = 0
    rest: bytes = b""

    def settings(self) -> dict[str, Any] | None:
        """The guest's configuration (libxl_domain_config); None where the file has none, or not as JSON.

        DecodeError when it is not a JSON object.
        """
        if self.config is None or not self.mandatory_flags & XlFlag.JSON:
            return None
        try:
            found = json.loads(self.config.rstrip(b"\0"))
        except (ValueError, RecursionError) as error:
            raise errors.DecodeError(f"the guest's configuration is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise errors.DecodeError(f"the guest's configuration is a {type(found).__name__}, not an object")
        return found


class LibxlHeader(NamedTuple):
    """The beginning of libxl's stream, all big-endian: "LibxlFmt" [8], version 2 [4], options [4] (bit 0: the
    records are big-endian, bit 1: converted from a stream of Xen 4.5 or earlier)."""

    byteorder: ByteOrder
    converted: bool = False


class LibxcContext(NamedTuple):
    """libxl's LIBXC_CONTEXT, empty: libxc's stream follows, up to its END."""


class EmulatorXenstoreData(NamedTuple):
    """What a device model has in xenstore: emulator_id [4], index [4], keys and values, a NUL after each.

    `data` are keys and values as they stand in the record; pairs() takes them apart. Keys are relative to the
    device model's directory of the guest.
    """

    emulator: Emulator
    instance: int
    data: bytes

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """Keys and values, in order."""
        parts = self.data.split(b"\0")[:-1]
        return list(zip(parts[0::2], parts[1::2]))


class EmulatorContext(NamedTuple):
    """The state of a device model: emulator_id [4], index [4], then `size` bytes that only the device model
    understands. They follow as EmulatorData."""

    emulator: Emulator
    instance: int
    size: int


class EmulatorData(NamedTuple):
    """A piece of the state of the EmulatorContext before it."""

    data: memoryview


class CheckpointEnd(NamedTuple):
    """libxl's CHECKPOINT_END, empty: libxc's stream continues."""


class LibxlEnd(NamedTuple):
    """libxl's END, empty: the last record."""


class ImageHeader(NamedTuple):
    """The beginning of libxc's stream, all big-endian: ~0 [8], "XENF" [4], version [4], options [2] (bit 0:
    all that follows is big-endian), - [6]."""

    byteorder: ByteOrder
    version: int = 3


class DomainHeader(NamedTuple):
    """The guest, and the Xen that it was saved on: type [4], page_shift [2] (12), - [2], xen_major [4],
    xen_minor [4]. `xen_major` is 0 in a stream that was converted from one of Xen 4.5 or earlier."""

    kind: DomainKind
    xen_major: int
    xen_minor: int


class CpuidPolicy(NamedTuple):
    """X86_CPUID_POLICY, since Xen 4.14: leaves of six words {leaf, subleaf, a, b, c, d} [24 each] as
    XEN_DOMCTL_get_cpu_policy returns them."""

    leaves: tuple[CpuidLeaf, ...]


class MsrPolicy(NamedTuple):
    """X86_MSR_POLICY, since Xen 4.14: {index [4], - [4], value [8]} as XEN_DOMCTL_get_cpu_policy returns
    them."""

    msrs: tuple[Msr, ...]


class StaticDataEnd(NamedTuple):
    """STATIC_DATA_END, empty, since Xen 4.14: what does not change while the guest runs has been sent."""


class PvInfo(NamedTuple):
    """X86_PV_INFO: guest_width [1] (8, or 4 of a 32-bit guest), pt_levels [1] (4, or 3), - [6]."""

    guest_width: int
    pt_levels: int


class PvP2mFrames(NamedTuple):
    """X86_PV_P2M_FRAMES: p2m_start_pfn [4], p2m_end_pfn [4], then the pfn [8 each] of each page of the
    guest's p2m that has entries of start_pfn to end_pfn, both included. `frames` is an array of u64.

    A page of the p2m has 512 entries, of a 32-bit guest 1024. A later record may extend the range.
    """

    start_pfn: int
    end_pfn: int
    frames: array[int]


class PageData(NamedTuple):
    """PAGE_DATA: count [4], - [4], count words [8 each] of type (bits 63-60) and pfn (bits 51-0), then the
    contents [4096 each] of the pages that have any, in the same order.

    `pfns` is an array of u64; `types` has a byte for each: PageType >> 28, bit 3 for a pinned page table. The
    contents follow as Pages. BROKEN, XALLOC and XTAB have none: see nr_data().
    """

    pfns: array[int]
    types: bytes

    def nr_data(self) -> int:
        """How many of the pages have contents."""
        return len(self.types.translate(None, NO_DATA))

    def __repr__(self) -> str:
        return f"<PageData of {len(self.pfns)} pages, {self.nr_data()} with contents>"


class Pages(NamedTuple):
    """Some whole pages of the PageData before it, in its order, up to 1 MiB.

    `pfns` and `types` as there; `data` is a view of 4096 bytes for each. It lies in what Reader.feed() was
    given: valid as long as that is left alone.
    """

    pfns: array[int]
    types: bytes
    data: memoryview

    def __repr__(self) -> str:
        return f"<Pages {len(self.pfns)} from pfn {self.pfns[0]:#x}>" if self.pfns else "<Pages 0>"


class Verify(NamedTuple):
    """VERIFY, empty: what PAGE_DATA follows is sent once more, to be compared (xl's debugging option)."""


class SharedInfo(NamedTuple):
    """SHARED_INFO of a PV guest: its shared_info page [4096]."""

    data: bytes


class PvVcpu(NamedTuple):
    """X86_PV_VCPU_BASIC, _EXTENDED, _XSAVE and _MSRS: vcpu_id [4], - [4], and what the domctl returns.

    `part` says which: BASIC is getvcpucontext (5168 bytes, 2800 of a 32-bit guest), EXTENDED
    get_ext_vcpucontext (at most 128), XSAVE getvcpuextstate (at least 16), MSRS get_vcpu_msrs (16 for each).
    In BASIC, frame numbers in cr3, cr1, gdt_frames and, of vcpu 0, rdx (start_info) are pfns. Xen 4.6 to 4.8
    may write records without context, which mean nothing.
    """

    part: RecordType
    vcpu: int
    context: bytes


class HvmContextRecord(NamedTuple):
    """HVM_CONTEXT of an HVM or PVH guest: what XEN_DOMCTL_gethvmcontext returns, see pyxc.HvmContext."""

    data: bytes


class HvmParams(NamedTuple):
    """HVM_PARAMS of an HVM or PVH guest: count [4], - [4], then {index [8], value [8]}.

    `params` are pairs of HvmParam index and value. Xen 4.6 to 4.8 may write an empty record.
    """

    params: tuple[tuple[int, int], ...]


class Checkpoint(NamedTuple):
    """CHECKPOINT, empty: the guest is complete up to here (Remus). Inside libxl's stream, records of libxl
    follow up to its CHECKPOINT_END; then the next round begins."""


class LibxcEnd(NamedTuple):
    """libxc's END, empty."""


class Skipped(NamedTuple):
    """An optional record of a type that pyxc does not know; its `length` bytes were not examined."""

    layer: Layer
    type: int
    length: int


Header = XlHeader | LibxlHeader | ImageHeader | DomainHeader
LibxlRecord = LibxcContext | EmulatorXenstoreData | EmulatorContext | CheckpointEnd | LibxlEnd
LibxcRecord = (
    CpuidPolicy | MsrPolicy | StaticDataEnd | PvInfo | PvP2mFrames | PageData | Verify | TscInfo | SharedInfo
    | PvVcpu | HvmContextRecord | HvmParams | Checkpoint | LibxcEnd
)  # fmt: skip
"""X86_TSC_INFO is a pyxc.TscInfo: mode [4], khz [4], nsec [8], incarnation [4], - [4]."""
Event = Header | LibxlRecord | LibxcRecord | Pages | EmulatorData | Skipped
