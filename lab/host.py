# SPDX-License-Identifier: MIT
"""The machine the lab runs on: its tools, its packages, and the user who waits in front of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent
OUTPUT = CHECKOUT / "build" / "lab"

# What signs Debian's archives; of the package debian-archive-keyring.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

POLL_S = 0.2
INTERRUPTED_STATUS = 128 + signal.SIGINT
TERMINATED_STATUS = 128 + signal.SIGTERM

_print_lock = threading.Lock()
_interrupted = threading.Event()


class LabError(Exception):
    """Something the lab needs is missing or failed; the message is for the user, one line where possible."""


def say(text: str) -> None:
    """Print a line of progress on stderr, whole, whichever thread says it."""
    with _print_lock:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Announce WHAT, and its duration in seconds when it is over."""
    say(f"lab: {what} ...")
    start = time.monotonic()
    yield
    say(f"lab: {what}: {time.monotonic() - start:.0f} s")


def interrupt() -> None:
    """End what all threads watch, for good."""
    _interrupted.set()


def interrupted() -> bool:
    """Whether somebody did."""
    return _interrupted.is_set()


def terminated(*_: object) -> NoReturn:
    """Handle SIGTERM as an exception, so that what was started is ended and removed."""
    sys.exit(TERMINATED_STATUS)


def watch(
    command: Sequence[str | Path],
    output: BinaryIO,
    limit_s: float,
    *,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> int | None:
    """Run COMMAND until it ends, the time is up or all is interrupted; it is dead afterwards in any case.

    All that it prints goes to OUTPUT. Its exit code, None if it was not let go on to its end.
    """
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=environment,
    )
    deadline = time.monotonic() + limit_s
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if _interrupted.wait(POLL_S):
                break
        return process.returncode
    finally:
        process.kill()
        process.wait()


def need(packages: Sequence[str]) -> None:
    """Make sure that these Debian packages are installed; raise LabError if they cannot be.

    Root installs what is missing; for other users, who also need uidmap, the error says what to install.
    """
    unprivileged = [] if os.geteuid() == 0 else ["uidmap"]
    done = subprocess.run(
        [CHECKOUT / "tools/need", *packages, *unprivileged],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise LabError(done.stderr.strip())


def call(
    command: Sequence[str | Path], *, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> str:
    """Run COMMAND and return its standard output; raise LabError with the end of its errors when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **environment} if environment else None,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise LabError(f"{command[0]} failed with exit code {done.returncode}:\n{tail}")
    return done.stdout
