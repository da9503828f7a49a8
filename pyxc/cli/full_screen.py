# SPDX-License-Identifier: MIT
"""`top` on a terminal, by curses of the standard library."""

from __future__ import annotations

import itertools
import locale
import time
import warnings
from collections import defaultdict, deque
from contextlib import suppress
from typing import TYPE_CHECKING

import pyxc
from pyxc.cli import output, rows
from pyxc.cli.screen import Table, View, layout

if TYPE_CHECKING:
    import curses

_FIRST_S = 0.5
"""The first screen covers this time, the others the delay."""
_HISTORY = 30
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = " .:-=+*#"
_STATES = (
    ("running", "running"),
    ("blocked", "blocked"),
    ("paused", "paused"),
    ("crashed", "crashed"),
    ("dying", "dying"),
    ("shut_down", "shutdown"),
)


def run(xen: pyxc.Xen, view: View, count: int | None, colours: bool) -> bool:
    """Show screens until someone quits, `count` of them at most; False where this terminal can show none."""
    try:
        import curses
    except ImportError:  # Debian's python3-minimal has no curses
        return False
    try:
        curses.setupterm()
    except curses.error:
        return False
    if not curses.tigetstr("cup"):  # TERM=dumb
        return False
    locale.setlocale(locale.LC_CTYPE, "")
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("once")
        try:
            curses.wrapper(_Top(xen, view, count, colours).run)
        finally:
            for text in dict.fromkeys(str(remark.message) for remark in remarks):
                output.complain(f"warning: {text}")
    return True


class _Top:
    """A running top: what is shown, and the samples that it comes from."""

    def __init__(self, xen: pyxc.Xen, view: View, count: int | None, colours: bool) -> None:
        self._xen = xen
        self._view = view
        self._colours = colours
        self._screens = itertools.count() if count is None else range(count)
        self._history: defaultdict[bytes, deque[float]] = defaultdict(lambda: deque(maxlen=_HISTORY))
        self._table = Table((), rows.WIDTHS, ())

    def run(self, window: curses.window) -> None:
        import curses

        with suppress(curses.error):
            curses.curs_set(0)
        styles = _styles(self._colours)
        before, delay = self._xen.sample(), min(_FIRST_S, self._view.delay_s)
        for _ in self._screens:
            if not self._wait(window, time.monotonic() + delay, styles):
                return
            now = self._xen.sample()
            self._table = self._shown(now.since(before))
            self._draw(window, styles)
            before, delay = now, self._view.delay_s

    def _wait(self, window: curses.window, until: float, styles: dict[str, int]) -> bool:
        """Do what keys say until then; False to quit."""
        import curses

        names = {
            curses.KEY_UP: "UP", curses.KEY_DOWN: "DOWN", curses.KEY_LEFT: "LEFT", curses.KEY_RIGHT: "RIGHT",
            curses.KEY_BACKSPACE: "\b", curses.KEY_ENTER: "\n",
        }  # fmt: skip
        while (left := until - time.monotonic()) > 0:
            window.timeout(max(1, round(left * 1000)))
            key = window.getch()
            if key == -1:
                continue
            name = names.get(key, chr(key) if 0 <= key < 128 else "")
            delay = self._view.delay_s
            if name and not self._view.press(name, self._table):
                return False
            if self._view.delay_s != delay:
                until = time.monotonic() + self._view.delay_s
            self._draw(window, styles)
        return True

    def _shown(self, usage: list[pyxc.DomainUsage]) -> Table:
        host = self._xen.physinfo()
        found = []
        for used in usage:
            history = self._history[used.info.handle]
            history.append(used.cpu_percent or 0.0)
            row = rows.row(self._xen, used, host.total_memory_kb)
            found.append(row._replace(history=tuple(history)))
        living = {used.info.handle for used in usage}
        for gone in [handle for handle in self._history if handle not in living]:
            del self._history[gone]
        return Table(_head(self._xen, host, usage), rows.WIDTHS, found)

    def _draw(self, window: curses.window, styles: dict[str, int]) -> None:
        import curses

        height, width = window.getmaxyx()
        encoding = window.encoding
        lines = layout(self._view, self._table, width, height, _blocks(encoding))
        window.erase()
        for index, line in enumerate(lines):
            text = line.text.encode(encoding, "backslashreplace").decode(encoding)
            with suppress(curses.error):  # the cursor cannot go beyond the last cell of the screen
                window.addnstr(index, 0, text, width, styles.get(line.style, 0))
        window.refresh()


def _blocks(encoding: str) -> str:
    try:
        _BLOCKS.encode(encoding)
    except UnicodeEncodeError:
        return _ASCII_BLOCKS
    return _BLOCKS


def _styles(colours: bool) -> dict[str, int]:
    """Few: one colour, for what crashed or dies."""
    import curses

    alert = curses.A_BOLD
    if colours and curses.has_colors():
        curses.use_default_colors()
        curses.init_pair(1, curses.COLOR_RED, -1)
        alert |= curses.color_pair(1)
    return {"bold": curses.A_BOLD, "header": curses.A_REVERSE, "dim": curses.A_DIM, "alert": alert}


def _head(xen: pyxc.Xen, host: pyxc.PhysInfo, usage: list[pyxc.DomainUsage]) -> tuple[str, ...]:
    """The host in three lines, as in xentop."""
    counts = {word: sum(bool(getattr(used.info, attribute)) for used in usage) for attribute, word in _STATES}
    used_kb = host.total_memory_kb - host.free_memory_kb
    busy = sum(used.cpu_percent or 0.0 for used in usage) / max(1, host.nr_cpus)
    cpus = f"CPUs: {host.nr_cpus} @ {host.cpu_khz // 1000}MHz, {busy:.0f}% busy"
    return (
        f"pyxc top - {time.strftime('%H:%M:%S')}   Xen {xen.version}",
        f"{len(usage)} domains: " + ", ".join(f"{count} {word}" for word, count in counts.items()),
        f"Mem: {host.total_memory_kb}k total, {used_kb}k used, {host.free_memory_kb}k free    {cpus}",
    )
