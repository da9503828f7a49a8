# SPDX-License-Identifier: MIT
"""`--svg`: pictures that browsers show, whatever the names of guests are."""

from __future__ import annotations

import xml.etree.ElementTree as xml

import pytest

from pyxc import FrameRun
from pyxc.cli import frame_pictures, grid, pictures, svg, treemap
from pyxc.cli.pictures import Cpu, Node, Use

WORDS = [["topology"], ["memory"], ["map", "web1"]]
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ["<script>alert(1)</script>", "a\x1b[31mred", "\"&'", "\x00\ud800\ufffe", "x" * 500, "\u6771" * 100]


def texts(picture: str) -> list[str]:
    root = xml.fromstring(picture)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {"svg", "title", "rect", "text"}
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[0])
def test_a_picture_is_drawn_beside_the_text(pyxc, host, tmp_path, words):
    file = tmp_path / "picture.svg"
    drawn = pyxc(*words, "--svg", str(file))
    assert drawn == pyxc(*words)
    shown = " ".join(texts(file.read_text()))
    expected = {"topology": "cpu 0 core 0", "memory": "Domain-0 1200 MiB", "map": "web1: memory by frame"}
    assert expected[words[0]] in " ".join(shown.split())
    assert pyxc(*words, "--svg", str(file)) == drawn, "its own file is replaced"


def test_files_of_others_are_not_replaced(pyxc, host, tmp_path):
    file = tmp_path / "notes"
    file.write_text("mine")
    refused = pyxc("memory", "--svg", str(file))
    assert (refused.status, refused.out, file.read_text()) == (1, "", "mine")
    assert refused.err == f"pyxc: {file}: exists and is not a picture file\n"
    assert pyxc("memory", "--svg", str(file), "--force").status == 0
    assert texts(file.read_text())


def test_what_fails_leaves_no_picture(pyxc, host, tmp_path):
    file = tmp_path / "picture.svg"
    assert pyxc("map", "nosuch", "--svg", str(file)).status == 5
    assert not file.exists()
    assert pyxc("map", "web1", "--svg", str(file), "--dump", "5").status == 2


def drawings() -> dict[str, svg.Picture]:
    cpus = [
        Cpu(None, 0, n // 2, n, HOSTILE[n % 6], [f"{name}/0" for name in HOSTILE[: n % 7]]) for n in range(9)
    ]
    uses = [Use(name, 1 << 20 >> n, True) for n, name in enumerate(HOSTILE)]
    runs = [FrameRun(0, 5, "l4tab", True, 0), FrameRun(5, 1 << 30, "hole", False, 0),
            FrameRun(5 + (1 << 30), 9, "memory", False, 0)]  # fmt: skip
    warm = grid.Heat()
    warm.add([1, 2, 100_000], 100_001)
    warm.add([1], 100_001)
    return {
        "topology": pictures.topology(cpus),
        "nothing runs": pictures.topology([]),
        "memory": pictures.memory(
            [*uses, Use("(free)", 0, False)], [Node(0, 1 << 30, 1 << 20), Node(1, 0, 0)]
        ),
        "no memory": pictures.memory([], []),
        "map": frame_pictures.frames(HOSTILE[0], runs),
        "no frames": frame_pictures.frames("", []),
        "heat": frame_pictures.heat(HOSTILE[3], warm),
        "no heat": frame_pictures.heat("", grid.Heat()),
    }


@pytest.mark.parametrize("name", drawings())
def test_hostile_names_are_text_and_all_is_inside(name):
    picture = drawings()[name]
    assert all(text.isprintable() for text in texts(str(picture)))
    for element in xml.fromstring(str(picture)).iter(f"{SVG}text"):
        size, length = int(element.get("font-size")), svg.columns.width_of(element.text or "")
        assert float(element.get("x")) + 0.6 * size * length <= picture.width
        assert float(element.get("y")) <= picture.height


def test_long_holes_are_left_out():
    shown = texts(str(drawings()["map"]))
    assert "0x0 to 0x4, 20 KiB" in shown
    assert "0x40000005 to 0x4000000d, 36 KiB" in shown


def test_scattered_frames_are_few_parts():
    found = grid.Grid.of(((frame << 20, 1) for frame in range(1000)), 3072)
    assert len(found.parts) <= 16
    assert sum(len(found.cells(part)) for part in found.parts) <= 3072 + 16


@pytest.mark.parametrize("areas", [[5], [8, 4, 2, 1, 1], [3] * 40, [10**9, 1, 1], [1, 0, 2], [0, 0], []])
def test_a_treemap_divides_all_in_proportion(areas):
    whole = treemap.Area(10, 20, 400, 300)
    found = list(treemap.divided(areas, whole))
    total = sum(areas) or 1
    for area, (x, y, width, height) in zip(areas, found, strict=True):
        assert width * height == pytest.approx(area / total * 400 * 300, abs=1e-3)
        assert 10 - 1e-3 <= x <= x + width <= 410 + 1e-3
        assert 20 - 1e-3 <= y <= y + height <= 320 + 1e-3
    corners = [(x, y, x + width, y + height) for x, y, width, height in found if width * height > 1e-3]
    for place, one in enumerate(corners):
        for other in corners[:place]:
            apart = (one[2] <= other[0] + 1e-3, other[2] <= one[0] + 1e-3,
                     one[3] <= other[1] + 1e-3, other[3] <= one[1] + 1e-3)  # fmt: skip
            assert any(apart)


def test_several_nodes_are_listed(pyxc, host, monkeypatch):
    nodes = [pictures.Node(0, 1 << 30, 1 << 20), pictures.Node(1, 2 << 30, 2 << 20)]
    monkeypatch.setattr("pyxc.cli.commands.survey._nodes", lambda xen: nodes)
    assert pyxc("memory").out.splitlines()[-1] == "node 1: 2048 MiB, 2 MiB free"
