# SPDX-License-Identifier: MIT
"""`context` for a guest that hangs: where it is, by which names, and its stack."""

from __future__ import annotations

import pytest

from pyxc import connect

MAP = """ffffffff81000000 T _text
ffffffff81000300 t idle
ffffffff81004000 T run
ffffffff82000000 D data
no symbol
"""
RSP, ROOT = 0xFFFFC90000013EE0, 0x240A


@pytest.fixture
def symbols(tmp_path):
    (tmp_path / "System.map").write_text(MAP)
    return str(tmp_path / "System.map")


@pytest.fixture
def stack(host):
    """The stack of db1's vcpu 0, up to the end of its page."""
    with connect(host.connect()) as xen:
        memory = xen.domains["db1"].memory
        for level, (table, entry) in enumerate(
            [(ROOT, 0x310), (0x310, 0x311), (0x311, 0x312), (0x312, 0x300)]
        ):
            index = RSP >> 39 - 9 * level & 511
            memory.write(table, (entry << 12 | 1).to_bytes(8, "little"), index * 8)
        words = [5, 0xFFFFFFFF81000311, 0xFFFFFFFF82000010, 0xFFFFFFFF81004008]
        memory.write(0x300, b"".join(word.to_bytes(8, "little") for word in words), RSP & 0xFFF)


def test_first_where_it_is(pyxc, host):
    lines = pyxc("context", "web1", "0").out.split()
    assert lines[2:8:2] == ["rip", "rsp", "rflags"]


def test_symbols(pyxc, host, symbols):
    lines = pyxc("context", "web1", "0", "--symbols", symbols).out.splitlines()
    assert lines[1].split() == ["rip", "ffffffff810003aa", "idle+0xaa"]
    found = pyxc("context", "web1", "0", "-s", symbols, "--json").json["vcpus"][0]
    assert found["calls"] == [{"address": 0xFFFFFFFF810003AA, "symbol": "idle+0xaa"}]


def test_the_stack(pyxc, host, stack, symbols):
    text = pyxc("context", "db1", "0", "-S", "-s", symbols).out
    after = text.split("stack:\n")[1].splitlines()
    assert (
        after[0] == "  ffffc90000013ee0: 0000000000000005 ffffffff81000311 ffffffff82000010 ffffffff81004008"
    )
    calls = after[after.index("calls, some of which may be over:") + 1 :]
    assert [line.split()[-1] for line in calls] == ["run+0x2c0", "idle+0x11", "run+0x8"]
    found = pyxc("context", "db1", "0", "-S", "--json").json["vcpus"][0]
    assert (found["stack"][:2], len(found["stack"])) == ([5, 0xFFFFFFFF81000311], 36)


def test_a_stack_that_is_not_mapped(pyxc, host):
    outcome = pyxc("context", "web1", "0", "--stack")
    assert outcome.status == 0
    assert "stack:" not in outcome.out


def test_a_file_without_symbols(pyxc, host, tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\x00 nothing")
    outcome = pyxc("context", "web1", "-s", str(tmp_path / "x"))
    assert (outcome.status, "has no symbols" in outcome.err) == (1, True)
    assert pyxc("context", "web1", "-s", str(tmp_path / "none")).status == 1
