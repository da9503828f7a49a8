# SPDX-License-Identifier: MIT
"""A scrape of 500 domains of 4 vcpus by `pyxc exporter`: python3 -m bench.scrape.

The hypervisor is simulated, in this process; what it and its xenstored take is measured and left out.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import pyxc
from bench.report import Lines, aligned
from pyxc.link import Link
from pyxc.link.wrapper import LinkWrapper
from pyxc.metrics import Exporter
from pyxc.sim import Hypervisor, named
from pyxc.store.channel import Channel

DOMAINS, VCPUS = 500, 4
ROUNDS = 9
GOAL_MS = 50


class _Aside(LinkWrapper):
    """A link that counts the seconds of cpu time spent behind it."""

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self.seconds = 0.0

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        return int(self.timed(self._inner.hypercall, op, a1, a2, a3, a4, a5))

    def connect_store(self) -> Channel:
        return _Channel(self._inner.connect_store(), self)

    def timed(self, function: Callable[..., Any], *arguments: object) -> Any:
        start = time.thread_time()
        try:
            return function(*arguments)
        finally:
            self.seconds += time.thread_time() - start


class _Channel:
    """A connection to xenstored whose other end is in this process."""

    takes_several = True

    def __init__(self, inner: Channel, aside: _Aside) -> None:
        self.fileno = inner.fileno
        self.close = inner.close
        self._inner = inner
        self._aside = aside

    def send(self, data: bytes) -> int:
        return int(self._aside.timed(self._inner.send, data))

    def receive(self) -> bytes:
        return bytes(self._aside.timed(self._inner.receive))


def measure() -> Lines:
    """Milliseconds of one scrape, which waits for nothing, its lines, and whether the goal is reached."""
    hypervisor = Hypervisor(named("sim:xen-4.17"), with_guests=False)
    with pyxc.connect(hypervisor.connect()) as xen:
        for index in range(DOMAINS):
            translated = bool(index % 2)
            domain = xen.domains.create(max_vcpus=VCPUS, hvm=translated, hap=translated)
            hypervisor.introduce(domain.domid, f"guest{index}")
    gc.collect()
    gc.freeze()  # the exporter's collector has no simulated host to go through
    aside = _Aside(hypervisor.connect())
    with pyxc.connect(aside, readonly=True) as xen:
        exporter = Exporter(xen)
        lines = exporter.render().count("\n")
        milliseconds = statistics.median(_milliseconds(exporter, aside) for _ in range(ROUNDS))
    verdict = "reached" if milliseconds <= GOAL_MS else "missed"
    head = (f"scrape of {DOMAINS} domains", "ms of one core", "lines", f"goal: {GOAL_MS} ms")
    return [head, (f"{VCPUS} vcpus each", f"{milliseconds:.0f}", str(lines), verdict)]


def _milliseconds(exporter: Exporter, aside: _Aside) -> float:
    aside.seconds, start = 0.0, time.thread_time()
    exporter.render()
    return 1000 * (time.thread_time() - start - aside.seconds)


if __name__ == "__main__":
    print(aligned(measure()))
