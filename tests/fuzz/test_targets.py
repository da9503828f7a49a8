# SPDX-License-Identifier: MIT
"""Every decoder, fed with what is true but for a few bytes, and with any bytes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import cache

import attack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from targets import TARGETS

_EXAMPLES, _EXAMPLES_OF_THE_CORE = 20, 200
"""Its loops are in C: what they must not do shows only when they run under a sanitizer."""
_HANG_S = 60
_EDGES = [
    b"", b"\0", b"\x01", b"\x7f", b"\x80", b"\xff", b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f",
    b"\0\0\0\x80", b"\0\0\0\x01", b"\0\0\x01\0", b"\0\0\0\0\0\0\0\x80", b"\0\0\0\0\x01\0\0\0",
]  # fmt: skip
_EDITS = some.tuples(
    some.integers(0, 1 << 16), some.integers(0, 8), some.sampled_from(_EDGES) | some.binary(max_size=8)
)
"""Where, how many bytes go, and what comes in their place."""


def _edited(sample: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    data = bytearray(sample)
    for place, size, new in edits:
        at = place % (len(data) + 1)
        data[at : at + size] = new
    return bytes(data)


@cache
def _inputs(name: str) -> some.SearchStrategy[bytes]:
    near = some.builds(_edited, some.sampled_from(TARGETS[name].samples()), some.lists(_EDITS, max_size=6))
    return near | near | near | some.binary(max_size=256)


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def fail(*_: object) -> None:
        raise AssertionError(f"it went on for {_HANG_S} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(_HANG_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("place", range(len(attack.TARGETS)), ids=attack.TARGETS)
def test_every_simulated_host_withstands_an_attack(place: int) -> None:
    attack.attack(attack.samples(8000)[place])


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_do_harm(name: str) -> None:
    examples = _EXAMPLES_OF_THE_CORE if name.startswith("core.") else _EXAMPLES

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(_inputs(name))
    def feed(data: bytes) -> None:
        TARGETS[name].feed(data)

    feed()
