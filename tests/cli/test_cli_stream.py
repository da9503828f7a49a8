# SPDX-License-Identifier: MIT
"""stream inspect, stream verify."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import streams
from streams import SAMPLES, encoded

from pyxc.guest.stream import XlFlag, XlHeader


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A PV guest as xl saves it."""
    path = tmp_path / "web1.save"
    path.write_bytes(encoded(SAMPLES["xl-pv"]))
    return path


@pytest.fixture
def cut_off(saved: Path) -> Path:
    """The first half of it."""
    path = saved.with_name("half.save")
    path.write_bytes(saved.read_bytes()[:20_000])
    return path


def test_inspect(pyxc, saved):
    outcome = pyxc("stream", "inspect", str(saved))
    assert (outcome.status, outcome.err) == (0, "")
    rows = dict(line.split(":", 1) for line in outcome.out.splitlines()[:14])
    found = {key.strip(): value.strip() for key, value in rows.items()}
    assert found == {
        "layers": "xl, libxl, libxc",
        "compression": "-",
        "byteorder": "little",
        "version": "3",
        "kind": "64-bit PV",
        "saved_on": "Xen 4.17",
        "name": "web1",
        "uuid": "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01",
        "vcpus": "2",
        "memory_kb": "16",
        "tsc_mode": "default",
        "tsc_khz": "2400000",
        "checkpoints": "0",
        "size_bytes": str(saved.stat().st_size),
    }
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["libxc", "X86_PV_VCPU_BASIC", "2", "10368"] in lines
    assert ["L4TAB_PIN", "1"] in lines
    assert ["once", "4"] in lines
    assert '    "name": "web1",' in outcome.out.splitlines()


def test_inspect_as_json(pyxc, saved):
    found = pyxc("stream", "inspect", str(saved), "--json").json
    assert (found["kind"], found["bits"], found["xen"], found["vcpus"]) == ("pv", 64, [4, 17], 2)
    assert found["config"]["c_info"]["name"] == "web1"
    assert found["tsc"] == {"mode": "default", "khz": 2400000, "incarnation": 1, "elapsed_ns": 123456789012}
    assert {"layer": "libxc", "name": "PAGE_DATA", "nr_records": 2, "size_bytes": 16472} in found["records"]
    assert (found["types"]["XTAB"], found["times_sent"], found["problem"]) == (1, {"1": 4}, None)


def test_what_is_there_of_a_stream_that_is_cut_off(pyxc, cut_off):
    outcome = pyxc("stream", "inspect", str(cut_off))
    assert outcome.status == 1
    assert "64-bit PV" in outcome.out
    assert outcome.err.startswith(f"pyxc: {cut_off}: the stream ends at byte 20000, inside libxc ")
    found = pyxc("stream", "inspect", str(cut_off), "--json").json
    assert found["problem"].startswith("the stream ends at byte 20000, inside libxc ")
    assert found["vcpus"] == 0


@pytest.mark.parametrize(
    ("name", "kind"), [("libxl-hvm", "HVM or PVH"), ("pv-32", "32-bit PV"), ("hvm-big", "HVM or PVH")]
)
def test_streams_without_a_configuration(pyxc, tmp_path, name, kind):
    (tmp_path / "guest").write_bytes(encoded(SAMPLES[name]))
    outcome = pyxc("stream", "inspect", str(tmp_path / "guest"))
    assert outcome.status == 0
    assert f"kind                   : {kind}\n" in outcome.out
    assert "name                   : -\n" in outcome.out
    assert "Configuration" not in outcome.out


def test_a_file_cannot_send_control_characters_to_the_terminal(pyxc, tmp_path):
    escape = b'name = "\x1b]0;owned\x07\x1b[2J"\nvcpus = 1\n\0'
    header = XlHeader("little", XlFlag.STREAM_V2, escape)
    (tmp_path / "guest").write_bytes(encoded([header, *SAMPLES["libxl-pv"]]))
    out = pyxc("stream", "inspect", str(tmp_path / "guest")).out
    assert 'name = "?]0;owned??[2J"\nvcpus = 1\n' in out
    config = b'{"c_info": {"name": "\\u001b[2J", "uuid": 5}}'
    (tmp_path / "guest").write_bytes(encoded(streams.xl(SAMPLES["libxl-pv"], config=config)))
    out = pyxc("stream", "inspect", str(tmp_path / "guest")).out
    assert "name                   : ?[2J\nuuid                   : -\n" in out
    assert "\x1b" not in out


def test_what_xl_saved(pyxc, tmp_path):
    path = tmp_path / "pvh.save"
    path.write_bytes(streams.recorded_pvh())
    outcome = pyxc("stream", "verify", str(path))
    assert outcome == (
        0, f"{path}: good: PVH guest of Xen 4.17, vcpus 1, memory 16452 KiB, 25224037 bytes\n", ""
    )  # fmt: skip
    found = pyxc("stream", "inspect", str(path), "--json").json
    assert found["types"] == {"NOTAB": 4113, "XTAB": 1040367}
    pv = pyxc("stream", "inspect", str(streams.SAVED / "pv.save.gz"), "--json").json
    assert (pv["compression"], pv["types"]["L4TAB_PIN"], pv["size_bytes"]) == ("gzip", 1, 16821719)


def test_verify(pyxc, saved, cut_off):
    size = saved.stat().st_size
    good = f"{saved}: good: 64-bit PV guest of Xen 4.17, vcpus 2, memory 16 KiB, {size} bytes\n"
    assert pyxc("stream", "verify", str(saved)) == (0, good, "")
    bad = f"pyxc: {cut_off}: the stream ends at byte 20000, inside libxc "
    outcome = pyxc("stream", "verify", str(cut_off))
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(bad)
    outcome = pyxc("stream", "verify", str(saved), str(cut_off))
    assert (outcome.status, outcome.out) == (7, good)
    found = pyxc("stream", "verify", str(saved), str(cut_off), "--json").json
    assert [file["file"] for file in found["files"]] == [str(saved)]
    assert found["failed"][0]["argument"] == str(cut_off)


def test_verify_refuses_more_than_one_stream(pyxc, saved):
    for more in (b"x", bytes(1 << 19)):
        longer = saved.with_name("longer")
        longer.write_bytes(saved.read_bytes() + more)
        outcome = pyxc("stream", "verify", str(longer))
        assert outcome.status == 1
        assert f"more data after the stream's end at byte {saved.stat().st_size}" in outcome.err
        assert pyxc("stream", "inspect", str(longer)).status == 0


def test_verify_refuses_what_cannot_be_written_again(pyxc, saved):
    data = bytearray(saved.read_bytes())
    place = next(unit.place for unit in streams.units(bytes(data)) if unit.place.name == "X86_PV_VCPU_XSAVE")
    data[place.offset + place.size - 1] = 1
    saved.write_bytes(data)
    outcome = pyxc("stream", "verify", str(saved))
    assert outcome.err == f"pyxc: {saved}: {place}: its padding is not zero\n"
    assert pyxc("stream", "inspect", str(saved)).status == 0


def test_from_a_pipe(saved):
    words = [sys.executable, "-m", "pyxc", "stream", "verify", "-"]
    for data in (saved.read_bytes(), gzip.compress(saved.read_bytes())):
        done = subprocess.run(words, input=data, capture_output=True, check=True)
        assert done.stdout.startswith(b"-: good: 64-bit PV guest of Xen 4.17, ")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["stream"], 2),
        (["stream", "inspect"], 2),
        (["stream", "verify"], 2),
        (["stream", "inspect", "/none"], 1),
    ],
)
def test_status_and_one_line(pyxc, words, status):
    outcome = pyxc(*words)
    assert outcome.status == status
    assert len(outcome.err.splitlines()) == 1


def test_a_missing_library_is_named(pyxc, tmp_path, monkeypatch):
    (tmp_path / "guest.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(8))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    outcome = pyxc("stream", "inspect", str(tmp_path / "guest.zst"))
    assert outcome == (
        1, "", "pyxc: zstd needs the Python package zstandard (on Debian: python3-zstandard)\n"
    )  # fmt: skip
