# SPDX-License-Identifier: MIT
"""The virtual hardware of an HVM or PVH domain, as Xen saves and loads it: a stream of records."""

from __future__ import annotations

import errno
import operator
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, SupportsIndex

from pyxc import arguments, errors
from pyxc.abi import domctl_hvm, hvm_save
from pyxc.abi.hvm_save import HVM_FILE_MAGIC, HvmRecordType
from pyxc.abi.layout import Interface
from pyxc.domain.identity import Identity

_U16_MAX = 2**16 - 1
_TRIES = 3
_SIZE_MOST = 1 << 26
"""The largest context in bytes; that of 8192 vcpus has a quarter of it."""


class HvmRecord(NamedTuple):
    """One record of an HVM context: the part of the hardware, its vcpu or device, and its bytes.

    `type` is a plain int if pyxc has no name for it. `data` is a view into the context.

    Example:

    >>> list(db1.hvm_context.read())[1]
    <HvmRecord CPU 0, 1032 bytes>
    """

    type: HvmRecordType | int
    instance: int
    data: memoryview

    def __repr__(self) -> str:
        name = self.type.name if isinstance(self.type, HvmRecordType) else str(self.type)
        return f"<HvmRecord {name} {self.instance}, {len(self.data)} bytes>"


class HvmContext:
    """A whole HVM context (public/hvm/save.h): a sequence of its records, from HEADER to END.

    `bytes(context)` is the original stream. DecodeError for malformed bytes: the first record must be Xen's
    HEADER, the last one END, and no record may reach beyond the end. Threads: safe to share.

    Example:

    >>> context = db1.hvm_context.read()
    >>> list(context)[:2]
    [<HvmRecord HEADER 0, 24 bytes>, <HvmRecord CPU 0, 1032 bytes>]
    >>> context[-1]
    <HvmRecord END 0, 0 bytes>
    """

    def __init__(self, data: bytes, interface: Interface) -> None:
        self._data = bytes(data)
        self._interface = interface
        first = last = None
        self._count = 0
        for record in self:
            first, last = first or record, record
            self._count += 1
        if first is None or first.type is not HvmRecordType.HEADER or not _is_header(first.data, interface):
            raise errors.DecodeError("the HVM context does not begin with Xen's HEADER record")
        if last is None or last.type is not HvmRecordType.END:
            raise errors.DecodeError("the HVM context does not end with an END record")

    def __iter__(self) -> Iterator[HvmRecord]:
        """Lazily: a malicious context may consist of empty records only."""
        return iter_records(memoryview(self._data), self._interface)

    def __len__(self) -> int:
        """How many records it has."""
        return self._count

    def __getitem__(self, index: SupportsIndex) -> HvmRecord:
        """A record by its place, from the end if that is negative; IndexError if there is none."""
        place = operator.index(index)
        place += self._count if place < 0 else 0
        if not 0 <= place < self._count:
            raise IndexError(f"the HVM context has {self._count} records, not a record {index}")
        return next(islice(self, place, None))

    def __bytes__(self) -> bytes:
        return self._data

    def record(self, type: HvmRecordType | int, instance: int = 0) -> memoryview:
        """The bytes of one record. KeyError if there is none."""
        for found in self:
            if (found.type, found.instance) == (type, instance):
                return found.data
        raise KeyError((type, instance))

    def __repr__(self) -> str:
        return f"<HvmContext of {len(self)} records, {len(self._data)} bytes>"


def iter_records(data: memoryview, interface: Interface) -> Iterator[HvmRecord]:
    """The records of a context up to its END. DecodeError at a truncated record."""
    layout = hvm_save.DESCRIPTOR_STRUCT.at(interface)
    place, kind = 0, None
    while place < len(data) and kind is not HvmRecordType.END:
        start = place + layout.size
        if start > len(data):
            raise errors.DecodeError(f"the HVM context ends inside the head of the record at byte {place}")
        found = layout.unpack(data, place)
        stop = start + found["length"]
        if stop > len(data):
            length = f"has length {found['length']}, but {len(data) - start} bytes are left"
            raise errors.DecodeError(f"the HVM record at byte {place} {length}")
        kind = _named(found["typecode"])
        yield HvmRecord(kind, found["instance"], data[start:stop])
        place = stop


def _named(code: int) -> HvmRecordType | int:
    try:
        return HvmRecordType(code)
    except ValueError:
        return code


def _is_header(data: memoryview, interface: Interface) -> bool:
    layout = hvm_save.HEADER_STRUCT.at(interface)
    return len(data) >= layout.size and layout.unpack(data)["magic"] == HVM_FILE_MAGIC


class HvmContexts:
    """The state of the virtual hardware of an HVM or PVH domain. Threads: safe to share."""

    def __init__(self, domain: Identity) -> None:
        self._domain = domain

    def read(self) -> HvmContext:
        """All records (domctl gethvmcontext). Xen stops the domain meanwhile. EINVAL for a PV domain."""
        # The size can grow between the query of the size and that of the context.
        for left in reversed(range(_TRIES)):
            size = self._domain.call(domctl_hvm.GETHVMCONTEXT).reported("size", _SIZE_MOST)
            try:
                reply = self._domain.call(domctl_hvm.GETHVMCONTEXT, size=size, buffer=size)
            except errors.HypercallError as error:
                if error.errno != errno.ENOSPC or not left:
                    raise
                continue
            used = reply.reported("size", size)
            return HvmContext(reply.buffer("buffer")[:used], self._domain.xen.interface)
        raise AssertionError("unreachable")

    def load(self, context: HvmContext | bytes) -> None:
        """Replace it (domctl sethvmcontext). DecodeError for bytes that are not a context.

        Afterwards only vcpus with a CPU record are online. If Xen refuses a record (EINVAL, ENODATA), earlier
        records may remain loaded before Xen 4.20.
        """
        if not isinstance(context, HvmContext):
            context = HvmContext(context, self._domain.xen.interface)
        data = bytes(context)
        self._domain.change(domctl_hvm.SETHVMCONTEXT, size=len(data), buffer=data)

    def record(self, type: HvmRecordType | int, instance: int = 0) -> bytes:
        """A single record (domctl gethvmcontext_partial). KeyError if there is no such record.

        EINVAL for a type that this Xen does not save.
        """
        caller = self._domain.xen.caller
        fields = {
            "type": arguments.natural("type", type, _U16_MAX),
            "instance": arguments.natural("instance", instance, _U16_MAX),
        }
        partial = domctl_hvm.GETHVMCONTEXT_PARTIAL
        if not caller.supports(partial) or not caller.has_field(partial, "bufsz"):
            # Before Xen 4.10 the length of a record was not reported.
            return bytes(self.read().record(type, instance))
        try:
            size = self._domain.call(partial, **fields).reported("bufsz", _SIZE_MOST)
            reply = self._domain.call(partial, bufsz=size, buffer=size, **fields)
        except errors.HypercallError as error:
            if error.errno in (errno.ENOENT, errno.ENODATA):
                raise KeyError((type, instance)) from error
            raise
        return reply.buffer("buffer")[: reply.reported("bufsz", size)]

    def __repr__(self) -> str:
        return f"<HvmContexts of domain {self._domain.domid}>"
