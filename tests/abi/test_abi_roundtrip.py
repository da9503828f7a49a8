# SPDX-License-Identifier: MIT
"""Whatever is packed with a table comes back out of it, in both byte orders."""

from __future__ import annotations

from typing import Any

import goldens
import pytest

from pyxc.abi.layout import BOOL, HANDLE, U8, Interface, NotInInterface, Row
from pyxc.abi.releases import RELEASES

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TABLES = goldens.tables()
BITS = {"b": 8, "h": 16, "i": 32, "q": 64}


def values_of(row: Row) -> st.SearchStrategy[Any]:
    if row.code == U8 and row.length > 1:
        return st.binary(min_size=row.length, max_size=row.length)
    if row.code == BOOL:
        return st.booleans()
    code = "Q" if row.code == HANDLE else row.code
    bits = BITS[code.lower()]
    signed = code.islower()
    numbers = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)
    return numbers if row.length == 1 else st.tuples(*[numbers] * row.length)


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(data=st.data())
def test_round_trip(name: str, byteorder: str, data: st.DataObject) -> None:
    interface: Interface = data.draw(st.sampled_from(RELEASES))._replace(byteorder=byteorder)
    try:
        layout = TABLES[name].at(interface)
    except NotInInterface:
        return
    rows = {row.name: values_of(row) for row in TABLES[name].rows_at(interface) if row.name}
    fields = data.draw(st.fixed_dictionaries(rows))
    packed = layout.pack(fields)
    assert len(packed) == layout.size
    assert layout.unpack(packed) == fields
