# SPDX-License-Identifier: MIT
"""Mixed operations in great number, of threads that share a handle and of children: endurance.py OPERATIONS.

Works on the hypervisor that PYXC_TARGET names. Each operation looks whether its answer is right. Prints a
line of JSON after each round: the operations until then, seconds, resident memory in KiB, open descriptors.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyxc
from pyxc._core import PAGE_SIZE

THREADS = 4
ROUNDS = 5
LIMIT_KB = 4096
ABSENT_DOMID, ABSENT_VCPU, ABSENT_FRAME = 0x7000, 77, 0xFFFFFFFF


class Worker:
    """Does what comes up, to one domain of its own, and knows what that must be like."""

    def __init__(self, xen: pyxc.Xen, seed: int) -> None:
        self.xen = xen
        self.random = random.Random(seed)
        self.domain = xen.domains.create(max_vcpus=2)
        self.domain.set_max_memory(LIMIT_KB)
        self.frames = list(self.domain.memory.populate(range(8)))
        self.text = bytes(16)
        self.domain.memory.write(self.frames[0], self.text)
        self.ports = 0
        self.fresh: pyxc.Domain | None = None
        self.usual = (
            self.host, self.look, self.list, self.count_vcpus, self.move, self.write, self.read, self.give,
            self.take, self.pause, self.fail, self.connect, self.table,
        )  # fmt: skip

    def run(self, operations: int) -> None:
        for number in range(operations):
            if number % 500 == 499:
                self.replace()
            else:
                self.random.choice(self.usual)()

    def close(self) -> None:
        self.look()
        self.read()
        self.domain.destroy(timeout=30)
        if self.fresh is not None:
            self.fresh.destroy(timeout=30)

    def host(self) -> None:
        assert self.xen.physinfo().nr_cpus == self.xen.nr_cpus

    def look(self) -> None:
        info = self.domain.info()
        assert (info.uuid, info.paused, info.dying) == (self.domain.uuid, True, False)
        assert (info.tot_pages, info.max_memory_kb) == (len(self.frames), LIMIT_KB)

    def list(self) -> None:
        assert self.domain.uuid in {info.uuid for info in self.xen.domains.infos()}

    def count_vcpus(self) -> None:
        assert [info.online for info in self.domain.vcpus.infos()] == [False, False]

    def move(self) -> None:
        cpus = {self.random.randrange(self.xen.nr_cpus)}
        self.domain.vcpu(1).set_affinity(hard=cpus)
        assert self.domain.vcpu(1).affinity().hard == cpus

    def write(self) -> None:
        self.text = self.random.randbytes(16)
        self.domain.memory.write(self.frames[0], self.text)

    def read(self) -> None:
        assert self.domain.memory.read(self.frames[0], size=16) == self.text

    def give(self) -> None:
        if len(self.frames) < LIMIT_KB * 1024 // PAGE_SIZE:
            self.frames += self.domain.memory.increase(1)

    def take(self) -> None:
        if len(self.frames) > 1:
            self.domain.memory.decrease([self.frames.pop()])

    def pause(self) -> None:
        self.domain.pause()
        self.domain.unpause()

    def fail(self) -> None:
        for wrong in (
            lambda: self.xen.domains[ABSENT_DOMID],
            lambda: self.domain.vcpu(ABSENT_VCPU).affinity(),
            lambda: self.domain.memory.read(ABSENT_FRAME),
        ):
            try:
                wrong()
            except pyxc.HypercallError:
                continue
            raise AssertionError("what is absent was found")

    def connect(self) -> None:
        self.domain.channels.open()
        self.ports += 1
        if self.ports == 16:
            assert len(self.domain.channels.ports()) == self.ports
            self.domain.channels.reset()
            self.ports = 0

    def table(self) -> None:
        assert self.domain.grants.info().version == 1

    def replace(self) -> None:
        """Another domain of this one's, in place of the one before."""
        if self.fresh is not None:
            self.fresh.destroy(timeout=30)
        self.fresh = self.xen.domains.create(hvm=True, hap=True)


def main(operations: int) -> None:
    of_a_thread = operations // THREADS // ROUNDS
    start = time.monotonic()
    with pyxc.open(names=False) as xen:
        workers = [Worker(xen, seed) for seed in range(THREADS)]
        for number in range(1, ROUNDS + 1):
            jobs = [partial(worker.run, of_a_thread) for worker in workers]
            in_threads([*jobs, partial(in_a_child, THREADS + number, of_a_thread // 10)])
            gc.collect()
            report = {
                "operations": number * of_a_thread * THREADS,
                "seconds": round(time.monotonic() - start),
                "resident_kb": resident_kb(),
                "descriptors": len(os.listdir("/proc/self/fd")),
            }
            print(json.dumps(report), flush=True)
        for worker in workers:
            worker.close()
        assert (xen.link.maps, xen.link.pool.outstanding) == ([], 0)


def in_threads(jobs: list[Callable[[], None]]) -> None:
    """Do all at once; raise what the first that failed has raised."""
    failed: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # whatever it is, the thread that waits has to know
            failed.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def in_a_child(seed: int, operations: int) -> None:
    """The same in a process that is forked while all threads are at it, with a handle of its own."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with pyxc.open(names=False) as own:
                worker = Worker(own, seed)
                worker.run(operations)
                worker.close()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE_SIZE // 1024


if __name__ == "__main__":
    main(int(sys.argv[1]))
