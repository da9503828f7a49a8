# SPDX-License-Identifier: MIT
"""Records: what the bytes of a structure become for people, a NamedTuple."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from enum import Enum, Flag
from typing import Any, Generic, Protocol, TypeVar, cast

from pyxc._core import RecordReader
from pyxc.abi.layout import Interface, Span, Table
from pyxc.abi.operation import Operation

R = TypeVar("R", bound=tuple[Any, ...])
R_co = TypeVar("R_co", bound=tuple[Any, ...], covariant=True)


class Reader(Protocol[R_co]):
    """Makes records of bytes that are laid out for one interface."""

    def one(self, data: Any, offset: int = 0) -> R_co:
        """The record at an offset."""

    def all(self, data: Any) -> list[Any]:
        """The records that fill a buffer."""


class Record(Generic[R]):
    """Binds a NamedTuple class to a structure: fields of one name meet, `renamed` says FIELD="row" for
    others.

    A field that an interface version lacks is None. `variants` are subclasses of the class, for versions that
    mean something else by the same bytes.
    """

    def __init__(
        self, cls: type[R], structure: Table | Operation, *variants: tuple[Span, type[R]], **renamed: str
    ) -> None:
        self._cls = cls
        self._structure = structure
        self._variants = variants
        fields: tuple[str, ...] = vars(cls)["_fields"]
        self._sources = tuple(renamed.get(field, field) for field in fields)
        unknown = set(self._sources) - {row.name for row in _rows(structure)}
        if unknown:
            raise TypeError(f"{cls.__name__} has fields {sorted(unknown)}, which {structure.name} never had")
        self._latest: tuple[Interface | None, Reader[R] | None] = (None, None)

    def at(self, interface: Interface) -> Reader[R]:
        """What reads it in one interface; made once for the interface that was asked for last."""
        known, reader = self._latest
        if reader is None or known is not interface:
            reader = self._reader(interface)
            self._latest = (interface, reader)
        return reader

    def _reader(self, interface: Interface) -> Reader[R]:
        layout = self._structure.at(interface)
        places = tuple(layout.places.get(source) for source in self._sources)
        swapped = interface.byteorder != sys.byteorder
        return cast("Reader[R]", RecordReader(self._class_for(interface), layout.size, places, swapped))

    def _class_for(self, interface: Interface) -> type[R]:
        family = self._structure.family
        number = interface.layout_number(family if isinstance(family, str) else family.name) or 0
        variants = (cls for span, cls in self._variants if span.holds((number, interface.xen)))
        return next(variants, self._cls)


def asdict(record: Any) -> dict[str, Any]:
    """A record, such as a DomainInfo, or a mapping, such as a VcpuContext, as a dict that json.dumps() takes.

    The names are those that its repr shows.

    Flags become lists of their names, members of enums their names, UUIDs text, and bytes hexadecimal digits.

    >>> import pyxc
    >>> info = pyxc.asdict(pyxc.open("sim:xen-4.17").domains[1].info())
    >>> info["domid"], info["flags"], info["shutdown_reason"]
    (1, ['BLOCKED'], None)
    """
    if isinstance(record, Mapping):
        return {str(_plain(key)): _plain(value) for key, value in record.items()}
    fields = getattr(record, "_fields", None)
    if fields is None:
        raise TypeError(f"record must be a record or a mapping, not {type(record).__name__}")
    shown = record.shown_as() if hasattr(record, "shown_as") else {}
    names = [name for field in fields for name in shown.get(field, (field,))]
    return {name: _plain(getattr(record, name)) for name in names}


def _plain(value: Any) -> Any:
    """What JSON has for it."""
    if isinstance(value, Flag):
        return [member.name for member in value]
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return asdict(value)
    if isinstance(value, Iterable):
        return [_plain(one) for one in value]
    return str(value)


def _rows(structure: Table | Operation) -> tuple[Any, ...]:
    if isinstance(structure, Table):
        return structure.rows
    return (*structure.family.envelope, *(structure.body.rows if structure.body else ()))
