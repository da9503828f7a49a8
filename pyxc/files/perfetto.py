# SPDX-License-Identifier: MIT
"""A trace as JSON for Perfetto's and Chrome's viewers: the states of each vcpu, and its cpus.

The format is Google's Trace Event Format: domains are processes, vcpus their threads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from pyxc.abi.trace import Runstate
from pyxc.host.trace_records import TraceRecord, lost

KIND = "perfetto"
_BEGINNING = '{"displayTimeUnit":"ns","traceEvents":['
_SHOWN = {Runstate.RUNNING: "running", Runstate.RUNNABLE: "waits for a cpu"}
"""States that are drawn; a vcpu that is blocked or offline has a gap."""
_HYPERVISOR = 0x7FF2
_IDLE = 0x7FF0


def is_drawing(head: bytes) -> bool:
    """Whether a file that begins with these bytes is one of these."""
    return head.startswith(_BEGINNING.encode())


class PerfettoWriter:
    """Writes records in the order of their time; close() ends the file. Threads: one at a time.

    `names` are the names of domains by id; domains without a name are shown by their ids.
    """

    def __init__(self, stream: TextIO, cpu_khz: int, names: Mapping[int, str] | None = None) -> None:
        if cpu_khz <= 0:
            raise ValueError(f"cpu_khz is {cpu_khz}: expected more than 0")
        self._stream = stream
        self._khz = cpu_khz
        self._names = names or {}
        self._first: int | None = None
        self._since: dict[tuple[int, int], tuple[int, Runstate, int]] = {}
        self._known: set[tuple[int, int | None]] = set()
        self._comma = ""
        stream.write(_BEGINNING)

    def add(self, records: Iterable[TraceRecord]) -> None:
        """Add records; changes of runstates and losses are drawn."""
        for record in records:
            tsc = record.tsc or 0
            if self._first is None:
                self._first = tsc
            count = lost(record)
            if count:
                self._write(
                    ph="i", s="g", name=f"{count} records lost", pid=_HYPERVISOR, tid=record.cpu, ts=tsc
                )
            states, who = record.runstates, record.vcpu
            if states and who and who[0] < _IDLE:
                self._end(who, tsc)
                self._since[who] = (tsc, states[1], record.cpu)

    def _end(self, who: tuple[int, int], tsc: int) -> None:
        """Draw the state of a vcpu that ends now."""
        since, state, cpu = self._since.pop(who, (tsc, Runstate.OFFLINE, 0))
        if state in _SHOWN and tsc > since:
            self._name(*who)
            place = {"pid": who[0], "tid": who[1], "ts": since, "dur": tsc - since, "args": {"cpu": cpu}}
            self._write(ph="X", cat="sched", name=_SHOWN[state], **place)

    def _name(self, domid: int, vcpu: int) -> None:
        if (domid, None) not in self._known:
            self._known.add((domid, None))
            name = self._names.get(domid, f"domain {domid}")
            self._write(ph="M", name="process_name", pid=domid, args={"name": name})
        if (domid, vcpu) not in self._known:
            self._known.add((domid, vcpu))
            self._write(ph="M", name="thread_name", pid=domid, tid=vcpu, args={"name": f"vcpu {vcpu}"})

    def _write(self, **event: Any) -> None:
        for key in ("ts", "dur"):
            if key in event:
                event[key] = self._us(event[key] - (self._first or 0 if key == "ts" else 0))
        self._stream.write(self._comma + "\n" + json.dumps(event, separators=(",", ":")))
        self._comma = ","

    def _us(self, cycles: int) -> float:
        return round(cycles * 1000 / self._khz, 3)

    def close(self, last: int | None = None) -> None:
        """Draw the present states, up to `last` cycles if that is known, and end the file."""
        for who, (since, _, _) in sorted(self._since.items()):
            self._end(who, max(since, last or since))
        self._stream.write("\n]}\n")
