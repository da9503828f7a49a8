# SPDX-License-Identifier: MIT
"""The file system of a simulated hypervisor: a small tree with every type of entry."""

from __future__ import annotations

import zlib

from pyxc.abi.hypfs import Encoding, Type
from pyxc.sim.profiles import Profile

_GZIP = zlib.MAX_WBITS | 16


class Leaf:
    """A value; `room` is the most bytes that may be written to it."""

    def __init__(self, type: Type, data: bytes, room: int = 0, encoding: Encoding = Encoding.PLAIN) -> None:
        self.type = type
        self.data = data
        self.room = room
        self.encoding = encoding


Directory = dict[str, "Leaf | Directory"]


def _text(text: str, room: int = 0) -> Leaf:
    return Leaf(Type.STRING, text.encode() + b"\0", room)


def _number(value: int) -> Leaf:
    return Leaf(Type.UINT, value.to_bytes(4, "little"))


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=_GZIP)
    return packer.compress(data) + packer.flush()


def tree(profile: Profile) -> Directory:
    """A part of what a release shows."""
    pools: Directory = {"cpupool": {"0": {"sched-gran": _text("cpu")}}} if profile.since(4, 15) else {}
    return pools | {
        "buildinfo": {
            "changeset": _text(""),
            "compileinfo": {
                "compile_by": _text("pyxc"),
                "compile_date": _text(profile.built),
                "compile_domain": _text("sim.invalid"),
                "compiler": _text("x86_64-linux-gnu-gcc (simulated)"),
            },
            "config": Leaf(Type.STRING, _gzip(b"CONFIG_X86_64=y\n"), encoding=Encoding.GZIP),
            "version": {
                "extra": _text(profile.extraversion),
                "major": _number(profile.xen[0]),
                "minor": _number(profile.xen[1]),
            },
        },
        "params": {
            "conswitch": _text("a", room=3),
            "global-pages": Leaf(Type.BOOL, b"\0", room=1),
            "gnttab_max_frames": _text("64", room=12),
            "loglvl": _text("warning/warning", room=16),
        },
    }
