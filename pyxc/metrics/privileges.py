# SPDX-License-Identifier: MIT
"""Giving root up, once all is open that needs it."""

from __future__ import annotations

import os
import pwd


def drop_root(user: str) -> None:
    """Become a user for good, with its group alone: nothing that needs root can be opened any more.

    What is open stays. Nothing happens in a process that is not root's. ValueError for a user that is not
    known; OSError.
    """
    if os.getuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise ValueError(f"there is no user {user!r} on this host") from error
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
