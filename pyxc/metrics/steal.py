# SPDX-License-Identifier: MIT
"""Runstates of all vcpus from Xen's trace buffers, measured while the exporter runs."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from pyxc import errors
from pyxc.abi.trace import TraceClass
from pyxc.host.runstates import RunstateMeter, Runstates
from pyxc.host.trace_buffers import TraceReader
from pyxc.host.trace_records import Ordered, TraceRecord, decoded
from pyxc.xen import Xen

_ROUND_S = 0.1


class StealMeter:
    """Reads the trace buffers in a separate thread; use it in a `with` statement.

    It needs a handle that is not read-only, because it enables and disables tracing; in between it makes no
    hypercall. Xen's buffers have one reader: xentrace and `pyxc trace` take records away from it. Threads:
    safe to share.
    """

    def __init__(self, xen: Xen) -> None:
        self._xen = xen
        self._lock = threading.Lock()
        self._order = Ordered()
        self._meter = RunstateMeter(xen.physinfo().cpu_khz)
        self._stop = threading.Event()
        self._ends = ExitStack()
        self.failed = False
        """Whether malformed records ended it."""

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            reader = undo.enter_context(self._xen.trace_buffers.record(TraceClass.SCHED_MIN))
            thread = threading.Thread(target=self._run, args=(reader,), name="pyxc-steal", daemon=True)
            thread.start()
            undo.callback(thread.join)
            undo.callback(self._stop.set)
            self._ends = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def _run(self, reader: TraceReader) -> None:
        while not self._stop.wait(_ROUND_S):
            try:
                self.read(reader)
            except errors.DecodeError:
                self.failed = True
                return

    def read(self, reader: TraceReader) -> None:
        """One round through all buffers."""
        found: list[TraceRecord] = []
        reader.take(lambda cpu, data: found.extend(decoded(self._xen.words32(bytes(data)), cpu)))
        with self._lock:
            self._meter.add(self._order.add(found))

    def totals(self, living: set[int]) -> tuple[dict[tuple[int, int], Runstates], int]:
        """Runstates by domain and vcpu since the start, and the number of lost records.

        Domains that are not in `living` are forgotten, because Xen reuses their ids.
        """
        with self._lock:
            found = self._meter.totals()
            for domid in {domid for domid, _ in found} - living:
                self._meter.forget(domid)
            lost = self._meter.lost
        return {who: states for who, states in found.items() if who[0] in living}, lost
