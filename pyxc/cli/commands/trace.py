# SPDX-License-Identifier: MIT
"""`trace`: what Xen's scheduler does, written down, added up, drawn."""

from __future__ import annotations

import argparse
import io
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import number, seconds
from pyxc.cli.parser import Program
from pyxc.cli.session import name_of, opened, shown
from pyxc.files import perfetto, traces
from pyxc.files.writer import Keep, ProvenanceFile

_SECONDS = 10.0
_ROUND_S = 0.1
_KHZ_MOST = 10**9


def add(program: Program) -> None:
    program.add_group("trace", "record the scheduler; trace -- COMMAND shows hypercalls")
    record = program.add("trace record", write, "write trace records to a file")
    record.add_argument("--seconds", type=seconds, default=_SECONDS, metavar="S", help="10 without")
    record.add_argument("--events", default="sched", metavar="CLASSES", help="sched,hvm,...; all; a mask")
    record.add_argument(
        "--pages", type=number, default=32, help="pages of each cpu's buffer, if it is not allocated yet"
    )
    record.add_argument("file", metavar="FILE")
    report = program.add("trace report", add_up, "add up what is in a trace")
    report.add_argument("--khz", type=_khz, metavar="KHZ", help="of the host's clock, if it was another host")
    report.add_argument("file", metavar="FILE")
    drawing = program.add("trace perfetto", draw, "make JSON for Perfetto of a trace")
    drawing.add_argument("--khz", type=_khz, metavar="KHZ", help="as of report")
    drawing.add_argument("file", metavar="FILE")
    drawing.add_argument("output", metavar="OUTPUT")
    program.add("trace off", turn_off, "end tracing that a killed program left on")


def _khz(text: str) -> int:
    value = number(text)
    if not 0 < value <= _KHZ_MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a frequency in kHz")
    return value


def _events(text: str) -> int:
    """A mask of classes by name, or in numbers. ValueError."""
    if text[:1].isdigit():
        return int(text, 0)
    mask = 0
    for name in text.split(","):
        try:
            mask |= pyxc.TraceClass[name.upper()]
        except KeyError:
            known = ", ".join(str(one.name).lower() for one in pyxc.TraceClass)
            raise ValueError(f"{name!r} is not a class of events: expected some of {known}, all") from None
    return mask


def write(args: argparse.Namespace) -> int:
    events = _events(args.events)
    with (
        opened(args) as xen,
        ProvenanceFile(args.file, traces.KIND, keep=Keep(args.provenance), recognize=traces.is_trace) as file,
    ):
        writer = traces.TraceWriter(file.stream, xen.link.byteorder)
        with xen.trace_buffers.record(events, pages=args.pages) as reader:
            end = time.monotonic() + args.seconds
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, _ROUND_S))
                reader.take(writer.put)
        if args.json:
            output.report(args.json, file=args.file, size_bytes=writer.size_bytes, seconds=args.seconds)
    return 0


def turn_off(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        xen.trace_buffers.off()
        if args.json:
            output.report(args.json, tracing=False)
    return 0


def _host_of(args: argparse.Namespace) -> tuple[int, dict[int, str]]:
    """The clock of the host and the names of its domains; no host is asked when the clock is given."""
    if args.khz:
        return args.khz, {}
    with opened(args) as xen:
        names = {info.domid: shown(name_of(xen, info)) for info in xen.domains.infos()}
        return xen.physinfo().cpu_khz, names


def _ordered(path: str) -> Iterator[list[pyxc.TraceRecord]]:
    """The records of a file, in the order of their time."""
    order = pyxc.OrderedRecords()
    with open(path, "rb") as stream:
        for found in traces.rounds(stream):
            yield order.add(found)
    yield order.rest()


def draw(args: argparse.Namespace) -> int:
    khz, names = _host_of(args)
    with ProvenanceFile(
        args.output, perfetto.KIND, keep=Keep(args.provenance), recognize=perfetto.is_drawing
    ) as file:
        stream = io.TextIOWrapper(file.stream, encoding="ascii", write_through=True)
        writer = perfetto.PerfettoWriter(stream, khz, names)
        last = None
        for records in _ordered(args.file):
            writer.add(records)
            last = records[-1].tsc if records else last
        writer.close(last)
        stream.detach()
    if args.json:
        output.report(args.json, file=args.output)
    return 0


def add_up(args: argparse.Namespace) -> int:
    khz, names = _host_of(args)
    meter, counts = pyxc.RunstateMeter(khz), Counter[str]()
    for records in _ordered(args.file):
        meter.add(records)
        counts.update(record.name for record in records)
    totals = meter.totals()
    if args.json:
        events = dict(counts.most_common())
        vcpus = [_json(who, states, names) for who, states in totals.items()]
        output.report(
            args.json, lost=meter.lost, events=events, buckets_us=list(pyxc.BUCKETS_US), vcpus=vcpus
        )
        return 0
    output.lines([_HEADER])
    output.lines(_row(who, states, names) for who, states in totals.items())
    output.lines([f"{count:>12} {name}" for name, count in counts.most_common()])
    if meter.lost:
        output.complain(f"{meter.lost} records were lost: the times are not exact")
    return 0


_HEADER = "NAME             VCPU   RUN(s) WAIT(s) BLOCK(s)  OFF(s)  WAKES WAIT50(us) WAIT99(us)   MAX(us)"


def _row(who: tuple[int, int], states: pyxc.Runstates, names: dict[int, str]) -> str:
    times = [states.running_ns, states.runnable_ns, states.blocked_ns, states.offline_ns]
    run, wait, block, off = [f"{ns / 1e9:.3f}" for ns in times]
    waits = [_percentile(states.waits, share) for share in (0.5, 0.99)]
    name = names.get(who[0], str(who[0]))[:16]
    return (
        f"{name:<16} {who[1]:>4} {run:>8} {wait:>7} {block:>8} {off:>7} {sum(states.waits):>6}"
        f" {waits[0]:>10} {waits[1]:>10} {states.longest_wait_ns / 1000:>9.1f}"
    )


def _percentile(waits: tuple[int, ...], share: float) -> str:
    """The end of the bucket where that share of the waits has come together; "-" without any."""
    seen, wanted = 0, share * sum(waits)
    for end, count in zip((*pyxc.BUCKETS_US, None), waits):
        seen += count
        if seen and seen >= wanted:
            return f"<={end}" if end else f">{pyxc.BUCKETS_US[-1]}"
    return "-"


def _json(who: tuple[int, int], states: pyxc.Runstates, names: dict[int, str]) -> dict[str, Any]:
    return {"domid": who[0], "name": names.get(who[0]), "vcpu": who[1], **states._asdict()}
