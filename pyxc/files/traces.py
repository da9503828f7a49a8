# SPDX-License-Identifier: MIT
"""Traces as files, in the format of xentrace: xenalyze can read pyxc's files, and pyxc xentrace's.

A file has the records from Xen's buffers, those of each cpu after a record with its number and their size in
bytes.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from pyxc import errors
from pyxc.abi import trace
from pyxc.host.trace_records import TraceRecord, decoded

KIND = "trace"
_CHANGE = trace.TRC_TRACE_CPU_CHANGE | 2 << trace.TRACE_EXTRA_SHIFT
_HEAD = {order: struct.Struct(f"{order}III") for order in "<>"}
_PIECE_MOST = 2**28
"""The most bytes of one cpu in one round: more than its buffer can have."""
_CPU_MOST = 2**16
_RECORDS_MOST = 2**21
"""The most records of all cpus in one round: as many as 128 cpus have in buffers of 256 KiB."""


def is_trace(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a trace."""
    return head[:4] in [struct.pack(f"{order}I", _CHANGE) for order in "<>"]


class TraceWriter:
    """Writes the records of TraceReader.take(). `byteorder` is the hypervisor's. Threads: one at a time."""

    def __init__(self, stream: BinaryIO, byteorder: str) -> None:
        self._stream = stream
        self._head = _HEAD["<" if byteorder == "little" else ">"]
        self.size_bytes = 0
        """The number of bytes written."""

    def put(self, cpu: int, data: memoryview) -> None:
        """Write records of a cpu."""
        self._stream.write(self._head.pack(_CHANGE, cpu, len(data)))
        self._stream.write(data)
        self.size_bytes += self._head.size + len(data)


def rounds(stream: BinaryIO) -> Iterator[list[TraceRecord]]:
    """The records of a trace, as they were recorded: one round of all cpus at a time, each cpu's in order.

    DecodeError if it is not a trace, or has more than 2 million records in one round; after all complete
    records, if it is truncated.
    """
    order = _order(stream.read(4))
    found: list[TraceRecord] = []
    cpus: set[int] = set()
    for cpu, data in _pieces(stream, order):
        if cpu in cpus:
            yield found
            found, cpus = [], set()
        words = array("I", data)
        if (order == "<") != (sys.byteorder == "little"):
            words.byteswap()
        found.extend(islice(decoded(words, cpu), _RECORDS_MOST + 1 - len(found)))
        if len(found) > _RECORDS_MOST:
            raise errors.DecodeError(f"the trace has more than {_RECORDS_MOST} records in one round")
        cpus.add(cpu)
    yield found


def _order(head: bytes) -> str:
    for order in "<>":
        if head == struct.pack(f"{order}I", _CHANGE):
            return order
    raise errors.DecodeError("this is not a trace: it does not begin with the number of a cpu")


def _pieces(stream: BinaryIO, order: str) -> Iterator[tuple[int, bytes]]:
    """Each cpu and its bytes; the first word is already read."""
    head = _HEAD[order]
    start = struct.pack(f"{order}I", _CHANGE)
    while start:
        start += stream.read(head.size - len(start))
        event, cpu, size = head.unpack(start.ljust(head.size, b"\0"))
        if len(start) < head.size or event != _CHANGE or cpu > _CPU_MOST or size > _PIECE_MOST or size % 4:
            raise errors.DecodeError("the trace is truncated or damaged: expected the number of a cpu")
        data = stream.read(size)
        if len(data) != size:
            raise errors.DecodeError(
                f"the trace is truncated: it has {len(data)} of {size} bytes of cpu {cpu}"
            )
        yield cpu, data
        start = stream.read(4)
