# SPDX-License-Identifier: MIT
"""Draw docs/pyxc.svg, the picture in README: a command and a Python session as a terminal shows them.

Called as PYTHONPATH=. tools/picture.py. All of it runs on a simulated host; a test compares the picture with
what it shows today.
"""

from __future__ import annotations

import code
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from pyxc.cli import main

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pyxc.svg"
TARGET = "sim:xen-4.17"
COLUMNS = 79
COMMAND = ["top", "-b", "-i", "1"]
SESSION = (
    "import pyxc",
    'xen = pyxc.open("sim:xen-4.17")',
    'web = xen.domains["web1"]',
    "web.pause()",
    "web.info().flags",
    'hex(web.vcpu(0).context()["rip"])',
    "web.memory.frames()",
    "bytes(web.memory.read(web.memory.frames().frames[0])[:4])",
)

_SIZE, _LINE, _MARGIN, _BAR = 14, 19, 16, 30
_PROMPT, _TYPED, _PRINTED = "#7ee787", "#ffffff", "#c9d1d9"


def session() -> Iterator[tuple[str, str, str]]:
    """Line by line: the prompt, what is typed, what is printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main(["--target", TARGET, *COMMAND])
    yield "$ ", f"pyxc {' '.join(COMMAND)} | cut -c1-{COLUMNS}", ""
    for line in printed.getvalue().splitlines():
        yield "", "", line[:COLUMNS]
    yield "", "", ""
    yield "$ ", "python3", ""
    console = code.InteractiveConsole()
    for statement in SESSION:
        yield ">>> ", statement, ""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            console.push(statement)
        for line in printed.getvalue().splitlines():
            yield "", "", line


def picture() -> str:
    """The picture as SVG, with fixed positions for every column, whatever the font of the reader."""
    lines = list(session())
    width = round(COLUMNS * _SIZE * 0.6) + 2 * _MARGIN
    height = len(lines) * _LINE + _BAR + _MARGIN
    svg = [
        f'<svg xmlns="{_XMLNS}" width="{width}" height="{height}" role="img">',
        "<!-- SPDX-License-Identifier: MIT; written by tools/picture.py -->",
        "<title>pyxc top, and a Python session with pyxc, on a simulated host</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        *(f'<circle cx="{20 + 18 * n}" cy="16" r="5" fill="{c}"/>' for n, c in enumerate(_BUTTONS)),
        f'<g font-family="{_FONTS}" font-size="{_SIZE}">',
    ]
    for number, parts in enumerate(lines):
        y, column = _BAR + (number + 1) * _LINE - 4, 0
        for text, colour in zip(parts, (_PROMPT, _TYPED, _PRINTED)):
            if text:
                x, length = _MARGIN + column * _SIZE * 0.6, len(text) * _SIZE * 0.6
                svg.append(
                    f'<text x="{x:.1f}" y="{y}" fill="{colour}" textLength="{length:.1f}">'
                    f"{escape(text).replace(' ', _SPACE)}</text>"
                )
            column += len(text)
    return "\n".join([*svg, "</g>", "</svg>", ""])


_XMLNS = "http://www.w3.org/2000/svg"
_FONTS = "ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace"
_SPACE = "&#160;"  # of ordinary ones, several would be shown as one
_BUTTONS = ("#ff5f57", "#febc2e", "#28c840")

if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
