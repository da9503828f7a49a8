# SPDX-License-Identifier: MIT
"""Unfinished files: those that nobody writes any more."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pyxc.files.parts import abandoned
from pyxc.files.provenance import DomainOrigin
from pyxc.files.writer import ProvenanceFile

WRITER = """
import sys, time
from pyxc.files.writer import ProvenanceFile
with ProvenanceFile(sys.argv[1], "core") as file:
    file.stream.write(b"x" * 5000)
    file.stream.flush()
    print("begun", flush=True)
    time.sleep(60)
"""


def test_what_is_being_written_is_not_left_and_what_was_killed_is(tmp_path: Path, start: Any) -> None:
    writer = start(sys.executable, "-c", WRITER, str(tmp_path / "core"), stdout=-1)
    assert writer.stdout is not None
    writer.stdout.readline()
    assert abandoned(tmp_path) == []
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    (left,) = abandoned(tmp_path)
    assert (left.kind, left.subject) == ("file", str(tmp_path / "core.part"))
    with ProvenanceFile(tmp_path / "core", "core", replace=True) as file:
        file.stream.write(b"again")
    assert abandoned(tmp_path) == []
    assert (tmp_path / "core").read_bytes() == b"again"


def test_it_says_whose_dump_it_is(attributes_directory: Path) -> None:
    domain = DomainOrigin(7, "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01", "web1")
    file = ProvenanceFile(attributes_directory / "core", "core", domain=domain)
    file.stream.write(b"some")
    file.close()
    (left,) = abandoned(attributes_directory)
    assert left.found == "an unfinished core file of domain 7, whose writer has ended"


def test_what_no_writer_makes_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.part")
    (tmp_path / "dir.part").mkdir()
    (tmp_path / "link.part").symlink_to("/etc/passwd")
    (tmp_path / "whole").write_bytes(b"x")
    (tmp_path / "foreign.part").write_bytes(b"no file of pyxc's")
    (left,) = abandoned(tmp_path)
    assert left.subject.endswith("foreign.part") and left.found.startswith("an unfinished file")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        abandoned(tmp_path / "absent")
