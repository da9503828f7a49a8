# SPDX-License-Identifier: MIT
"""The simulated machine's memory has a byte order of its own."""

from __future__ import annotations

from array import array

from pyxc.sim.model.machine import Machine
from pyxc.sim.model.words import Words

NUMBERS = array("Q", [0x0102030405060708, 1])
LITTLE = bytes.fromhex("0807060504030201 0100000000000000")
BIG = bytes.fromhex("0102030405060708 0000000000000001")


def test_words_are_written_and_read_in_the_order_of_the_machine() -> None:
    assert (Words("little").pack(NUMBERS), Words("big").pack(NUMBERS)) == (LITTLE, BIG)
    assert Words("little").unpack(LITTLE) == Words("big").unpack(BIG) == NUMBERS


def test_the_tables_of_a_big_endian_machine_are_big_endian() -> None:
    machine = Machine(0x2000, "big")
    machine.set_m2p_run(0x1800, NUMBERS)
    assert machine.memory.read(machine.m2p_frames[0x1800 // 512], 0, 16) == BIG
    assert machine.word(machine.m2p_frames[0x1800 // 512], 0) == NUMBERS[0]


def test_a_run_is_packed_as_its_numbers_are() -> None:
    runs = (range(7, 7), range(3), range(0xFFFE, 0x1_0002), range(0x12_3456_FFFF, 0x12_3458_0001))
    for words in (Words("little"), Words("big")):
        for run in runs:
            assert words.pack_run(run) == words.pack(run)
