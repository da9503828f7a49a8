# SPDX-License-Identifier: MIT
"""The machine that the lab runs on: its packages, its processes, and messages to the user."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
    """Something that the lab needs is missing or failed. The message is for the user."""


def say(text: str) -> None:
    """Print a line of progress on stderr. Threads: lines are not mixed."""
    with _print_lock:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Print what is done, and when it is done how many seconds it took."""
    say(f"lab: {what} ...")
    start = time.monotonic()
    yield
    say(f"lab: {what}: {time.monotonic() - start:.0f} s")


def interrupt() -> None:
    """End what all threads watch, now and later."""
    _interrupted.set()


def interrupted() -> bool:
    """Whether interrupt() was called."""
    return _interrupted.is_set()


def terminated(*_: object) -> NoReturn:
    """Handle SIGTERM as an exception, so that what was started is ended and removed."""
    sys.exit(TERMINATED_STATUS)


def watch(
    command: Sequence[str | Path],
    output: BinaryIO,
    limit_s: float,
    *,
    alive: Callable[[], bool] = lambda: True,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> int | None:
    """Run a command until it ends, the time is up or interrupt() is called. It never outlives the call.

    It is also ended once it is not `alive`. All that it prints goes to `output`. Returns its exit code, or
    None if it was killed.
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
        while process.poll() is None and time.monotonic() < deadline and alive():
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
    """Run a command and return its standard output. LabError with the end of its output if it fails."""
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
