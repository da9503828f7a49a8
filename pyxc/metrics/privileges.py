# SPDX-License-Identifier: MIT
"""Giving root up, once all is open that needs it."""

from __future__ import annotations

import os
import pwd


def drop_root(user: str) -> None:
    """Permanently become a user, with only its group: afterwards nothing that needs root can be opened.

    What is open stays. Nothing happens in a process that is not root's. ValueError for a user that is not
    known; OSError.
    """
    if os.getuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise ValueError(f"this host has no user {user!r}") from error
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
