# SPDX-License-Identifier: MIT
"""`map`: the kinds of frames of a guest, and their bytes."""

from __future__ import annotations

MAP_OF_DB1 = """\
       First gfn         Last gfn       Frames    2 MiB  Kind
               0             7fff        32768       64  memory
            8000            feff7      1011704        -  hole
           feff8            fefff            8        -  memory

Kind             Frames        MiB
memory            32776      128.0
hole            1011704     3952.0
Aligned ranges of 2 MiB that can be mapped by superpages: 64; pinned page tables: 0.
"""


def test_a_map(pyxc, host):
    assert pyxc("map", "db1").out == MAP_OF_DB1
    found = pyxc("map", "web1", "--json").json
    assert found["kinds"]["memory"] + 4 == host.domains[1].tot_pages
    assert found["nr_runs"] == len(found["runs"]) == 13
    assert [run["kind"] for run in found["runs"] if run["pinned"]] == ["l4tab"]


def test_only_some_runs_are_shown_and_all_are_counted(pyxc, host):
    found = pyxc("map", "web1", "--json", "--count", "2").json
    assert (len(found["runs"]), found["nr_runs"], found["kinds"]["l1tab"]) == (2, 13, 1)
    text = pyxc("map", "web1", "--count", "2").out
    assert "\n# 11 more; --all shows them\n" in text
    assert "more" not in pyxc("map", "web1", "--all").out


def test_the_bytes_of_frames(pyxc, host):
    first, *_, last = pyxc("map", "db1", "--dump", "0x100").out.splitlines()
    assert first == "000000100000  64 62 31 3a 20 73 69 6d  75 6c 61 74 65 64 20 50  |db1: simulated P|"
    assert last == "*"
    frames = pyxc("map", "db1", "--dump", "0x100+2", "--json").json["frames"]
    assert [frame["gfn"] for frame in frames] == [0x100, 0x101]
    assert bytes.fromhex(frames[0]["data"])[:3] == b"db1"


def test_frames_that_cannot_be_shown(pyxc, host):
    outcome = pyxc("map", "web1", "--dump", "0x200-0x202")
    assert (outcome.status, len(outcome.err.splitlines())) == (7, 2)
    assert "pyxc: 513: address 0x201000 is not mapped" in outcome.err
    assert pyxc("map", "web1", "--dump", "0x201").status == 1
    assert pyxc("map", "web1", "--dump", "0+1025").status == 2
    assert pyxc("map", "web1", "--dump", "first").status == 2
