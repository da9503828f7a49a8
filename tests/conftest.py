# SPDX-License-Identifier: MIT
"""For every test that needs no Xen."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyxc.files import labels

try:
    from hypothesis import settings
except ImportError:  # dom0 in the lab has none, and tests there need none
    pass
else:
    # How long an example takes depends on what else this machine does.
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")

CHECKOUT = Path(__file__).parent.parent


def _keeps_attributes(directory: Path) -> bool:
    try:
        os.setxattr(directory, "user.pyxc.probe", b"")
        os.removexattr(directory, "user.pyxc.probe")
    except OSError:
        return False
    return True


@pytest.fixture
def attributes_directory(tmp_path: Path) -> Iterator[Path]:
    """An empty directory on a file system that keeps user attributes; tmpfs does so from Linux 6.6 on."""
    if _keeps_attributes(tmp_path):
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(prefix="attributes-", dir=_other_place()))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def image(attributes_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file that can be labelled: in a user attribute where trusted ones cannot be set."""
    file = attributes_directory / "disk.img"
    file.touch()
    try:
        os.setxattr(file, labels.ATTRIBUTE, b"")
        os.removexattr(file, labels.ATTRIBUTE)
    except OSError:
        monkeypatch.setattr(labels, "ATTRIBUTE", "user.pyxc.seclabel")
    return file


def _other_place() -> Path:
    for place in (CHECKOUT, Path.home(), Path("/var/tmp")):
        if os.access(place, os.W_OK) and _keeps_attributes(place):
            return place
    pytest.skip("no file system here keeps user attributes")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The result as one plain line, in the same words with every pytest and under every option."""
    failed = sum(len(terminalreporter.getreports(outcome)) for outcome in ("failed", "error"))
    terminalreporter.line(f"{len(terminalreporter.getreports('passed'))} passed, {failed} failed")
