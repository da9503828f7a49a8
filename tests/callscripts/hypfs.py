# SPDX-License-Identifier: MIT
"""The hypervisor's file system."""

from __future__ import annotations

from typing import Any

from callscripts import Script, Volatile
from pyxc.abi import hypfs

VOLATILE = Volatile(fields=("path", "data"))
"""Their contents are those of one build; what is the same everywhere is in outcomes of its own."""
ROOM = 1 << 14


def run(script: Script) -> None:
    script.step("success", hypfs.GET_VERSION)
    script.step("success", hypfs.READ, **at("/", ROOM))
    for path in (
        "/nope", "/buildinfo", "/buildinfo/nope", "/buildinfo/version/major", "/buildinfo/version/major/x",
        "/params", "//", "/buildinfo/", "",
    ):  # fmt: skip
        script.step(f"at {path!r}", hypfs.READ, **at(path, ROOM))
    script.step("relative", hypfs.READ, **at("buildinfo", ROOM))
    script.step("no NUL", hypfs.READ, path=b"/params", path_size=7, data=ROOM, data_size=ROOM)
    script.step("two NULs", hypfs.READ, path=b"/\0\0", path_size=3, data=ROOM, data_size=ROOM)
    script.step("oversized path", hypfs.READ, **at("/" + "a" * 1024, ROOM))
    script.step("no room for the entry", hypfs.READ, **at("/", 4))
    script.step("room for the entry alone", hypfs.READ, **at("/", 12))
    numbers(script)
    writes(script)


def at(path: str, room: int) -> dict[str, Any]:
    name = path.encode() + b"\0"
    return {"path": name, "path_size": len(name), "data": room, "data_size": room}


def numbers(script: Script) -> None:
    """Two values that tell of the release, and how the tree begins."""
    if not script.xen.caller.supports(hypfs.READ):
        return
    tree = script.xen.hypfs
    script.outcomes["hypfs_op.read/release"] = {
        name: tree.read(f"/buildinfo/version/{name}") for name in ("major", "minor")
    }
    script.outcomes["hypfs_op.read/root"] = {entry.path: entry.type.name for entry in tree.entries()}
    script.outcomes["hypfs_op.read/switch"] = {"value": tree.read("/params/global-pages")}


def writes(script: Script) -> None:
    write(script, "success", "/params/conswitch", b"a\0")
    write(script, "no NUL", "/params/conswitch", b"a")
    write(script, "oversized", "/params/conswitch", bytes(300))
    write(script, "unknown", "/params/nope", b"x\0")
    write(script, "a number for text", "/params/conswitch", bytes(4))
    write(script, "text for a switch", "/params/global-pages", b"on\0")
    write(script, "read-only", "/buildinfo/version/major", bytes(4))
    write(script, "directory", "/params", b"x")


def write(script: Script, case: str, path: str, data: bytes) -> None:
    name = path.encode() + b"\0"
    fields = {"path": name, "path_size": len(name), "data": data, "data_size": len(data)}
    script.step(case, hypfs.WRITE_CONTENTS, **fields)
