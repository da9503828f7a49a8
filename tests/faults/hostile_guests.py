# SPDX-License-Identifier: MIT
"""Guests that do mixtures of tricks, and the cost of everything that dom0 may ask about them.

As a program, `hostile_guests.py DIRECTORY NUMBER...`, it prints as JSON what the guests with these numbers
made dom0 do that it must not do. A process of its own has a heap without earlier contents.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cost
import hostile
from hostile import HVM, PV
from steps import WHOLE

import pyxc
from pyxc import opening, sim
from pyxc.cli import main
from pyxc.debug.guest_memory import DomainMemory
from pyxc.domain.console import Console
from pyxc.store.names import Names

FREE_BYTES, PER_OWNED = 16 << 20, 4
_HANG_S = 120
ALLOWED = (pyxc.Error, OSError, KeyError, ValueError)
"""What may be raised: pyxc's errors, and what is documented for a wrong argument, as a domain that is not
suspended. MemoryError, RecursionError, struct.error and all others are faults."""

Question = Callable[[pyxc.Xen, pyxc.Domain, Path], object]


def _command(*words: str) -> Question:
    def run(xen: pyxc.Xen, domain: pyxc.Domain, directory: Path) -> object:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return main([word.format(domid=domain.domid) for word in words])

    return run


def _dump(xen: pyxc.Xen, domain: pyxc.Domain, directory: Path) -> object:
    core = directory / "core"
    core.unlink(missing_ok=True)
    return domain.dump_core(core, provenance="none")


def _tree(store: pyxc.StoreClient, top: str) -> int:
    """The number of nodes below a node."""
    waiting, found = [top], 0
    while waiting:
        path = waiting.pop()
        found += 1
        waiting += [f"{path}/{name}" for name in store.list(path) or ()]
    return found


def _save(xen: pyxc.Xen, domain: pyxc.Domain, directory: Path) -> object:
    with open(os.devnull, "wb", buffering=0) as file:
        return domain.save(file, suspend="force", resume=True)


def _console(xen: pyxc.Xen, domain: pyxc.Domain, directory: Path) -> object:
    with Console(domain, way="ring") as console:
        found = console.last(), console.read(timeout=0), console.read(timeout=0)
        console.write_some(b"help\n")
        return found


def _virtual(xen: pyxc.Xen, domain: pyxc.Domain, directory: Path) -> object:
    with domain.memory.virtual(domain.vcpu(0)) as space:
        return list(space.search(b"nowhere", limit=1 << 20)), space.read(space.size - (1 << 30), 1 << 16)


def _described(xen: pyxc.Xen, domain: pyxc.Domain, directory: Path) -> object:
    with contextlib.suppress(LookupError), DomainMemory(domain) as memory:
        return memory.vmcoreinfo()
    return None


def _physical(xen: pyxc.Xen, domain: pyxc.Domain, directory: Path) -> object:
    with domain.memory.physical as space:
        return list(space.search(b"nowhere", limit=1 << 20)), space.c_string(0x1000)


QUESTIONS: dict[str, Question] = {
    "info": lambda xen, domain, path: (domain.info(), domain.guest_bits(), domain.name),
    "by name": lambda xen, domain, path: xen.domains[domain.name or "nobody"],
    "p2m": lambda xen, domain, path: domain.memory.p2m(),
    "p2m, older": lambda xen, domain, path: domain.memory.p2m("frame_list_list"),
    "frames": lambda xen, domain, path: domain.memory.frames(),
    "runs": lambda xen, domain, path: list(domain.memory.runs()),
    "frames, types": lambda xen, domain, path: domain.memory.frames(types=True),
    "maximum_gpfn": lambda xen, domain, path: domain.memory.maximum_gpfn(),
    "dump": _dump,
    "log_dirty": lambda xen, domain, path: domain.log_dirty.peek(),
    "channels": lambda xen, domain, path: domain.channels.ports(),
    "grants": lambda xen, domain, path: (domain.grants.info(), bytes(domain.grants.map([1, 2]))),
    "hvm_context": lambda xen, domain, path: list(domain.hvm_context.read()),
    "hvm_params": lambda xen, domain, path: domain.hvm_params.all(),
    "registers": lambda xen, domain, path: [vcpu.context() for vcpu in domain.vcpus],
    "nodes": lambda xen, domain, path: _tree(xen.store, f"/local/domain/{domain.domid}"),
    "leftovers": lambda xen, domain, path: xen.leftovers(),
    "resume": lambda xen, domain, path: domain.resume(fast=False),
    "console": _console,
    "virtual memory": _virtual,
    "physical memory": _physical,
    "asked": lambda xen, domain, path: domain.ask.suspend(timeout=0),
    "sample": lambda xen, domain, path: xen.sample(),
    "pyxc list": _command("list", "-v"),
    "pyxc top": _command("top", "-i", "1", "-d", "0.001"),
    "pyxc store ls": _command("store", "ls", "/local/domain/{domid}"),
    "pyxc frames": _command("frames", "{domid}"),
    "pyxc context": _command("context", "--stack", "{domid}"),
    "pyxc block-list": _command("block-list", "{domid}"),
    "pyxc doctor": _command("doctor"),
}

if WHOLE:
    QUESTIONS |= {"save": _save, "described": _described}  # which take seconds


def wrong(seed: int, directory: Path) -> Iterator[str]:
    """The forbidden effects of one mixture on dom0."""
    host = sim.Hypervisor(sim.named("sim:xen-4.17"))
    opening.open_link = lambda *_: host.connect()  # type: ignore[assignment]  # whatever the command opens
    with pyxc.connect(host.connect()) as xen:
        guests = [xen.domains[PV], xen.domains[HVM]]
        did = hostile.act(host, seed)
        for domain in guests:
            for name, question in QUESTIONS.items():
                most = FREE_BYTES + PER_OWNED * 4096 * _owned(host, domain.domid)
                found = _asked(question, xen, domain, directory)
                if isinstance(found, BaseException):
                    yield f"{seed} {did}, domain {domain.domid}, {name}: {found!r:.200}"
                elif found > most:
                    yield f"{seed} {did}, domain {domain.domid}, {name}: {found >> 20} MiB"
    Names._silent.clear()


def _owned(host: sim.Hypervisor, domid: int) -> int:
    """Its pages: as many as it says, or as can be mapped, which a guest that says less still owns."""
    return max(host.domains[domid].tot_pages, len(host.machine.memory_of(domid)))


def _asked(question: Question, *about: Any) -> int | BaseException:
    """The number of bytes that it took, or a forbidden exception."""
    signal.alarm(_HANG_S)
    try:
        with cost.measured() as taken:
            question(*about)
    except ALLOWED:
        pass
    except Exception as error:
        return error
    finally:
        signal.alarm(0)
    return taken.peak_bytes


def _hang(*_: object) -> None:
    raise AssertionError(f"it continued for {_HANG_S} s")


def run(directory: Path, seeds: list[int]) -> list[str]:
    signal.signal(signal.SIGALRM, _hang)
    warnings.simplefilter("ignore")
    list(wrong(0, directory))  # what is imported and kept when it is first needed
    return [one for seed in seeds for one in wrong(seed, directory)]


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]])))
