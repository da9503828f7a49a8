# SPDX-License-Identifier: MIT
"""For every test that needs no Xen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attributes import removexattr, setxattr

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

# Prefixes of variables that change what a program prints or which host it asks; Python's that select what is
# tested stay.
DECIDING = (
    "CLICOLOR", "COLUMNS", "FORCE_COLOR", "LANG", "LC_", "LINES", "MAN", "NO_COLOR", "PAGER", "PYTHON",
    "PYXC_ASSUME", "PYXC_TARGET", "PYXC_TRACE", "XENSTORED_",
)  # fmt: skip
KEPT = {
    "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONHOME", "PYTHONMALLOC", "PYTHONPATH", "PYTHONSAFEPATH",
}  # fmt: skip
# Python itself ignores these, and restores them in the programs that it starts.
IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session", autouse=True)
def defaults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests must not depend on what this process inherited: signals, umask, environment.

    A shell starts background jobs with SIGINT ignored, and all their children inherit that.
    """
    with pytest.MonkeyPatch.context() as patch, _default_signals():
        for name in os.environ:
            if name.startswith(DECIDING) and name not in KEPT:
                patch.delenv(name)
        patch.setenv("LC_ALL", "C.UTF-8")
        patch.setenv("TERM", "dumb")
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        umask = os.umask(0o022)
        yield
        os.umask(umask)


@contextlib.contextmanager
def _default_signals() -> Iterator[None]:
    ignored = [
        number
        for number in signal.valid_signals() - IGNORED_BY_PYTHON
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.fixture
def plain_directory() -> Iterator[Path]:
    """An empty directory whose path is short enough for sockets and has no spaces, wherever TMPDIR is."""
    with tempfile.TemporaryDirectory(prefix="pyxc-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts a process, as Popen does. When the test ends, the process is killed."""
    with contextlib.ExitStack() as ends:

        def begin(*words: str, **options: Any) -> subprocess.Popen[str]:
            process = ends.enter_context(subprocess.Popen(words, text=True, **options))
            ends.callback(process.kill)
            return process

        yield begin


def _keeps_attributes(directory: Path) -> bool:
    try:
        setxattr(directory, "user.pyxc.probe", b"")
        removexattr(directory, "user.pyxc.probe")
    except OSError:
        return False
    return True


@pytest.fixture
def attributes_directory(tmp_path: Path) -> Iterator[Path]:
    """An empty directory on a file system that keeps user attributes, as tmpfs does since Linux 6.6."""
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
        setxattr(file, labels.ATTRIBUTE, b"")
        removexattr(file, labels.ATTRIBUTE)
    except OSError:
        monkeypatch.setattr(labels, "ATTRIBUTE", "user.pyxc.seclabel")
    return file


def _other_place() -> Path:
    for place in (CHECKOUT, Path("/var/tmp")):
        if os.access(place, os.W_OK) and _keeps_attributes(place):
            return place
    pytest.skip("no file system here keeps user attributes")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The result as one line, which is the same with every pytest and every option."""
    failed = sum(len(terminalreporter.getreports(outcome)) for outcome in ("failed", "error"))
    terminalreporter.line(f"{len(terminalreporter.getreports('passed'))} passed, {failed} failed")
