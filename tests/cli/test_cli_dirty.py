# SPDX-License-Identifier: MIT
"""`dirty`: what a guest writes in each round, and that log-dirty mode is off afterwards."""

from __future__ import annotations

import errno

import pytest

from pyxc.errors import DomainGone


@pytest.fixture
def rounds(host, monkeypatch):
    """What happens in each round: the guest writes, or something goes wrong."""
    acts = iter([[0x101, 0x7001], [0x101], [0x101, 0x20000]])

    def sleep(seconds: float) -> None:
        for frame in next(acts):
            host.write_as_guest(2, frame, 0, b"x")

    monkeypatch.setattr("time.sleep", sleep)


def test_what_a_guest_writes(pyxc, host, rounds, monkeypatch, tmp_path):
    monkeypatch.setitem(host.domains[2].p2m, 0x20000, host.domains[2].p2m[5])
    file = tmp_path / "heat.svg"
    found = pyxc("dirty", "db1", "-i", "3", "--json", "--svg", str(file)).json
    assert [taken["dirty_pages"] for taken in found["rounds"]] == [2, 1, 2]
    assert (found["nr_written"], found["nr_rounds"]) == (3, 3)
    hottest = max(found["cells"], key=lambda cell: cell["share"])
    assert hottest["first_gfn"] <= 0x101 < hottest["first_gfn"] + hottest["nr_frames"]
    assert host.domains[2].dirty is None
    assert "<svg" in file.read_text()


def test_a_map_in_text(pyxc, host, rounds):
    lines = pyxc("dirty", "db1", "-i", "2").out.splitlines()
    assert [line.split()[0::2] for line in lines[:3]] == [["Round", "Pages"], ["1", "2"], ["2", "1"]]
    assert lines[4] == "Pages that were written at least once: 2, 0.0 MiB."
    assert [line for line in lines if line.endswith("|")] == ["         101 |@|", "        7001 |+|"]


def test_a_guest_that_writes_nothing(pyxc, host):
    assert pyxc("dirty", "db1", "-i", "1", "-d", "0.001").out.endswith(
        "\nPages that were written at least once: 0, 0.0 MiB.\n"
    )


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (OSError(errno.EIO, "gone"), 1), (DomainGone(2, 2), 5)]
)
def test_the_mode_is_off_after_an_error(pyxc, host, monkeypatch, error, status):
    def fail(seconds: float) -> None:
        assert host.domains[2].dirty is not None
        raise error

    monkeypatch.setattr("time.sleep", fail)
    assert pyxc("dirty", "db1").status == status
    assert host.domains[2].dirty is None


@pytest.mark.parametrize("count", ["0", "256"])
def test_a_number_of_rounds_has_limits(pyxc, host, count):
    assert pyxc("dirty", "db1", "-i", count).status == 2
