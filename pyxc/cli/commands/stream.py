# SPDX-License-Identifier: MIT
"""`stream inspect` and `stream verify`: examine saved guests without a hypervisor."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pyxc import errors
from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt
from pyxc.cli.status import Status, describe
from pyxc.files.compressed import CompressedFile
from pyxc.guest.stream import DomainKind, Reader
from pyxc.guest.stream.summary import StreamInfo, Summary

_PIECE_BYTES = 1 << 18


class _Found(NamedTuple):
    """What was read of a file; `problem` is why not all of it could be."""

    file: str
    compression: str | None
    size_bytes: int
    info: StreamInfo
    problem: errors.DecodeError | None


def add(program: Program) -> None:
    program.add_group("stream", "inspect and verify saved guests")
    inspect = program.add("stream inspect", inspect_stream, "show the contents of a saved guest")
    inspect.add_argument("file", metavar="FILE", help='a file written by xl save; "-" is standard input')
    verify = program.add("stream verify", verify_streams, "check that saved guests are complete")
    verify.add_argument(
        "files", metavar="FILE", nargs="+", help='files written by xl save; "-" is standard input'
    )


def inspect_stream(args: argparse.Namespace) -> int:
    found = _read(args.file, strict=False)
    if args.json:
        output.report(args.json, **_as_json(found))
    else:
        output.lines(_lines(found))
    if found.problem is None:
        return Status.OK
    output.complain(f"{args.file}: {describe(found.problem)}")
    return Status.FAILED


def verify_streams(args: argparse.Namespace) -> int:
    attempt = Attempt(args.files, _verified)
    if args.json:
        output.report(
            args.json, files=[_as_json(found) for found in attempt.results], failed=attempt.failures
        )
    else:
        output.lines(f"{found.file}: good: {_in_words(found)}" for found in attempt.results)
    return attempt.status


def _verified(path: str) -> _Found:
    found = _read(path, strict=True)
    if found.problem is not None:
        raise found.problem
    return found


def _read(path: str, strict: bool) -> _Found:
    """A stream from its beginning to its end, or to where it is malformed."""
    reader, summary, problem = Reader(strict=strict), Summary(), None
    with CompressedFile(path) as file:
        try:
            while not reader.finished and (data := file.read(_PIECE_BYTES)):
                for event in reader.feed(data):
                    summary.add(reader.place, event)
            reader.close()
            if strict and (reader.unused or file.read(1)):
                raise errors.DecodeError(f"there is more data after the stream's end at byte {reader.offset}")
        except errors.DecodeError as error:
            problem = error
        return _Found(path, file.compression, reader.offset, summary.info(), problem)


def _setting(info: StreamInfo, part: str, name: str) -> str | None:
    """A text of the guest's configuration, if there is one and it has that."""
    section = info.config.get(part) if isinstance(info.config, dict) else None
    value = section.get(name) if isinstance(section, dict) else None
    return value if isinstance(value, str) else None


def _kind(info: StreamInfo) -> str | None:
    if info.kind is DomainKind.HVM:
        return "PVH" if _setting(info, "c_info", "type") == "pvh" else "HVM or PVH"
    return None if info.kind is None else f"{info.bits}-bit PV" if info.bits else "PV"


def _in_words(found: _Found) -> str:
    info = found.info
    return (
        f"{_kind(info)} guest of {_xen(info)}, vcpus {info.vcpus}, "
        f"memory {_or_dash(info.memory_kb)} KiB, {found.size_bytes} bytes"
    )


def _xen(info: StreamInfo) -> str | None:
    if info.xen is None:
        return None
    major, minor = info.xen
    return f"Xen {major}.{minor}" if major else "Xen 4.5 or earlier, converted"


def _or_dash(value: object) -> object:
    return "-" if value is None else value


def _lines(found: _Found) -> Iterator[str]:
    info = found.info
    for key, value in _rows(found):
        yield f"{key:<23}: {_printable(str(_or_dash(value)))}"
    yield ""
    yield f"{'Layer':<6} {'Record':<34} {'Count':>9} {'Bytes':>15}"
    for record in info.records:
        yield f"{record.layer:<6} {record.name:<34} {record.nr_records:>9} {record.size_bytes:>15}"
    if info.types:
        yield ""
        yield f"{'Page type':<41} {'Count':>9}"
        yield from (f"{name:<41} {count:>9}" for name, count in info.types.items())
    if info.times_sent:
        yield ""
        yield f"{'Contents sent':<41} {'Pages':>9}"
        yield from (f"{_times(times):<41} {count:>9}" for times, count in info.times_sent.items())
    if info.config is not None:
        text = info.config if isinstance(info.config, str) else json.dumps(info.config, indent=2)
        yield ""
        yield "Configuration"
        yield from map(_printable, text.splitlines())


def _rows(found: _Found) -> Iterator[tuple[str, object]]:
    info = found.info
    yield "layers", ", ".join(info.layers)
    yield "compression", found.compression
    yield "byteorder", info.byteorder
    yield "version", info.version
    yield "kind", _kind(info)
    yield "saved_on", _xen(info)
    yield "name", _setting(info, "c_info", "name")
    yield "uuid", _setting(info, "c_info", "uuid")
    yield "vcpus", info.vcpus
    yield "memory_kb", info.memory_kb
    yield "tsc_mode", None if info.tsc is None else info.tsc.mode.name.lower()
    yield "tsc_khz", None if info.tsc is None else info.tsc.khz
    yield "checkpoints", info.checkpoints
    yield "size_bytes", found.size_bytes


def _times(times: int) -> str:
    return "once" if times == 1 else f"{times} times"


def _printable(line: str) -> str:
    """What a file says may reach a terminal only without its control characters."""
    return "".join(char if char.isprintable() else "?" for char in line)


def _as_json(found: _Found) -> dict[str, Any]:
    info = found.info
    return {
        "file": found.file,
        "compression": found.compression,
        "layers": list(info.layers),
        "byteorder": info.byteorder,
        "version": info.version,
        "converted": info.converted,
        "kind": info.kind and info.kind.name.lower(),
        "bits": info.bits,
        "xen": info.xen and list(info.xen),
        "vcpus": info.vcpus,
        "memory_kb": info.memory_kb,
        "tsc": info.tsc and {**info.tsc._asdict(), "mode": info.tsc.mode.name.lower()},
        "checkpoints": info.checkpoints,
        "size_bytes": found.size_bytes,
        "records": [record._asdict() for record in info.records],
        "types": info.types,
        "times_sent": None if info.times_sent is None else {str(n): c for n, c in info.times_sent.items()},
        "config": info.config,
        "problem": found.problem and describe(found.problem),
    }
