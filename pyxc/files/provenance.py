# SPDX-License-Identifier: MIT
"""The provenance of a file that pyxc wrote, and whether it is unchanged.

It is in two attributes of the file, user.pyxc.origin (JSON) and user.pyxc.digest, or in a second file,
NAME.pyxc.json. Anyone who may write to the file may also write these: they are not a signature, and their
contents are not trusted. A file without them is unknown.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import uuid
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from pyxc.errors import DecodeError
from pyxc.files import xattrs
from pyxc.files.opened import open_checked
from pyxc.files.xattrs import Attributes

ORIGIN, DIGEST = "user.pyxc.origin", "user.pyxc.digest"
SIDECAR = ".pyxc.json"
"""The suffix of the second file's name."""
ORIGIN_MOST_BYTES = 1024

_FORMAT = 1
_SIDECAR_MOST_BYTES = 4096
_PIECE_BYTES = 1 << 20
_LAST_S = 253402300799
_DIGEST = re.compile(r"sha256:([0-9a-f]{64}) ([0-9]{1,19}) (-?[0-9]{1,19})", re.ASCII)
# The fields to omit from an origin that is too long, in this order.
_OPTIONAL = (("dom", "label"), ("xen", "changeset"), ("dom", "name"), ("host",))

R = TypeVar("R", bound=tuple[Any, ...])


class State(Enum):
    """Whether the writer has finished."""

    PARTIAL = "partial"
    COMPLETE = "complete"


class Verdict(Enum):
    """The result of a verification."""

    OK = "ok"
    UNKNOWN = "unknown"
    STALE = "stale"
    INCOMPLETE = "incomplete"
    MISMATCH = "mismatch"


class DomainOrigin(NamedTuple):
    """The domain that a file is about."""

    domid: int
    uuid: str
    name: str | None = None
    label: str | None = None


class XenOrigin(NamedTuple):
    """The hypervisor that a file is from. `domctl` is its interface version."""

    version: str
    changeset: str | None = None
    domctl: int | None = None


class Origin(NamedTuple):
    """The origin of a file. Times are seconds since 1970; `size_bytes` is known when it is complete."""

    kind: str
    state: State
    tool: str
    host: str | None = None
    started_s: int | None = None
    ended_s: int | None = None
    size_bytes: int | None = None
    domain: DomainOrigin | None = None
    xen: XenOrigin | None = None

    def encode(self) -> bytes:
        """Compact JSON of at most 1024 bytes: if it is too long, fields are omitted, names and labels
        first."""
        content = {"v": _FORMAT, **_ORIGIN.encode(self)}
        for *group, key in _OPTIONAL:
            if len(_compact(content)) > ORIGIN_MOST_BYTES:
                (content.get(group[0], {}) if group else content).pop(key, None)
        return _compact(content)

    @classmethod
    def decode(cls, data: bytes) -> Origin:
        """DecodeError for malformed data, or another format."""
        if len(data) > ORIGIN_MOST_BYTES:
            raise DecodeError(f"{len(data)} bytes: expected at most {ORIGIN_MOST_BYTES}")
        return _origin(_parsed(data))


class Digest(NamedTuple):
    """SHA-256 of a file's contents, in hexadecimal, with its size and modification time when it was made."""

    sha256: str
    size_bytes: int
    mtime_ns: int

    def encode(self) -> bytes:
        return f"sha256:{self.sha256} {self.size_bytes} {self.mtime_ns}".encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Digest:
        """DecodeError for malformed data."""
        return cls.of_text(data.decode("ascii", "replace"))

    @classmethod
    def of_text(cls, text: str) -> Digest:
        match = _DIGEST.fullmatch(text)
        if match is None:
            raise DecodeError('expected "sha256:HEX SIZE MTIME_NS"')
        return cls(match[1], int(match[2]), int(match[3]))


class Provenance(NamedTuple):
    """The recorded facts about a file; `source` is "attributes", "sidecar" or None.

    `problems` are sentences about malformed data, which is never in the other fields.
    """

    origin: Origin | None
    digest: Digest | None
    source: str | None
    problems: tuple[str, ...]


class Verification(NamedTuple):
    """The verdict on a file, the reason, and its provenance."""

    path: str
    verdict: Verdict
    reason: str
    provenance: Provenance


def read(path: str | os.PathLike[str]) -> Provenance:
    """The provenance of a file. OSError if it cannot be read."""
    with xattrs.opened(path) as attributes:
        return read_opened(attributes)


def read_opened(attributes: Attributes) -> Provenance:
    """The same for an open file."""
    own = attributes.own()
    decoders: dict[str, Callable[[bytes], Any]] = {ORIGIN: Origin.decode, DIGEST: Digest.decode}
    found = {name: partial(decode, own[name]) for name, decode in decoders.items() if name in own}
    if found:
        return _provenance("attributes", found)
    return _read_sidecar(attributes.path + SIDECAR)


def verify(path: str | os.PathLike[str]) -> Verification:
    """Read a file and compare it with its digest. OSError if it cannot be read.

    STALE: its size or modification time shows that it was changed, replaced or copied after it was written.
    MISMATCH: its contents changed without that. INCOMPLETE: its writer did not finish.
    """
    with xattrs.opened(path) as attributes:
        provenance = read_opened(attributes)
        verdict, reason = _judge(attributes.fd, provenance)
        return Verification(attributes.path, verdict, reason, provenance)


def _judge(fd: int, said: Provenance) -> tuple[Verdict, str]:
    if said.origin is not None and said.origin.state is State.PARTIAL:
        return Verdict.INCOMPLETE, "its writer did not finish"
    if said.digest is None:
        return Verdict.UNKNOWN, said.problems[0] if said.problems else "no digest is recorded"
    status = os.fstat(fd)
    if status.st_size != said.digest.size_bytes:
        return Verdict.STALE, f"it has {status.st_size} bytes, but {said.digest.size_bytes} were written"
    same = sha256(fd) == said.digest.sha256
    if os.fstat(fd).st_mtime_ns == said.digest.mtime_ns:
        return (Verdict.OK, "it is unchanged") if same else (Verdict.MISMATCH, "its contents differ")
    if same:
        return Verdict.STALE, "its modification time has changed, its contents have not"
    return Verdict.STALE, "its modification time and its contents have changed"


def sha256(fd: int) -> str:
    """The SHA-256 of the contents of an open file."""
    import hashlib  # it loads OpenSSL, which is slower than most commands

    digest = hashlib.sha256()
    offset = 0
    while piece := os.pread(fd, _PIECE_BYTES, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()


def sidecar(origin: Origin, digest: Digest) -> bytes:
    """The contents of the second file, for a file system without attributes."""
    content = {"origin": json.loads(origin.encode()), "digest": digest.encode().decode("ascii")}
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def _read_sidecar(path: str) -> Provenance:
    try:
        data = _small_file(path)
    except FileNotFoundError:
        return Provenance(None, None, None, ())
    except OSError as error:
        return Provenance(None, None, None, (f"{path}: {error.strerror}",))
    try:
        content = _object(_parsed(data))
    except DecodeError as error:
        return Provenance(None, None, "sidecar", (f"{path}: {error}",))
    found: dict[str, Callable[[], Any]] = {}
    if "origin" in content:
        found["origin"] = partial(_origin, content["origin"])
    if "digest" in content:
        found["digest"] = partial(Digest.of_text, str(content["digest"]))
    return _provenance("sidecar", found)


def _small_file(path: str) -> bytes:
    """The contents, one byte too long if the file is too long. OSError if it is not a regular file."""

    def check(mode: int) -> None:
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", path)

    fd = open_checked(path, check, flags=os.O_RDONLY | os.O_NOFOLLOW)
    with open(fd, "rb") as file:
        return file.read(_SIDECAR_MOST_BYTES + 1)


def _provenance(source: str, said: Mapping[str, Callable[[], Any]]) -> Provenance:
    """From the decoders of the existing records, by name."""
    problems = []
    decoded: list[Any] = []
    for name, decode in said.items():
        try:
            decoded.append(decode())
        except DecodeError as error:
            problems.append(f"{name} is malformed: {error}")
    origin = next((value for value in decoded if isinstance(value, Origin)), None)
    digest = next((value for value in decoded if isinstance(value, Digest)), None)
    return Provenance(origin, digest, source, tuple(problems))


class _Shape(Generic[R]):
    """The JSON form of a record: its keys in the order of the fields, and the check for each.

    Fields without a default are required.
    """

    def __init__(self, record: Any, **checks: Callable[[Any], Any]) -> None:
        self._record: Callable[..., R] = record
        self._required = len(record._fields) - len(record._field_defaults)
        self._checks = checks

    def encode(self, record: R) -> dict[str, Any]:
        return {key: _plain(value) for key, value in zip(self._checks, record) if value is not None}

    def decode(self, content: Any) -> R:
        found = _object(content)
        values = []
        for index, (key, check) in enumerate(self._checks.items()):
            value = found.get(key)
            if value is None and index < self._required:
                raise DecodeError(f"{key} is missing")
            try:
                values.append(None if value is None else check(value))
            except (TypeError, ValueError) as error:
                raise DecodeError(f"{key}: {error}") from error
        return self._record(*values)


def _text(value: Any) -> str:
    """Printable text: control characters could manipulate a terminal."""
    if not (isinstance(value, str) and value.isprintable()):
        raise ValueError("not printable text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("not a number from 0 to 2^63")
    return value


def _time(value: Any) -> int:
    if _number(value) > _LAST_S:
        raise ValueError("later than the year 9999")
    return int(value)


def _uuid(value: Any) -> str:
    return str(uuid.UUID(_text(value)))


_DOMAIN: _Shape[DomainOrigin] = _Shape(DomainOrigin, id=_number, uuid=_uuid, name=_text, label=_text)
_XEN: _Shape[XenOrigin] = _Shape(XenOrigin, ver=_text, changeset=_text, domctl=_number)
_ORIGIN: _Shape[Origin] = _Shape(
    Origin, kind=_text, state=State, tool=_text, host=_text, t0=_time, t1=_time, bytes=_number,
    dom=_DOMAIN.decode, xen=_XEN.decode,
)  # fmt: skip


def _origin(content: Any) -> Origin:
    version = _object(content).get("v")
    if type(version) is not int or version != _FORMAT:
        raise DecodeError(f"unknown format: expected {_FORMAT}")
    return _ORIGIN.decode(content)


def _plain(value: Any) -> Any:
    """A field in JSON."""
    if isinstance(value, DomainOrigin):
        return _DOMAIN.encode(value)
    if isinstance(value, XenOrigin):
        return _XEN.encode(value)
    if isinstance(value, str):
        return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
    return value.value if isinstance(value, State) else value


def _object(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise DecodeError("not a JSON object")
    return content


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DecodeError("not JSON in UTF-8") from error


def _compact(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
