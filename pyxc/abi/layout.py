# SPDX-License-Identifier: MIT
"""The description language for structures of the hypervisor, and its compiler.

A Table lists the rows of one Xen structure, for every interface version at once. Table.at() compiles it,
for one Interface, to a Layout: a struct.Struct of explicit width, order and padding, which never follows the
C layout of the machine that Python runs on.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

U8, U16, U32, U64 = "B", "H", "I", "Q"
S8, S16, S32, S64 = "b", "h", "i", "q"
BOOL = "?"
"""A boolean u8: any byte but 0 is true."""
HANDLE = "P"
"""A guest handle: an address, zero-extended to u64."""

Release = tuple[int, int]
Version = tuple[int, Release]
"""An interface number (0 in families without one), and the Xen release that distinguishes its two layouts."""
Bound = int | Release | Version | None
"""A bound in a row: an interface number, a release (families without numbers), both, or None: no bound."""


class NotInInterface(LookupError):
    """A structure, field or operation that an interface version does not have."""


class Interface(NamedTuple):
    """Everything that determines the layouts of one running hypervisor.

    A number is 0 if the hypervisor has no such hypercall: domctl and sysctl in 2006, dom0_op since then.
    `assumed`: the layouts are those of an older release, chosen by the user; `taken` are the numbers of
    domctl and sysctl that such a hypervisor accepts, 0 for that of the layouts.
    """

    xen: Release
    domctl: int = 0
    sysctl: int = 0
    dom0_op: int = 0
    arch: str = "x86_64"
    byteorder: Literal["little", "big"] = "little"
    assumed: bool = False
    taken: tuple[int, int] = (0, 0)

    def number(self, family: str) -> int | None:
        """The interface number that is sent in calls of a family; None for families without one."""
        taken = dict(zip(("domctl", "sysctl"), self.taken))
        return taken.get(family) or self.layout_number(family)

    def layout_number(self, family: str) -> int | None:
        """The number of the layouts of a family; None for families without one."""
        numbers = {"domctl": self.domctl, "sysctl": self.sysctl, "dom0_op": self.dom0_op}
        return numbers.get(family)

    def version(self, family: str) -> Version:
        """The version to compare with the bounds of a family. NotInInterface if the family is absent."""
        number = self.layout_number(family)
        if number == 0:
            raise NotInInterface(f"Xen {self.xen[0]}.{self.xen[1]} has no {family}")
        return number or 0, self.xen


def as_version(bound: int | Release | Version) -> Version:
    if isinstance(bound, int):
        return bound, (0, 0)
    first, second = bound
    return (first, second) if isinstance(second, tuple) else (0, (first, second))


class Span(NamedTuple):
    """The versions [start, stop) in which something exists."""

    start: Version
    stop: Version

    @classmethod
    def of(cls, start: Bound, stop: Bound) -> "Span":
        return cls(
            (0, (0, 0)) if start is None else as_version(start),
            (2**32, (0, 0)) if stop is None else as_version(stop),
        )

    def holds(self, version: Version) -> bool:
        return self.start <= version < self.stop

    def within(self, other: "Span") -> "Span":
        """The versions that are in both."""
        return Span(max(self.start, other.start), min(self.stop, other.stop))


class Row(NamedTuple):
    """One field: name (None for padding), type code, length, and the versions [start, stop) that have it.

    A length above 1 makes an array: of U8 it decodes to bytes, of anything else to a tuple of ints.
    """

    name: str | None
    code: str
    length: int = 1
    start: Bound = None
    stop: Bound = None


def pad(size: int, start: Bound = None, stop: Bound = None) -> Row:
    """Explicit padding: zero when packed, ignored when unpacked."""
    return Row(None, U8, size, start, stop)


class Table:
    """The rows of one structure for all versions of its family.

    `name` is the C name of the structure; `family` is the unit of its bounds: "domctl", "sysctl" and
    "dom0_op" interface numbers, or "xen" releases. `start` and `stop` bound the versions with this structure.
    `before` returns the corresponding structure of dom0_op.
    """

    def __init__(
        self, name: str, family: str, *rows: Row,
        start: Bound = None, stop: Bound = None, before: "Callable[[], Table] | None" = None,
    ) -> None:  # fmt: skip
        self.before = before
        self.name = name
        self.family = family
        self.rows = rows
        self.span = Span.of(start, stop)
        self._compiled: dict[tuple[Version, str], Layout] = {}

    def at(self, interface: Interface) -> "Layout":
        """The layout in one interface, compiled on first use. NotInInterface if it is absent."""
        if self.before and interface.dom0_op:
            return self.before().at(interface)
        key = interface.version(self.family), interface.byteorder
        if key not in self._compiled:
            self._compiled[key] = Layout(self.name, self.rows_at(interface), interface.byteorder)
        return self._compiled[key]

    def rows_at(self, interface: Interface) -> list[Row]:
        """The rows that one interface has."""
        version = interface.version(self.family)
        if not self.span.holds(version):
            raise NotInInterface(f"Xen {interface.xen[0]}.{interface.xen[1]} has no struct {self.name}")
        return [row for row in self.rows if Span.of(row.start, row.stop).holds(version)]

    def __repr__(self) -> str:
        return f"<Table {self.name}>"


def nested(prefix: str, table: Table, start: Bound = None, stop: Bound = None) -> list[Row]:
    """The rows of a structure inside another, named PREFIX.FIELD; the bounds of the rows and the given ones
    both apply."""
    outer = Span.of(start, stop)
    return [
        row._replace(name=row.name and f"{prefix}.{row.name}", start=span.start, stop=span.stop)
        for row in table.rows
        for span in [Span.of(row.start, row.stop).within(outer)]
    ]


class Layout:
    """A structure in one interface version and byte order: size, offsets, and a compiled codec.

    `names` are the fields in order, without padding; `offsets` and `sizes` are by name, in bytes, `places`
    are (offset, struct code, array length); `body` is where the body of an operation begins; `codec` is the
    struct.Struct, to which an array is one item of bytes; `arrays` has the codecs of arrays of words and
    `bytewise` the sizes of arrays of bytes, by their index in `names`.
    """

    def __init__(self, name: str, rows: Iterable[Row], byteorder: str) -> None:
        self.name = name
        self.order = "<" if byteorder == "little" else ">"
        self.offsets: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.places: dict[str, tuple[int, str, int]] = {}
        self.handles: set[str] = set()
        self.arrays: dict[int, struct.Struct] = {}
        self.bytewise: dict[int, int] = {}
        self._zero: list[Any] = []
        self.size = self.body = 0
        codes = "".join([self._add(row) for row in rows])
        self.codec = struct.Struct(self.order + codes)
        self.names = tuple(self.offsets)
        self.index = {field: index for index, field in enumerate(self.names)}

    def _add(self, row: Row) -> str:
        """Place a row; returns its struct code."""
        code = U64 if row.code == HANDLE else row.code
        unit = struct.calcsize(self.order + code)
        size = unit * row.length
        offset, self.size = self.size, self.size + size
        if row.name is None:
            return f"{size}x"
        if offset % unit:
            raise ValueError(f"{self.name}.{row.name}: offset {offset} is not aligned to {unit} bytes")
        if row.name in self.offsets:
            raise ValueError(f"{self.name}.{row.name} is defined twice")
        if row.code == HANDLE:
            self.handles.add(row.name)
        if row.length > 1 and code == U8:
            self.bytewise[len(self._zero)] = size
        elif row.length > 1:
            self.arrays[len(self._zero)] = struct.Struct(f"{self.order}{row.length}{code}")
        self._zero.append(0 if row.length == 1 else bytes(size))
        self.offsets[row.name], self.sizes[row.name] = offset, size
        self.places[row.name] = (offset, code, row.length)
        return code if row.length == 1 else f"{size}s"

    def values(self, fields: Mapping[str, Any]) -> list[Any]:
        """The arguments of codec.pack(); missing fields are zero, unknown ones a TypeError."""
        values = self._zero.copy()
        for name, value in fields.items():
            position = self.index.get(name)
            if position is None:
                raise TypeError(f"struct {self.name} has no field {name!r} in this interface version")
            array = self.arrays.get(position)
            values[position] = value if array is None or isinstance(value, bytes) else array.pack(*value)
        return values

    def pack(self, fields: Mapping[str, Any]) -> bytes:
        """The structure as bytes. struct.error if a value does not fit its field."""
        return self.codec.pack(*self.values(fields))

    def item(self, position: int, value: Any) -> Any:
        """The argument of codec.pack() for one field. struct.error for a wrong number of items.

        Bytes may be shorter than the field: the rest is zero, as after a string.
        """
        array, size = self.arrays.get(position), self.bytewise.get(position)
        if array is not None:
            return array.pack(*value)
        if size is not None and len(value) > size:
            raise struct.error(f"{len(value)} bytes do not fit in {size}")
        return value

    def decode(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The result of codec.unpack(), with arrays of words as tuples."""
        if not self.arrays:
            return values
        decoded = list(values)
        for position, array in self.arrays.items():
            decoded[position] = array.unpack(decoded[position])
        return tuple(decoded)

    def unpack(self, data: Any, offset: int = 0) -> dict[str, Any]:
        """All fields by name. struct.error if the buffer is too short."""
        return dict(zip(self.names, self.decode(self.codec.unpack_from(data, offset)), strict=True))

    def __repr__(self) -> str:
        return f"<Layout {self.name}, {self.size} bytes>"
