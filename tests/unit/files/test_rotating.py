# SPDX-License-Identifier: MIT
"""Logs of bounded size."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyxc.files.rotating import RotatingLog


def test_a_log_is_cut_into_files_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "web1.log"
    with RotatingLog(path, most_bytes=10, keep=2) as log:
        for number in range(10):
            log.write(b"line %d\n" % number)
        log.write(b"x" * 25)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(files) == {"web1.log", "web1.log.1", "web1.log.2"}
    assert all(len(content) <= 10 for content in files.values())
    whole = files["web1.log.2"] + files["web1.log.1"] + files["web1.log"]
    assert whole == (b"".join(b"line %d\n" % n for n in range(10)) + b"x" * 25)[-len(whole) :]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_goes_on(tmp_path: Path) -> None:
    for text in (b"one", b"two"):
        with RotatingLog(tmp_path / "log", most_bytes=4, keep=1) as log:
            log.write(text)
    assert ((tmp_path / "log.1").read_bytes(), (tmp_path / "log").read_bytes()) == (b"onet", b"wo")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="(?i)symbolic"):
        RotatingLog(tmp_path / "log")
    with pytest.raises(ValueError, match="keep"):
        RotatingLog(tmp_path / "other", keep=0)
