# SPDX-License-Identifier: MIT
"""What makes a kernel's first memory: pages through which it calls Xen, and page tables that Xen checks."""

from __future__ import annotations

from array import array

from callscripts import Script, Volatile
from pyxc import errors
from pyxc.abi import domctl, mmuext
from pyxc.domain.mapping import Mapping

VOLATILE = Volatile(fields=("ops", "gmfn"))
NO_FRAME = 2**40 - 5
TABLE, WRITABLE, READ_ONLY = 0x67, 0x23, 0x21


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    memory = script.xen.domains[pv].memory
    frames = memory.populate(range(5))
    page_tables(script, pv, memory, frames)
    script.step("of a pvh domain", mmuext.PIN_L4_TABLE, pvh, ops=entry(script, 3, frames[0]), count=1)
    script.step("success", domctl.HYPERCALL_INIT, pv, gmfn=frames[4])
    script.step("a page table", domctl.HYPERCALL_INIT, pv, gmfn=frames[0])
    script.step("no frame", domctl.HYPERCALL_INIT, pv, gmfn=NO_FRAME)
    script.step("no frame of a pvh domain", domctl.HYPERCALL_INIT, pvh, gmfn=5)
    stub = memory.read(frames[4], 32 * 29, 32).rstrip(b"\xcc")
    script.outcomes["domctl.hypercall_init/stub"] = {"bytes": stub.hex()}


def page_tables(script: Script, pv: int, memory: Mapping, frames: array[int]) -> None:
    """Four levels of a table each, that map the top one of them."""
    for table, below in zip(frames, frames[1:4]):
        memory.write(table, (below << 12 | TABLE).to_bytes(8, "little"))

    def pin(case: str, command: int = 3, mfn: int = frames[0], count: int = 1) -> None:
        operation = {2: mmuext.PIN_L3_TABLE, 3: mmuext.PIN_L4_TABLE}[command]
        script.step(case, operation, pv, ops=entry(script, command, mfn), count=count)

    def maps(mfn: int, flags: int) -> None:
        memory.write(frames[3], (mfn << 12 | flags).to_bytes(8, "little"))

    pin("no frame", mfn=NO_FRAME)
    pin("nothing to do", count=0)
    maps(frames[0], WRITABLE)
    pin("writes itself")
    maps(NO_FRAME, READ_ONLY)
    pin("maps no frame")
    maps(frames[0], READ_ONLY)
    with memory.map(frames[0], writable=True):
        pin("mapped writable")
    pin("success")
    pin("again")
    pin("of another level", command=2)
    pin("success", command=2, mfn=frames[1])
    script.outcomes["mmuext_op/entry"] = {"bits": memory.read(frames[3])[0]}
    script.outcomes["mmuext_op/written"] = written(memory, frames[3])
    script.outcomes["mmuext_op/types"] = {"types": types(script, pv, frames)}


def entry(script: Script, command: int, mfn: int) -> bytes:
    return mmuext.MMUEXT_STRUCT.at(script.xen.interface).pack({"cmd": command, "arg1": mfn})


def written(memory: Mapping, mfn: int) -> dict[str, int | None]:
    try:
        memory.write(mfn, b"\0")
    except errors.HypercallError as error:
        return {"errno": error.errno}
    return {}


def types(script: Script, pv: int, frames: array[int]) -> list[int]:
    """What Xen says of each frame."""
    asked = script.xen.words(frames.tobytes()).tobytes()
    reply = script.xen.call(domctl.GETPAGEFRAMEINFO3, pv, num=len(frames), array=asked)
    return script.xen.words(reply.buffer("array")).tolist()
