# SPDX-License-Identifier: MIT
"""The stream of a guest that is saved or migrates, as Xen's own tools write and read it.

Reader takes bytes and gives events, Writer takes events and gives bytes; neither does any input or output.

records: what each event is, with its layout. layout, pages: the bytes of headers and records, and of lists of
pages. rules: what may follow what. reader, writer: the two directions. summary: what a stream says of its
guest. container: files, compressed or not.
"""

from __future__ import annotations

from pyxc.guest.stream.reader import Place, Reader
from pyxc.guest.stream.records import (
    Checkpoint,
    CheckpointEnd,
    CpuidPolicy,
    DomainHeader,
    DomainKind,
    Emulator,
    EmulatorContext,
    EmulatorData,
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
    Pages,
    PvInfo,
    PvP2mFrames,
    PvVcpu,
    RecordType,
    SharedInfo,
    Skipped,
    StaticDataEnd,
    Verify,
    XlFlag,
    XlHeader,
)
from pyxc.guest.stream.writer import Writer

__all__ = [
    "Checkpoint",
    "CheckpointEnd",
    "CpuidPolicy",
    "DomainHeader",
    "DomainKind",
    "Emulator",
    "EmulatorContext",
    "EmulatorData",
    "EmulatorXenstoreData",
    "Event",
    "HvmContextRecord",
    "HvmParams",
    "ImageHeader",
    "LibxcContext",
    "LibxcEnd",
    "LibxlEnd",
    "LibxlHeader",
    "LibxlRecordType",
    "MsrPolicy",
    "PageData",
    "Pages",
    "Place",
    "PvInfo",
    "PvP2mFrames",
    "PvVcpu",
    "Reader",
    "RecordType",
    "SharedInfo",
    "Skipped",
    "StaticDataEnd",
    "Verify",
    "Writer",
    "XlFlag",
    "XlHeader",
]
