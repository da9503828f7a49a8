# SPDX-License-Identifier: MIT
"""Records: NamedTuples made of the bytes of structures."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from pyxc._core import RecordReader
from pyxc.abi.layout import BOOL, HANDLE, S8, S16, S32, S64, U8, U16, U32, U64, Interface, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation
from pyxc.call.records import Record

OLD = Interface((4, 10), 0xE, 0x10)
NEW = Interface((4, 21), 0x17, 0x16)
BIG = NEW._replace(byteorder="big")

POINT = Table(
    "point", "xen",
    Row("x", U16),
    pad(2),
    Row("y", S32),
    Row("where", HANDLE),
)  # fmt: skip

BOUNDED = Table(
    "bounded", "domctl",
    Row("always", U32),
    Row("young",  U32, start=0x17),
    Row("split",  U32, start=(0x17, (4, 21))),
    start=0xE,
)  # fmt: skip


class Spot(NamedTuple):
    where: int
    x: int


class Versions(NamedTuple):
    always: int
    split: int | None
    late: int | None


class Everything(NamedTuple):
    number: int
    octets: bytes
    words: tuple[int, ...]
    truth: bool


@pytest.mark.parametrize("interface", [NEW, BIG])
def test_a_record_takes_the_fields_that_it_names(interface: Interface) -> None:
    data = POINT.at(interface).pack({"x": 1, "y": 2, "where": 3})
    record = Record(Spot, POINT).at(interface).one(data)
    assert record == Spot(where=3, x=1)
    assert type(record) is Spot


def test_records_that_fill_a_buffer() -> None:
    data = b"".join(POINT.at(BIG).pack({"x": x, "y": -x, "where": 10 * x}) for x in range(3))
    reader = Record(Spot, POINT).at(BIG)
    assert reader.all(data) == [Spot(0, 0), Spot(10, 1), Spot(20, 2)]
    assert reader.one(data, 16) == Spot(10, 1)
    assert reader.all(b"") == []


def test_a_buffer_that_is_too_short_is_not_read() -> None:
    reader = Record(Spot, POINT).at(NEW)
    with pytest.raises(ValueError, match="not a number of records of 16 bytes"):
        reader.all(bytes(17))
    for offset in (1, 16, -1, 2**30):
        with pytest.raises(ValueError, match="does not fit"):
            reader.one(bytes(16), offset)


def test_a_field_that_this_version_lacks_is_none() -> None:
    record = Record(Versions, BOUNDED, late="young")
    assert record.at(OLD).one(BOUNDED.at(OLD).pack({"always": 5})) == Versions(5, None, None)
    data = BOUNDED.at(NEW).pack({"always": 5, "split": 6, "young": 7})
    assert record.at(NEW).one(data) == Versions(5, 6, 7)


@pytest.mark.parametrize("code, lowest, highest", [
    (U8, 0, 2**8 - 1), (U16, 0, 2**16 - 1), (U32, 0, 2**32 - 1), (U64, 0, 2**64 - 1), (HANDLE, 0, 2**64 - 1),
    (S8, -(2**7), 2**7 - 1), (S16, -(2**15), 2**15 - 1), (S32, -(2**31), 2**31 - 1), (S64, -(2**63), 2**63 -
    1),
])  # fmt: skip
@pytest.mark.parametrize("interface", [NEW, BIG])
def test_numbers_keep_their_sign_and_width(
    code: str, lowest: int, highest: int, interface: Interface
) -> None:
    table = Table("number", "xen", Row("x", code), Row("where", code))
    data = table.at(interface).pack({"x": lowest, "where": highest})
    assert Record(Spot, table).at(interface).one(data) == Spot(where=highest, x=lowest)


@pytest.mark.parametrize("interface", [NEW, BIG])
def test_arrays_are_bytes_or_tuples_and_truth_is_bool(interface: Interface) -> None:
    rows = (Row("words", U32, 3), Row("octets", U8, 5), Row("truth", BOOL), Row("number", S16))
    table = Table("everything", "xen", *rows)
    data = table.at(interface).pack(
        {"words": (1, 2**32 - 1, 3), "octets": b"hello", "truth": True, "number": -2}
    )
    record = Record(Everything, table).at(interface).one(data)
    assert record == Everything(-2, b"hello", (1, 2**32 - 1, 3), True)
    assert record.truth is True


def test_an_operation_gives_fields_of_its_envelope_too() -> None:
    class Answer(NamedTuple):
        domid: int
        y: int

    operation = Operation(DOMCTL, "locate", 9, POINT, changes=False)
    data = operation.at(NEW).pack({"domid": 7, "y": -4})
    assert Record(Answer, operation).at(NEW).one(data) == Answer(7, -4)


def test_a_reader_is_made_once_for_each_interface() -> None:
    record = Record(Spot, POINT)
    assert record.at(NEW) is record.at(NEW)
    assert record.at(BIG).one(POINT.at(BIG).pack({"x": 1})) == record.at(NEW).one(
        POINT.at(NEW).pack({"x": 1})
    )


def test_a_record_that_wants_a_field_no_version_has_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Spot has fields \['nowhere'\], which point never had"):
        Record(Spot, POINT, where="nowhere")


def test_a_reader_refuses_fields_outside_the_structure_and_other_classes() -> None:
    with pytest.raises(ValueError, match="outside its structure"):
        RecordReader(Spot, 8, ((0, "Q", 1), (1, "Q", 1)))
    with pytest.raises(TypeError, match="NamedTuple"):
        RecordReader(list, 8, ())  # type: ignore[arg-type]
