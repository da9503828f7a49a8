# SPDX-License-Identifier: MIT
"""core info, core extract, core convert, and dump-core in other formats."""

from __future__ import annotations

from pathlib import Path

import cores
import pytest

PAGES = {0: b"first", 1: b"second", **dict.fromkeys(range(16, 64, 2), b"")}


@pytest.fixture
def dump(tmp_path: Path) -> str:
    path = tmp_path / "web.core"
    path.write_bytes(cores.core(PAGES, [cores.context(rip=0x1234, cr3=0x5000), cores.context()], missing=1))
    return str(path)


def test_info(pyxc, dump):
    outcome = pyxc("core", "info", dump)
    assert (outcome.status, outcome.err) == (0, "")
    rows = dict(line.split(":", 1) for line in outcome.out.splitlines()[:11])
    found = {key.strip(): value.strip() for key, value in rows.items()}
    assert found == {
        "kind": "HVM or PVH",
        "xen": "4.17.6",
        "xen_changeset": "abc",
        "xen_compiler": "gcc",
        "xen_caps": "xen-3.0-x86_64 hvm-3.0-x86_64",
        "vcpus": "2",
        "memory_kb": "104",
        "pages": "26",
        "missing_pages": "1",
        "ranges": "25",
        "size_bytes": str(Path(dump).stat().st_size),
    }
    assert "vcpu 0\nrip 0000000000001234  rsp 0000000000000000\ncr3 0000000000005000\n" in outcome.out
    assert outcome.out.splitlines()[-1] == "and 9 more"
    assert "              rip 0000000000001234" in pyxc("core", "info", "-r", dump).out


def test_info_as_json(pyxc, dump):
    found = pyxc("core", "info", dump, "--json").json
    assert (found["kind"], found["bits"], found["nr_pages"], found["nr_missing"]) == ("hvm", 64, 26, 1)
    assert found["vcpus"][0]["registers"]["rip"] == 0x1234
    assert found["ranges"][:2] == [{"first_gfn": 0, "nr_pages": 2}, {"first_gfn": 16, "nr_pages": 1}]
    assert found["xen"]["capabilities"] == ["xen-3.0-x86_64", "hvm-3.0-x86_64"]


def test_extract(pyxc, dump, tmp_path):
    out = tmp_path / "pages"
    words = ("core", "extract", "--provenance", "none", "--force", dump)
    for text, pages, missing in (("1", 1, 0), ("0x0-0x1", 2, 0), ("0+3", 3, 1), ("0-0x10", 17, 14)):
        outcome = pyxc(*words, text, str(out))
        said = f"{missing} of {pages} pages are not in the dump: they are zeros\n" if missing else ""
        assert outcome == (0, said, "")
        assert out.stat().st_size == pages * cores.PAGE
    found = pyxc(*words, "0+3", str(out), "--json").json
    assert (found["nr_pages"], found["nr_missing"]) == (2, 1)
    for text in ("x", "", "5-4", "5+0", "-1", "1-", "0x", "1" * 30):
        outcome = pyxc(*words[:-1], "--", dump, text, str(out))
        assert (outcome.status, outcome.err[:11]) == (2, "pyxc: GFN: "), text
    outcome = pyxc(*words, "3", str(out))
    assert (outcome.status, "none of these pages" in outcome.err) == (1, True)


def test_what_is_no_dump(pyxc, dump, tmp_path):
    data = Path(dump).read_bytes()
    for content in (b"", b"something else", data[:-1], data[:5000]):
        Path(dump).write_bytes(content)
        outcome = pyxc("core", "info", dump)
        assert (outcome.status, outcome.out) == (1, "")
        assert "at byte 0x" in outcome.err


INFO = b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(a)=1\nNUMBER(b)=2\n"
NO_KERNEL = "no VMCOREINFO was found: is it a guest with Linux?\n"


def test_convert(pyxc, dump, tmp_path):
    out, info = str(tmp_path / "vmcore"), tmp_path / "info"
    info.write_bytes(INFO)
    words = ("core", "convert", "--provenance", "none", dump, out)
    assert pyxc(*words) == (0, NO_KERNEL, "")
    assert pyxc(*words, "--vmcoreinfo", str(info)) == (0, "Linux 6.1.0\n", "")
    found = pyxc(*words, "--vmcoreinfo", str(info), "--json").json
    assert (found["nr_pages"], found["nr_segments"], found["kernel"]) == (26, 25, "6.1.0")
    compressed = pyxc(*words[:-1], out + "2", "--format", "kdump", "--vmcoreinfo", str(info))
    assert compressed == (0, "Linux 6.1.0\n", "")
    assert Path(out + "2").read_bytes()[:8] == b"KDUMP   "
    info.write_bytes(b"something else")
    outcome = pyxc(*words, "--vmcoreinfo", str(info))
    assert (outcome.status, "not a VMCOREINFO" in outcome.err) == (1, True)
    Path(out).write_bytes(b"something else")
    outcome = pyxc(*words)
    assert (outcome.status, "not a vmcore file" in outcome.err) == (1, True)
    assert pyxc(*words, "--force").status == 0


def test_dump_core_as_a_vmcore(pyxc, tmp_path):
    out = tmp_path / "vmcore"
    words = ("dump-core", "--target", "sim:", "--provenance", "none", "build", str(out))
    assert pyxc(*words, "--format", "vmcore") == (0, NO_KERNEL, "")
    assert out.read_bytes()[:4] == b"\x7fELF"
    outcome = pyxc(*words, "--vmcoreinfo", str(out))
    assert (outcome.status, outcome.err) == (2, "pyxc: --vmcoreinfo is for --format vmcore or kdump\n")
