# SPDX-License-Identifier: MIT
"""A cache of what is slow to make. The name of an entry has a hash of what the entry is made from."""

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
    """A short hash of the repr of `recipe`, which has to contain all that decides what is made."""
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache, against other threads and processes."""
    with open(directory() / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(name: str, recipe: object, make: Callable[[Path], None]) -> Path:
    """The directory of an entry. If it does not exist, `make` fills an empty directory.

    That one is renamed when it is complete, so an interrupted run leaves no incomplete entry. A lock keeps
    other threads and processes from creating the same entry at the same time.
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
