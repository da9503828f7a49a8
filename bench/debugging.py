# SPDX-License-Identifier: MIT
"""Reads of a simulated guest's memory by address: python3 -m bench.debugging.

By pyxc, by drgn through pyxc, and by C. The hypervisor is in this process: no machine is booted. C is a
loop over memory that is mapped already, as a program on libxenforeignmemory has it.
"""

from __future__ import annotations

import ctypes
import random
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyxc
from bench.report import Lines, aligned
from lab import host, programs
from pyxc.debug import drgn_program

MEMORY = 128 << 20
CHUNK = 1 << 20
READS, ROUNDS = 10_000, 9
GOAL_US = 4.0
"""The goal: microseconds of a scattered read of drgn."""
DIRECT_MAP, P2M_MAP = 0xFFFF_8880_0000_0000, 0xFFFF_C900_0000_1000
P2M_BYTES = 16_384 * 8
VMCOREINFO = (
    b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff81000000\n"
    b"SYMBOL(swapper_pg_dir)=ffffffff8240a000\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n"
    b"KERNELOFFSET=0\n"
)


def measure() -> Lines:
    """A row for each way to read."""
    lines: Lines = [("memory of a guest", "us a scattered read of 8 bytes", "MB/s", f"goal: {GOAL_US:g} us")]
    with pyxc.open("sim:xen-4.17") as xen, tempfile.TemporaryDirectory(prefix="pyxc-bench-") as scratch:
        pvh, pv = xen.domains["db1"], xen.domains["web1"]
        places = _places(MEMORY)
        lines.append(_with_c(_library(Path(scratch)), pvh, places))
        direct = [DIRECT_MAP + place for place in places]
        in_p2m = [P2M_MAP + place for place in _places(P2M_BYTES)]
        with pvh.memory.physical as physical, pvh.memory.virtual() as virtual, pv.memory.virtual() as of_pv:
            lines.append(_row("pyxc, physical", physical.u64, places, _speed(physical, 0)))
            lines.append(_row("pyxc, virtual, PVH", virtual.u64, direct, _speed(virtual, DIRECT_MAP)))
            lines.append(_row("pyxc, virtual, PV", of_pv.u64, in_p2m))
        lines += _with_drgn(pvh, pv, places, direct, in_p2m)
    return lines


def _places(size: int) -> list[int]:
    chosen = random.Random(1)
    return [chosen.randrange(0, size, 8) for _ in range(READS)]


def _row(
    name: str, read: Callable[[int], object], places: list[int], speed: str = "", goal: str = ""
) -> tuple[str, ...]:
    def all_of_them() -> None:
        for place in places:
            read(place)

    return name, f"{_best(all_of_them) / READS * 1e6:.2f}", speed, goal


def _best(function: Callable[[], object]) -> float:
    """The least seconds of some rounds: others are disturbed."""
    return min(_seconds(function) for _ in range(ROUNDS))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _speed(space: Any, start: int) -> str:
    def all_of_it() -> None:
        for place in range(start, start + MEMORY, CHUNK):
            space.read(place, CHUNK)

    return f"{MEMORY / _best(all_of_it) / 1e6:.0f}"


def _library(scratch: Path) -> Any:
    source, built = Path(__file__).with_name("scattered.c"), scratch / "scattered.so"
    host.call(["gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", built, source])
    library = ctypes.CDLL(str(built))
    library.scattered.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    library.scattered.restype = ctypes.c_uint64
    library.copied.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return library


def _with_c(library: Any, domain: pyxc.Domain, places: list[int]) -> tuple[str, ...]:
    wanted = array("Q", places)
    frames = array("Q", range(MEMORY // pyxc.PAGE_SIZE))
    with domain.memory.map(frames, writable=True) as mapped, memoryview(mapped) as view:
        memory = ctypes.addressof(ctypes.c_char.from_buffer(view))
        seconds = _best(lambda: library.scattered(memory, wanted.buffer_info()[0], READS))
        speed = MEMORY / _best(lambda: library.copied(memory, MEMORY)) / 1e6
    return "C, mapped", f"{seconds / READS * 1e6:.3f}", f"{speed:.0f}", ""


def _with_drgn(
    pvh: pyxc.Domain, pv: pyxc.Domain, places: list[int], direct: list[int], in_p2m: list[int]
) -> Iterator[tuple[str, ...]]:
    sys.path.append(str(programs.drgn()))
    of_pvh, of_pv = (drgn_program(domain, vmcoreinfo=VMCOREINFO) for domain in (pvh, pv))
    for name, read, where in (
        ("drgn, physical", lambda place: of_pvh.read_u64(place, True), places),
        ("drgn, virtual, PVH", of_pvh.read_u64, direct),
        ("drgn, virtual, PV", of_pv.read_u64, in_p2m),
    ):
        row = _row(name, read, where)
        yield *row[:3], "reached" if float(row[1]) <= GOAL_US else "missed"


if __name__ == "__main__":
    print(aligned(measure()))
