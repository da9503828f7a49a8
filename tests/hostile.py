# SPDX-License-Identifier: MIT
"""What a guest of a simulated host can do to a program that looks at it: single tricks, and mixtures.

A trick uses the guest's own memory and rights only. Guests have few pages, so that the
cost of reading them shows.
"""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress

from pyxc.abi.arch import x86
from pyxc.abi.console import IN_BYTES, OUT_BYTES
from pyxc.abi.event_channel import Status
from pyxc.errors import StoreError
from pyxc.sim import Hypervisor
from pyxc.sim.model.ports import Port
from pyxc.store import StoreClient

PV, HVM = 3, 2
FOREIGN, IDENTITY, ABSENT = 1 << 63, 1 << 62, 2**64 - 1
_WORDS = 512
_PRESENT = 0x67
_P2M_VADDR = 0xFFFF_C900_0000_0000
_HOLE_PAGES, _NUMBERS_PER_PAGE = 1 << 20, 64
"""What pyxc believes: pfns that a guest may have however small it is, and for each of its pages."""

Trick = Callable[[Hypervisor, random.Random], None]


def most_pfns(host: Hypervisor, domid: int = PV) -> int:
    return _HOLE_PAGES + _NUMBERS_PER_PAGE * host.domains[domid].tot_pages


def publish(host: Hypervisor, domid: int, **fields: int) -> None:
    """Write fields of a PV guest's shared_info.arch."""
    layout = host.layout(x86.SHARED_INFO_STRUCT)
    for name, value in fields.items():
        place, size = layout.offsets[f"arch.{name}"], layout.sizes[f"arch.{name}"]
        host.machine.memory.write(host.domains[domid].shared_info, place, value.to_bytes(size, "little"))


def own_frames(host: Hypervisor, domid: int = PV) -> list[int]:
    """Some machine frames of a PV guest."""
    return [frame for run in host.machine.memory_of(domid).runs[:4] for frame in run[:32]]


def fill(host: Hypervisor, frame: int, words: Iterable[int]) -> None:
    """Write a page of u64."""
    host.machine.write_pages([frame], host.machine.words.pack(array("Q", words)))


def tree(host: Hypervisor, pfns: int, entries: list[int], domid: int = PV) -> None:
    """A p2m in the older form, of any size, in three pages that name each other; `entries` fill its leaf."""
    root, lists, leaf, *_ = own_frames(host, domid)
    fill(host, root, [lists] * _WORDS)
    fill(host, lists, [leaf] * _WORDS)
    fill(host, leaf, (entries * _WORDS)[:_WORDS])
    publish(host, domid, pfn_to_mfn_frame_list_list=root, p2m_vaddr=0, p2m_cr3=0, max_pfn=pfns)


def tables(host: Hypervisor, pfns: int, entries: list[int], domid: int = PV) -> None:
    """The same in page tables, where each entry leads to the same table below."""
    *levels, leaf = own_frames(host, domid)[:5]
    for table, below in zip(levels, [*levels[1:], leaf]):
        fill(host, table, [below << 12 | _PRESENT] * _WORDS)
    fill(host, leaf, (entries * _WORDS)[:_WORDS])
    publish(host, domid, p2m_cr3=levels[0] << 12, p2m_vaddr=_P2M_VADDR, max_pfn=pfns)


def patchwork(host: Hypervisor, pfns: int, domid: int = PV) -> None:
    """A p2m with a hole after each page of entries, so that it must be read page by page."""
    root, lists, leaf, *_ = own_frames(host, domid)
    fill(host, root, [lists] * _WORDS)
    fill(host, lists, [leaf, ABSENT] * (_WORDS // 2))
    fill(host, leaf, [ABSENT, IDENTITY] * (_WORDS // 2))
    publish(host, domid, pfn_to_mfn_frame_list_list=root, p2m_vaddr=0, p2m_cr3=0, max_pfn=pfns)


def shrink(host: Hypervisor, pages: int, domid: int = PV) -> None:
    """The guest gives nearly all of its memory back."""
    host.domains[domid].tot_pages = pages


def high_memory(host: Hypervisor, gfn: int, domid: int = HVM) -> None:
    """An HVM guest moves pages of its own far up, as a balloon driver does: one where it is looked for first,
    one where it is not.
    """
    domain = host.domains[domid]
    for target in (gfn, gfn - (1 << 20)):
        source = next(iter(domain.p2m))
        domain.p2m[target] = domain.p2m.pop(source)
    domain.highest_gfn = max(domain.highest_gfn, gfn)


def suspend(host: Hypervisor, rdx: int, domid: int = PV) -> None:
    """A PV guest suspends itself with an arbitrary value in the register that names its start_info."""
    layout = host.layout(x86.VCPU_GUEST_CONTEXT_STRUCT)
    vcpu = host.domains[domid].live_vcpus[0]
    assert vcpu.context is not None
    vcpu.context = layout.pack({**layout.unpack(vcpu.context), "user_regs.rdx": rdx})
    host.shut_down(host.domains[domid], 2)


def open_ports(host: Hypervisor, domid: int = PV) -> None:
    """All event channels that a guest may have."""
    ports = host.domains[domid].ports
    for number in range(1, ports.highest + 1):
        ports.replace(number, Port(Status.UNBOUND, domid=0))


def guest_store(host: Hypervisor, domid: int) -> StoreClient:
    """xenstore, with the rights of a guest."""
    return StoreClient(lambda: host.store.connect(domid))


def nest(host: Hypervisor, depth: int, domid: int = PV) -> None:
    """Nested nodes, as deep as a path or xenstored allows."""
    with guest_store(host, domid) as store, suppress(StoreError):
        store.write("data/" + "/".join("a" * depth), "x")


def spread(host: Hypervisor, count: int, domid: int = PV) -> None:
    """As many siblings as allowed, with the longest names and with control characters as values."""
    with guest_store(host, domid) as store, suppress(StoreError):
        for number in range(count):
            store.write(f"data/{number:0>200}", b"\x1b]0;owned\x07\n\xff" * 20)


NAMES = (
    b"web\x1b]0;owned\x07\x1b[2J\x1b[1;1H",
    b"x\nDomain-0                                    99  9999     9     r-----      0.0",
    b"caf\xe9", "база".encode(), "\u202e\u2066txt.exe".encode(), "x\u4e2d\U0001f980".encode(),
    b"\x9b31m\x85\xc2\x9b31m", b"", b" ", b"\t\r\x0b", b"\x7f\x08\x08", b"A" * 3000,
    "\u2028\u2029\ufeff".encode(),
)  # fmt: skip


def rename(host: Hypervisor, name: bytes, domid: int = PV) -> None:
    """A name of arbitrary bytes: xenstore accepts everything except NUL."""
    with StoreClient(host.store.connect) as store:
        store.write(f"/local/domain/{domid}/name", name)


def _any_words(host: Hypervisor, chance: random.Random) -> list[int]:
    """Entries of every kind that a p2m or a page table can have."""
    own = own_frames(host)
    kinds: list[Callable[[], int]] = [
        lambda: chance.choice(own), lambda: ABSENT, lambda: 0, lambda: FOREIGN | chance.choice(own),
        lambda: IDENTITY | chance.getrandbits(40), lambda: chance.getrandbits(64),
        lambda: chance.getrandbits(28), lambda: chance.choice(own) << 12 | _PRESENT,
        lambda: FOREIGN | IDENTITY | 5,
    ]  # fmt: skip
    few = chance.sample(kinds, chance.randint(1, 3))
    return [chance.choice(few)() for _ in range(chance.choice((1, 2, 7, 512)))]


def _any_size(host: Hypervisor, chance: random.Random) -> int:
    most = most_pfns(host)
    return chance.choice(
        (1, 511, 513, most, most - 1, most + 1, most // 2, 1 << 32, 2**64 - 1, chance.randint(1, most))
    )


def _any_shared_info(host: Hypervisor, chance: random.Random) -> None:
    fields = ("max_pfn", "pfn_to_mfn_frame_list_list", "p2m_cr3", "p2m_vaddr", "p2m_generation")
    values = (0, 1, 2**64 - 1, 1 << 52, chance.getrandbits(40), chance.choice(own_frames(host)))
    publish(host, PV, **{chance.choice(fields): chance.choice(values) for _ in range(2)})


def _any_pages(host: Hypervisor, chance: random.Random) -> None:
    """Arbitrary words in its tables, and in one of its own pages."""
    own = own_frames(host)
    for _ in range(3):
        fill(host, chance.choice(own), (_any_words(host, chance) * _WORDS)[:_WORDS])
    host.machine.memory.write(chance.choice(own), 0, chance.randbytes(4096))


def _any_hvm_record(host: Hypervisor, chance: random.Random) -> None:
    records = host.domains[HVM].hvm_records
    records[chance.randint(2, 20), chance.choice((0, 1))] = chance.randbytes(chance.choice((0, 8, 1024)))


def _any_grant(host: Hypervisor, chance: random.Random) -> None:
    """The grant table, which the guest writes, with entries of any kind."""
    for frame in host.domains[PV].grant_frames:
        entry = struct.pack("<HHI", chance.getrandbits(3), chance.choice((0, 1, 7)), chance.getrandbits(31))
        host.machine.write_pages([frame], entry * _WORDS)


def _any_console(host: Hypervisor, chance: random.Random) -> None:
    """The rings of consoles, with any indices."""
    for domain in (host.domains[PV], host.domains[HVM]):
        frame = domain.rings.console if domain.domid == PV else domain.p2m[domain.rings.console]
        kinds = (0, 1, 1023, 2048, 2**31, 2**32 - 1, chance.getrandbits(32))
        indices = struct.pack("<4I", *(chance.choice(kinds) for _ in range(4)))
        host.machine.memory.write(frame, IN_BYTES + OUT_BYTES, indices)


TRICKS: dict[str, Trick] = {
    "tree": lambda host, chance: tree(host, _any_size(host, chance), _any_words(host, chance)),
    "tables": lambda host, chance: tables(host, _any_size(host, chance), _any_words(host, chance)),
    "patchwork": lambda host, chance: patchwork(host, _any_size(host, chance)),
    "shrink": lambda host, chance: shrink(host, chance.choice((1, 2, 100, 8192))),
    "shared_info": _any_shared_info,
    "pages": _any_pages,
    "high_memory": lambda host, chance: high_memory(host, 1 << chance.randint(21, 39)),
    "suspend": lambda host, chance: suspend(
        host, chance.choice((*own_frames(host)[:4], chance.getrandbits(64)))
    ),
    "ports": lambda host, chance: open_ports(host, chance.choice((PV, HVM))),
    "grants": _any_grant,
    "hvm_record": _any_hvm_record,
    "console": _any_console,
    "nest": lambda host, chance: nest(host, chance.randint(1, 900)),
    "spread": lambda host, chance: spread(host, chance.randint(1, 300)),
    "rename": lambda host, chance: rename(
        host, chance.choice((*NAMES, chance.randbytes(9).replace(b"\0", b"")))
    ),
}
"""Name to trick."""


def act(host: Hypervisor, seed: int) -> list[str]:
    """Do some tricks, always the same for the same number; return their names."""
    chance = random.Random(seed)
    chosen = chance.sample(list(TRICKS), chance.randint(1, 4))
    for name in chosen:
        TRICKS[name](host, chance)
    return chosen
