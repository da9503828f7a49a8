# SPDX-License-Identifier: MIT
"""The bytes that leave the process: python3 tests/wire.py TARGET prints them for calls of every kind.

Addresses differ between runs, so one that points into a buffer is printed as the buffer's number and an
offset. Everything else must be the same from every Python: `make foreign` compares.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import pyxc
from pyxc import sim
from pyxc.link import Link
from pyxc.link.wrapper import LinkWrapper

CALLS: dict[str, Callable[[pyxc.Xen], object]] = {
    "the list of domains": lambda xen: xen.domains.infos(),
    "one domain": lambda xen: xen.domains[1].info(),
    "registers of a vcpu": lambda xen: xen.domains[1].vcpu(0).context(),
    "registers of a vcpu, written": lambda xen: xen.domains[3].vcpu(0).set_context(
        xen.domains[3].vcpu(0).context()
    ),
    "vcpus of all domains in one batch": lambda xen: xen.vcpus(),
    "affinities of all vcpus": lambda xen: xen.affinities(),
    "an affinity, written": lambda xen: xen.domains[1].vcpu(1).set_affinity(hard={1}),
    "the frames of a domain": lambda xen: xen.domains[1].memory.frames(),
    "memory taken and given": lambda xen: xen.domains[1].memory.decrease(xen.domains[1].memory.increase(2)),
    "a limit": lambda xen: xen.domains[1].set_max_memory(1 << 17),
    "the host": lambda xen: xen.physinfo(),
    "the console": lambda xen: xen.console.read(),
    "a domain made and destroyed": lambda xen: xen.domains.create(
        uuid="11111111-2222-4333-8444-555555555501", max_vcpus=2
    ).destroy(),
}  # fmt: skip


class Buffer(NamedTuple):
    """Memory that a hypervisor can read: its address, and its contents up to the last word that is not 0."""

    address: int
    size: int
    content: bytes


class Sent(NamedTuple):
    """One hypercall as it left."""

    number: int
    arguments: tuple[int, ...]
    buffers: tuple[Buffer, ...]


class WireLink(LinkWrapper):
    """Keeps what is sent through another link."""

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self.sent: list[Sent] = []

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        buffers = tuple(Buffer(*place, _content(*place)) for place in sorted(self.pool.live()))
        self.sent.append(Sent(op, (a1, a2, a3, a4, a5), buffers))
        return super().hypercall(op, a1, a2, a3, a4, a5)


def _content(address: int, size: int) -> bytes:
    used = ctypes.string_at(address, size).rstrip(b"\0")
    return used.ljust(-(-len(used) // 8) * 8, b"\0")


def text(sent: Sent, byteorder: Literal["little", "big"]) -> Iterator[str]:
    """Lines about a hypercall, without addresses; words are in the hypervisor's BYTEORDER."""
    arguments = [_place(sent, argument) or hex(argument) for argument in sent.arguments]
    yield f"hypercall {sent.number} ({', '.join(arguments)})"
    for number, buffer in enumerate(sent.buffers):
        yield f"buffer {number}: {len(buffer.content)} bytes, then zeros"
        for at in range(0, len(buffer.content), 8):
            word = buffer.content[at : at + 8]
            place = _place(sent, int.from_bytes(word, byteorder))
            yield f"  {at:06x}  {place or word.hex(' ')}"


def _place(sent: Sent, word: int) -> str | None:
    """Number and offset of the buffer that WORD points into."""
    for number, buffer in enumerate(sent.buffers):
        if 0 <= word - buffer.address < buffer.size:
            return f"-> buffer {number} + {word - buffer.address:#x}"
    return None


def main(target: str) -> None:
    link = WireLink(sim.connect(target))
    with pyxc.connect(link, names=False) as xen:
        for name, call in CALLS.items():
            link.sent.clear()
            try:
                call(xen)
            except pyxc.Unsupported as error:
                print(f"== {name}: {error}")
                continue
            print(f"== {name}")
            for sent in link.sent:
                print("\n".join(text(sent, link.byteorder)))


if __name__ == "__main__":
    main(sys.argv[1])
