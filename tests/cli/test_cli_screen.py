# SPDX-License-Identifier: MIT
"""The screen of `pyxc top`: its rows for any size of a terminal, its keys, and the whole of it on one."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import sys
import termios
import time

import pytest

from pyxc.cli import columns, rows
from pyxc.cli.screen import Line, Row, Table, View, layout, sparkline

HEAD = ("title", "counts", "memory")
BLOCKS = " 12345678"


def domain(name, cpu, **below):
    """A domain whose disks and networks are unknown."""
    cells = (name, "-b----", "11", cpu, "65536", "3.2", "66560", "3.2", "2", *("n/a",) * 9, "0")
    return Row(cells, **below)


DOMAINS = [
    domain("web", "5.0"),
    domain("db", "70.0", vcpus=("a vcpu",), style="alert"),
    domain("mail", "n/a"),
]


@pytest.fixture
def table():
    return Table(HEAD, rows.WIDTHS, DOMAINS)


def texts(view, table, width=80, height=24):
    return [line.text.rstrip() for line in layout(view, table, width, height, BLOCKS)]


def names(view, table):
    return [line.split()[0] for line in texts(view, table)[4:-1] if line]


@pytest.mark.parametrize("size", [(80, 24), (132, 50), (40, 10), (20, 5), (9, 3), (1, 1)])
def test_a_screen_has_the_size_of_its_terminal(table, size):
    width, height = size
    view = View(3, vcpus=True, repeat=True)
    lines = layout(view, table, width, height, BLOCKS)
    assert len(lines) == height
    assert max(columns.width_of(line.text) for line in lines) <= width


def test_eighty_columns(table):
    lines = texts(View(3), table)
    assert lines[:3] == ["title", "counts", "memory"]
    header = "      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXMEM(k) MAXMEM(%) VCPUS"
    assert lines[3] == header
    assert lines[4] == "       web -b----         11    5.0      65536    3.2      66560       3.2     2"
    assert lines[-1].startswith("D:delay N:networks B:vbds V:vcpus")


def test_columns_of_which_nothing_is_known_are_left_out(table):
    lines = texts(View(3), table, width=300)
    assert "n/a" not in "".join(lines)
    assert lines[3].split()[-2:] == ["VCPUS", "SSID"]
    assert lines[6].split()[:4] == ["mail", "-b----", "11", "-"]
    known = domain("web", "1.0")._replace(cells=("web", "------", *"0" * 17))
    assert "VBD_WSECT" in texts(View(3), table._replace(rows=[known, *DOMAINS]), width=300)[3]


def test_styles(table):
    lines = layout(View(3), table, 80, 24, BLOCKS)
    assert lines[0] == Line("title", "bold")
    assert [line.style for line in lines[3:7]] == ["header", "", "alert", ""]


def test_sorting(table):
    view = View(3)
    seen = []
    for _ in range(5):
        seen.append((view.sorting, names(view, table)))
        assert view.press("s", table)
    assert seen[0] == (None, ["web", "db", "mail"])
    assert seen[1] == ("NAME", ["db", "mail", "web"])
    assert seen[4] == ("CPU(%)", ["db", "web", "mail"])
    assert texts(view, table)[0] == "title   sorted by MEM(k)"
    for _ in range(6):
        view.press("S", table)
    assert view.sorting is None


def test_keys_show_more(table):
    view = View(3)
    view.press("v", table)
    assert names(view, table) == ["web", "db", "a", "mail"]
    view.press("V", table)
    view.press("r", table)
    assert names(view, table) == ["web", "NAME", "db", "NAME", "mail"]
    view.press("R", table)
    devices = table._replace(rows=[domain("web", "1.0", networks=("net 0",), disks=("vbd xvda",))])
    view.press("n", table)
    assert names(view, devices) == ["web", "net"]
    view.press("b", table)
    assert names(view, devices) == ["web", "net", "vbd"]


def test_arrows(table):
    view = View(3)
    for key, first in (("UP", 0), ("DOWN", 1), ("DOWN", 2), ("DOWN", 2), ("UP", 1)):
        view.press(key, table)
        assert view.first == first
    assert names(view, table) == ["db", "mail"]
    view.press("RIGHT", table)
    assert texts(view, table)[3].split()[:4] == ["NAME", "STATE", "CPU(%)", "MEM(k)"]
    for _ in range(50):
        view.press("RIGHT", table)
    assert texts(view, table)[3].split() == ["NAME", "STATE", "SSID"]
    for _ in range(50):
        view.press("LEFT", table)
    assert texts(view, table)[3].split()[:3] == ["NAME", "STATE", "CPU(sec)"]


@pytest.mark.parametrize(
    ("typed", "delay"),
    [("5\n", 5), ("0.5\r", 0.5), ("1x2\n", 12), ("7\x1b", 3), ("\n", 3), ("..\n", 3), ("0\n", 0.1),
     ("99999999\n", 3600), ("19\x7f\n", 1)],
)  # fmt: skip
def test_a_delay_is_typed(table, typed, delay):
    view = View(3)
    assert view.press("d", table)
    assert texts(view, table)[-1] == "Delay in seconds (3): _"
    for key in typed:
        assert view.press(key, table), "keys of commands are not among the digits"
    assert (view.delay_s, view.entry) == (delay, None)


def test_quitting(table):
    assert not View(3).press("q", table)
    assert not View(3).press("Q", table)


def test_names_are_cut_by_the_columns_that_they_need(table):
    wide = table._replace(rows=[domain("東京東京東京東京", "1.0")])
    line = texts(View(3), wide)[4]
    assert line.startswith("東京東京東 -b----")
    full = texts(View(3, full_names=True), wide)
    assert full[4].startswith("東京東京東京東京 -b----")
    assert full[3].startswith("            NAME")


def test_usage_over_time_where_there_is_room(table):
    assert sparkline([0, 1, 50, 100, 250], BLOCKS) == " 1488"
    busy = table._replace(rows=[domain("web", "1.0", history=(100.0,) * 40)])
    assert "8" not in texts(View(3), busy)[4]
    assert texts(View(3), busy, width=140)[4].endswith("0 " + "8" * 30)


def test_no_domain_at_all():
    nothing = Table((), rows.WIDTHS, ())
    view = View(3)
    for key in ("DOWN", "UP", "LEFT", "RIGHT", "s", "v"):
        assert view.press(key, nothing)
    assert len(layout(view, nothing, 80, 24, BLOCKS)) == 24


# On a terminal.


class Terminal:
    """A pty with a terminal emulator on our side."""

    def __init__(self, pyte, width, height):
        self.ours, self.theirs = os.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))
        self._screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self._screen)

    def until(self, wanted):
        """What is on the screen as soon as a text is."""
        deadline = time.monotonic() + 30
        while True:
            shown = [line.rstrip() for line in self._screen.display]
            if wanted in "\n".join(shown):
                return shown
            assert time.monotonic() < deadline, shown
            if select.select([self.ours], [], [], 1)[0]:
                self._stream.feed(os.read(self.ours, 4096))

    def press(self, keys):
        os.write(self.ours, keys)


@pytest.fixture
def terminal():
    terminal = Terminal(pytest.importorskip("pyte"), 80, 24)
    before = termios.tcgetattr(terminal.theirs)
    yield terminal
    assert termios.tcgetattr(terminal.theirs) == before, "the terminal was not restored"
    os.close(terminal.ours)
    os.close(terminal.theirs)


@pytest.fixture
def top(start, terminal, monkeypatch):
    """The process of `pyxc top` on it."""

    def run(*words, term="xterm"):
        monkeypatch.setenv("TERM", term)
        ends = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.theirs)
        return start(sys.executable, "-m", "pyxc", "--target", "sim:", "top", *words, **ends)

    return run


@pytest.mark.parametrize("term", ["xterm", "vt100", "linux"])
def test_a_screen_on_a_terminal(top, terminal, term):
    process = top("-d", "60", term=term)
    shown = terminal.until("build")
    assert shown[0].startswith("pyxc top - ")
    assert shown[1].startswith("4 domains: 2 running, 1 blocked, 1 paused, 0 crashed")
    assert shown[3].split()[:4] == ["NAME", "STATE", "CPU(sec)", "CPU(%)"]
    assert [line.split()[0] for line in shown[4:8]] == ["Domain-0", "web1", "db1", "build"]
    terminal.press(b"v")
    assert "vcpu   0  cpu   0" in terminal.until("vcpu   1")[5]
    terminal.press(b"q")
    assert process.wait(30) == 0


def test_an_interrupt_restores_the_terminal(top, terminal):
    process = top()
    terminal.until("build")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def test_as_many_screens_as_are_asked_for(top, terminal):
    assert top("-i", "2", "-d", "0.1").wait(30) == 0


@pytest.mark.parametrize("words", [(), ("-b",)])
def test_tables_where_there_can_be_no_screen(top, terminal, words):
    process = top("-i", "1", "-d", "0.1", *words, term="xterm" if words else "dumb")
    terminal.until("n/a")
    assert process.wait(30) == 0
