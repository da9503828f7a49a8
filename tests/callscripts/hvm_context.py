# SPDX-License-Identifier: MIT
"""The state of virtual hardware: all of it, and one record alone."""

from __future__ import annotations

import struct

from callscripts import Script, Volatile
from pyxc.abi import domctl_hvm
from pyxc.abi.hvm_save import HvmRecordType

VOLATILE = Volatile(fields=("buffer", "size", "bufsz"))
DESCRIPTOR = struct.Struct("<HHI")


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    script.step("size", domctl_hvm.GETHVMCONTEXT, pvh)
    script.step("pv", domctl_hvm.GETHVMCONTEXT, pv)
    script.step("short buffer", domctl_hvm.GETHVMCONTEXT, pvh, size=100, buffer=100)
    reply = script.step("success", domctl_hvm.GETHVMCONTEXT, pvh, size=1 << 14, buffer=1 << 14)
    assert reply is not None
    context = reply.buffers["buffer"][: reply.field("size")]
    script.outcomes["domctl.gethvmcontext/records"] = {"records": [list(found) for found in records(context)]}
    partial(script, pv, pvh)
    loading(script, pv, pvh, context)


def records(context: bytes) -> list[tuple[int, int, int]]:
    found, place = [], 0
    while place < len(context):
        found.append(DESCRIPTOR.unpack_from(context, place))
        place += DESCRIPTOR.size + found[-1][2]
    return found


def partial(script: Script, pv: int, pvh: int) -> None:
    def step(case: str, domid: int, kind: int, instance: int = 0, room: int = 4096) -> None:
        size = (
            {"bufsz": room} if script.xen.caller.has_field(domctl_hvm.GETHVMCONTEXT_PARTIAL, "bufsz") else {}
        )
        script.step(
            case, domctl_hvm.GETHVMCONTEXT_PARTIAL, domid, type=kind, instance=instance, buffer=room, **size
        )

    step("success", pvh, HvmRecordType.MTRR)
    step("short buffer", pvh, HvmRecordType.MTRR, room=8)
    step("missing vcpu's", pvh, HvmRecordType.MTRR, instance=5)
    step("pv", pv, HvmRecordType.MTRR)
    for kind in HvmRecordType:
        step(f"{kind.name.lower()} alone", pvh, kind)
    step("unknown", pvh, 99)
    step("second of one", pvh, HvmRecordType.PCI_IRQ, instance=1)
    script.step("size", domctl_hvm.GETHVMCONTEXT_PARTIAL, pvh, type=int(HvmRecordType.MTRR))


def loading(script: Script, pv: int, pvh: int, context: bytes) -> None:
    header = context[: DESCRIPTOR.size + DESCRIPTOR.unpack_from(context)[2]]
    end = DESCRIPTOR.pack(0, 0, 0)

    def load(case: str, data: bytes, domid: int = pvh, size: int | None = None) -> None:
        length = len(data) if size is None else size
        script.step(case, domctl_hvm.SETHVMCONTEXT, domid, size=length, buffer=data or 8)

    load("success", context)
    load("pv", context, pv)
    load("empty", b"")
    load("header alone", header)
    load("header and end", header + end)
    load("without header", context[len(header) :])
    load("cut off", context[:-20])
    load("other magic", b"\0" * 8 + header[8:] + end)
    load("wrong magic", header[:8] + b"\1\2\3\4" + header[12:] + end)
    load("wrong version", header[:12] + b"\7\0\0\0" + header[16:] + end)
    load("unknown record", header + DESCRIPTOR.pack(99, 0, 0) + end)
    load("too long a record", header + DESCRIPTOR.pack(14, 0, 1 << 20) + end)
    load("record of a missing vcpu", header + DESCRIPTOR.pack(14, 9, 240) + bytes(240) + end)
