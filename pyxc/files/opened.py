# SPDX-License-Identifier: MIT
"""Opening a file by its name without opening what it must not be: to open a device alone can do something."""

from __future__ import annotations

import os
from collections.abc import Callable

_LOOK = os.O_PATH | os.O_CLOEXEC
_OPEN = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_checked(
    path: str | os.PathLike[str],
    check: Callable[[int], None],
    *,
    flags: int = os.O_RDONLY,
    directory: int | None = None,
) -> int:
    """A descriptor of what a name leads to, after check(mode) has let it pass.

    What is looked at is what is opened, whatever becomes of the name meanwhile. `flags` with O_NOFOLLOW do
    not follow a symbolic link, which is looked at itself. OSError, and what `check` raises.
    """
    seen = os.open(path, _LOOK | flags & os.O_NOFOLLOW, dir_fd=directory)
    try:
        check(os.fstat(seen).st_mode)
        return os.open(f"/proc/self/fd/{seen}", flags & ~os.O_NOFOLLOW | _OPEN)
    finally:
        os.close(seen)
