# SPDX-License-Identifier: MIT
"""Pictures in SVG: boxes and text, without scripts, in which names of guests are only text."""

from __future__ import annotations

import argparse
import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyxc.cli import columns, output
from pyxc.cli.parser import Parser
from pyxc.files.writer import Keep, ProvenanceFile

KIND = "picture"
_BEGINNING = "<!-- drawn by pyxc -->\n"
MARGIN = 16
SIZE = 12
"""Of letters, in pixels."""
_COLUMN = 0.61
"""The width of a letter of a monospaced font, by its size."""
PALETTE = ("#8dd3c7", "#ffdf80", "#bebada", "#fb9a8f", "#80b1d3", "#fdb462", "#b3de69", "#fccde5")
"""Colours on which black text can be read."""
PALE = "#eeeeee"


class Picture:
    """Boxes and text on white. Positions are in pixels, from the left upper corner."""

    def __init__(self, title: str, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self._title = title
        self._parts: list[str] = []
        self.text(MARGIN, MARGIN + SIZE, title, size=SIZE + 4, bold=True, width=width - 2 * MARGIN)

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, line: str = "none", tip: str = ""
    ) -> None:
        """`tip` is what a viewer shows for the box under the pointer."""
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        content = f"><title>{_escaped(tip)}</title></rect>" if tip else "/>"
        self._parts.append(f'<rect {place} fill="{fill}" stroke="{line}"{content}')

    def text(
        self, x: float, y: float, text: str, *, width: float, size: int = SIZE, bold: bool = False
    ) -> None:
        """A line that begins at x above y; what does not fit into the width is cut."""
        weight = ' font-weight="bold"' if bold else ""
        shown = _escaped(_fitted(text, int(width / (size * _COLUMN))))
        self._parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}"{weight}>{shown}</text>')

    def __str__(self) -> str:
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace">'
        title = f"<title>{_escaped(self._title)}</title>"
        ground = '<rect width="100%" height="100%" fill="white"/>'
        return "\n".join([f"{_BEGINNING}{head}", title, ground, *self._parts, "</svg>", ""])


def fits(text: str, width: float, size: int = SIZE) -> bool:
    """Whether a text needs no more than a width in pixels."""
    return columns.width_of(text) * size * _COLUMN <= width


def _fitted(text: str, most: int) -> str:
    if columns.width_of(text) <= most:
        return text
    return columns.cut(text, most - 1) + "…" if most > 1 else ""


def _escaped(text: str) -> str:
    """What XML takes as text, whatever it contains."""
    return html.escape(output.harmless(text, kept=""))


def add_options(parser: Parser) -> None:
    parser.add_argument("--svg", metavar="FILE", help="draw it, too, as a picture for browsers")
    parser.add_argument("--force", action="store_true", help="replace FILE whatever it is")


@contextmanager
def drawing(args: argparse.Namespace) -> Iterator[Callable[[Callable[[], Picture]], None]]:
    """The file of --svg: takes a function that makes the picture, which is called only for a file."""
    if args.svg is None:
        yield lambda make: None
        return
    with ProvenanceFile(
        args.svg, KIND, keep=Keep(args.provenance), recognize=_is_picture, replace=args.force
    ) as file:
        yield lambda make: _write(file, make())


def _write(file: ProvenanceFile, picture: Picture) -> None:
    file.stream.write(str(picture).encode())


def _is_picture(head: bytes) -> bool:
    return head.startswith(_BEGINNING.encode())
