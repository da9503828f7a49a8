# SPDX-License-Identifier: MIT
"""The language of structures and operations: what it refuses, how it packs, how records come out of it."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest

from pyxc.abi import domctl, memory, sysctl, version
from pyxc.abi.layout import (
    HANDLE,
    S32,
    U16,
    U32,
    U64,
    Interface,
    Layout,
    NotInInterface,
    Row,
    Table,
    nested,
    pad,
)
from pyxc.abi.operation import DOMCTL, Family, Operation

OLD = Interface((4, 10), 0xE, 0x10)
MID = Interface((4, 20), 0x17, 0x15)
NEW = Interface((4, 21), 0x17, 0x16)
BIG = Interface((4, 21), 0x17, 0x16, byteorder="big")

POINT = Table(
    "point", "xen",
    Row("x", U16),
    pad(2),
    Row("y", S32),
    Row("where", HANDLE),
)  # fmt: skip


def test_a_misaligned_field_is_refused() -> None:
    with pytest.raises(ValueError, match=r"point.y: offset 2 is not aligned to 4 bytes"):
        Layout("point", [Row("x", U16), Row("y", U32)], "little")


def test_a_field_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"point.x is defined twice"):
        Layout("point", [Row("x", U16), Row("x", U16)], "little")


def test_size_offsets_and_sizes() -> None:
    layout = POINT.at(NEW)
    assert layout.size == 16
    assert layout.names == ("x", "y", "where")
    assert layout.offsets == {"x": 0, "y": 4, "where": 8}
    assert layout.sizes == {"x": 2, "y": 4, "where": 8}
    assert layout.handles == {"where"}


def test_bytes_do_not_depend_on_the_machine_that_packs() -> None:
    fields = {"x": 0x0102, "y": -2, "where": 0x11223344}
    assert POINT.at(NEW).pack(fields) == bytes.fromhex("0201 0000 feffffff 4433221100000000")
    assert POINT.at(BIG).pack(fields) == bytes.fromhex("0102 0000 fffffffe 0000000011223344")


def test_a_handle_is_a_zero_extended_u64() -> None:
    layout = Layout("one", [Row("where", HANDLE)], "big")
    assert layout.pack({"where": 0xFFFFF000}) == bytes.fromhex("00000000fffff000")
    with pytest.raises(struct.error):
        layout.pack({"where": -4096})


def test_fields_not_given_and_padding_are_zero() -> None:
    layout = domctl.GETDOMAININFO.at(NEW)
    assert layout.pack({}) == bytes(144)
    full = layout.pack({"domid": 0xFFFF, "domain": 0xFFFF, "gpaddr_bits": 0xFF, "arch_config.misc_flags": 0})
    assert [full[at] for at in (8, 9, *range(10, 20))] == [255, 255, *bytes(6), 255, 255, 0, 0]
    assert full[16 + 96 : 16 + 104] == b"\xff" + bytes(7)


def test_padding_is_ignored_when_unpacking() -> None:
    assert POINT.at(NEW).unpack(b"\1\0\xff\xff" + bytes(12)) == {"x": 1, "y": 0, "where": 0}


def test_an_unknown_field_is_a_type_error_that_names_it() -> None:
    with pytest.raises(TypeError, match=r"struct point has no field 'z'"):
        POINT.at(NEW).pack({"z": 1})


@pytest.mark.parametrize("fields", [{"x": 0x10000}, {"x": -1}, {"y": 2**31}, {"where": 2**64}, {"x": "1"}])
def test_a_value_that_does_not_fit_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(struct.error):
        POINT.at(NEW).pack(fields)


def test_a_short_buffer_is_refused() -> None:
    with pytest.raises(struct.error):
        POINT.at(NEW).unpack(bytes(15))


def test_unpacking_at_an_offset() -> None:
    data = b"\xff" * 8 + POINT.at(NEW).pack({"x": 7})
    assert POINT.at(NEW).unpack(data, 8)["x"] == 7


@pytest.mark.parametrize("order, packed", [("little", "0100000002000000"), ("big", "0000000100000002")])
def test_an_array_of_words_is_a_tuple(order: str, packed: str) -> None:
    layout = Layout("pair", [Row("words", U32, 2)], order)
    assert layout.pack({"words": (1, 2)}).hex() == packed
    assert layout.unpack(bytes.fromhex(packed)) == {"words": (1, 2)}
    assert layout.pack({"words": bytes.fromhex(packed)}).hex() == packed
    with pytest.raises(struct.error):
        layout.pack({"words": (1, 2, 3)})


def test_an_array_of_bytes_is_bytes() -> None:
    layout = domctl.SETDOMAINHANDLE_STRUCT.at(NEW)
    handle = bytes(range(16))
    assert layout.pack({"handle": handle}) == handle
    assert layout.unpack(handle) == {"handle": handle}


def test_a_layout_without_fields() -> None:
    layout = version.VERSION.at(NEW)
    assert (layout.size, layout.pack({}), layout.unpack(b"")) == (0, b"", {})


BOUNDED = Table(
    "bounded", "domctl",
    Row("always", U32),
    Row("young",  U32, start=0x17),
    Row("gone",   U32, stop=0x17),
    Row("split",  U32, start=(0x17, (4, 21))),
    start=0xE,
)  # fmt: skip


@pytest.mark.parametrize(
    "interface, names",
    [(OLD, ("always", "gone")), (MID, ("always", "young")), (NEW, ("always", "young", "split"))],
)
def test_rows_follow_the_interface_number_and_where_it_is_not_enough_the_release(
    interface: Interface, names: tuple[str, ...]
) -> None:
    assert BOUNDED.at(interface).names == names


def test_a_structure_outside_its_bounds() -> None:
    with pytest.raises(NotInInterface, match=r"Xen 4.9 has no struct bounded"):
        BOUNDED.at(Interface((4, 9), 0xD, 0xF))


def test_families_without_numbers_are_bounded_by_releases() -> None:
    with pytest.raises(NotInInterface):
        memory.ACQUIRE_RESOURCE_STRUCT.at(OLD)
    assert memory.ACQUIRE_RESOURCE_STRUCT.at(NEW).size == 32


def test_a_layout_is_compiled_once_for_each_interface_and_byte_order() -> None:
    assert POINT.at(NEW) is POINT.at(NEW)
    assert POINT.at(NEW) is not POINT.at(BIG)
    assert POINT.at(NEW) is not POINT.at(MID)


def test_nested_rows_keep_their_own_bounds_and_get_those_of_the_place() -> None:
    inner = Table("inner", "domctl", Row("a", U32), Row("b", U32, start=0x17), pad(4, stop=0x17))
    outer = Table("outer", "domctl", *nested("in", inner, start=0x10, stop=0x18))
    fields = [outer.at(NEW._replace(domctl=number)).offsets for number in (0xF, 0x10, 0x16, 0x17, 0x18)]
    assert fields == [{}, {"in.a": 0}, {"in.a": 0}, {"in.a": 0, "in.b": 4}, {}]
    assert outer.at(NEW._replace(domctl=0x16)).size == 8


def test_the_bounds_of_a_nested_row_and_of_its_place_both_hold() -> None:
    inner = Table("inner", "domctl", Row("a", U32, start=0x10, stop=0x18))
    outer = Table("outer", "domctl", *nested("in", inner, start=0x16, stop=0x20))
    known = [number for number in range(1, 0x22) if outer.at(NEW._replace(domctl=number)).size]
    assert known == [0x16, 0x17]


class Spot(NamedTuple):
    where: int
    x: int


class Point(NamedTuple):
    x: int
    y: int
    where: int


class Versions(NamedTuple):
    always: int
    split: int | None
    late: int | None


def test_an_operation_is_envelope_body_and_tail() -> None:
    layout = domctl.MAX_MEM.at(NEW)
    assert layout.size == 144
    assert layout.offsets == {"cmd": 0, "interface_version": 4, "domid": 8, "max_memkb": 16}


def test_the_domain_of_the_question_and_that_of_the_answer_are_two_fields() -> None:
    layout = domctl.GETDOMAININFO.at(NEW)
    assert (layout.offsets["domid"], layout.offsets["domain"]) == (8, 16)


def test_an_operation_without_envelope_is_its_body() -> None:
    assert memory.MAXIMUM_GPFN.at(NEW).offsets == {"domid": 0}


def test_an_operation_that_a_release_lacks() -> None:
    with pytest.raises(NotInInterface, match=r"Xen 4.21 has no domctl.getmemlist"):
        domctl.GETMEMLIST.at(NEW)
    assert "buffer" in domctl.GETMEMLIST.at(OLD).handles
    with pytest.raises(NotInInterface, match=r"Xen 4.10 has no xen_version.capabilities2"):
        version.CAPABILITIES2.at(OLD)


def test_a_body_too_long_for_the_envelope_keeps_its_size() -> None:
    family = Family("tight", 99, (Row("cmd", U32), pad(4)), size=8)
    asked = Operation(family, "long", 1, Table("long", "xen", Row("a", U64)), changes=False)
    assert asked.at(NEW).size == 16


def test_what_objects_say_of_themselves() -> None:
    assert repr(POINT) == "<Table point>"
    assert repr(POINT.at(NEW)) == "<Layout point, 16 bytes>"
    assert repr(domctl.PAUSEDOMAIN) == "<domctl.pausedomain (3), changes>"
    assert repr(sysctl.PHYSINFO) == "<sysctl.physinfo (3), reads>"
    assert DOMCTL.versions == "domctl"


def test_old_capabilities_are_told_in_new_bits() -> None:
    known = sysctl.Capability
    assert sysctl.capabilities(0b111, 0x12) == known.HVM | known.PV | known.DIRECTIO
    assert sysctl.capabilities(0b11, 0x11) == known.HVM | known.PV | known.DIRECTIO
    assert sysctl.capabilities(0b01, 0x10) == known.HVM | known.PV


def test_which_operations_only_read() -> None:
    changing = [
        domctl.PAUSEDOMAIN,
        domctl.SETVCPUCONTEXT,
        sysctl.READCONSOLE_CLEAR,
        sysctl.DEBUG_KEYS,
        memory.CLAIM_PAGES,
    ]
    reading = [
        domctl.GETVCPUCONTEXT,
        sysctl.READCONSOLE,
        sysctl.PHYSINFO,
        version.VERSION,
        memory.MAXIMUM_GPFN,
    ]
    assert all(operation.changes for operation in changing)
    assert not any(operation.changes for operation in reading)
