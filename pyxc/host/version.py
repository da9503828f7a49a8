# SPDX-License-Identifier: MIT
"""The version of a hypervisor and facts about its build. Threads: safe to share."""

from __future__ import annotations

from typing import NamedTuple


class Version(NamedTuple):
    """The version of Xen (xen_version, public/version.h).

    Example:

    >>> str(xen.version), xen.version.minor
    ('4.17.7', 17)
    """

    major: int
    minor: int
    extra: str

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{self.extra}"


class Build(NamedTuple):
    """Facts about its build (xen_version compile_info, changeset, build_id). `build_id` is hex digits.

    Example:

    >>> xen.build.compile_date
    'Wed Jul 29 13:37:29 UTC 2026'
    """

    compiler: str
    compile_by: str
    compile_domain: str
    compile_date: str
    changeset: str
    build_id: str | None


def text(raw: bytes) -> str:
    """A string of the hypervisor, up to the first NUL."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
