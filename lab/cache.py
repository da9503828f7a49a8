# SPDX-License-Identifier: MIT
"""Things that are slow to make are made once, under a name that is a hash of what they are made from."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lab import host


def directory() -> Path:
    """The cache: $PYXC_CACHE, else ~/.cache/pyxc."""
    path = Path(os.environ.get("PYXC_CACHE") or Path.home() / ".cache" / "pyxc")
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(recipe: object) -> str:
    """A short hash of RECIPE's repr: whatever changes what is made belongs in it."""
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock NAME, against other threads and other runs."""
    with open(directory() / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(name: str, recipe: object, make: Callable[[Path], None]) -> Path:
    """The directory NAME-<key of RECIPE>; made by MAKE(empty directory) when there is none yet.

    It is made aside and renamed when complete: an interrupted run leaves nothing that looks like one. A lock
    keeps two runs (or two lanes of one) from making the same thing twice.
    """
    final = directory() / f"{name}-{key(recipe)}"
    with locked(final.name):
        if not final.exists():
            with tempfile.TemporaryDirectory(
                prefix=".making-", dir=directory(), ignore_cleanup_errors=True
            ) as scratch:
                made = Path(scratch) / "entry"
                made.mkdir()
                with host.step(f"making {final.name}"):
                    make(made)
                made.rename(final)
    return final
