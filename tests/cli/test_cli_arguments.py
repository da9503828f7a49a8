# SPDX-License-Identifier: MIT
"""Values on the command line: sizes and sets of cpus, in xl's syntax."""

from __future__ import annotations

import argparse

import pytest

from pyxc import CpuTopology
from pyxc.cli.arguments import cpu_text, memory_kb
from pyxc.guest.cpu_lists import cpu_set

EIGHT = [CpuTopology(cpu, cpu, 0, cpu // 4) for cpu in range(8)]


@pytest.mark.parametrize(
    ("text", "kb"),
    [("1", 1024), ("256m", 262144), ("3k", 3), ("2G", 2 << 20), ("1t", 1 << 30), ("4095b", 3)],
)
def test_sizes(text, kb):
    assert memory_kb(text) == kb


@pytest.mark.parametrize("text", ["", "m", "-1", "1.5g", "1mm", "1 m", "0x10", "1p", "१"])
def test_bad_sizes(text):
    with pytest.raises(argparse.ArgumentTypeError):
        memory_kb(text)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", {0}),
        ("0-3,5,^2", {0, 1, 3, 5}),
        ("all", set(range(8))),
        ("all,^0-5", {6, 7}),
        ("^2,0-3", {0, 1, 2, 3}),
        ("nodes:1", {4, 5, 6, 7}),
        ("node:0-1,^nodes:0,^7", {4, 5, 6}),
    ],
)
def test_cpu_sets(text, cpus):
    assert cpu_set(text, EIGHT) == cpus


@pytest.mark.parametrize(
    "text",
    ["", ",", "1,", "8", "0-8", "3-1", "0-99999999999999", "^all", "x", "-1", "nodes:2", "0,^0", "^0", "1 2"],
)
def test_bad_cpu_sets(text):
    with pytest.raises(ValueError):
        cpu_set(text, EIGHT)


@pytest.mark.parametrize(
    ("cpus", "text"),
    [
        (range(8), "all"),
        (range(64), "all"),
        ((), "none"),
        ((9,), "none"),
        ((0,), "0"),
        ((1, 2, 3, 4, 5, 6, 7), "1-7"),
        ((0, 1, 3, 5, 6), "0-1,3,5-6"),
    ],
)
def test_cpu_text_is_xls(cpus, text):
    assert cpu_text(cpus, 8) == text


def test_holes_among_the_cpus_are_no_part_of_a_node():
    holed = [*EIGHT[:3], CpuTopology(3, None, None, None)]
    assert cpu_set("nodes:0", holed) == {0, 1, 2}
