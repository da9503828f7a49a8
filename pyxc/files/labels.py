# SPDX-License-Identifier: MIT
"""Security labels of the files that domains use: kernels, ramdisks, disks, configurations.

A label is a FLASK context like "tenant1:vm_r:disk_t:s0", in the attribute trusted.pyxc.seclabel of a file or
of a block device's node. Xen does not know it. It prevents mix-ups, and does not protect against dom0's root.
A file without a label is unknown, never trusted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pyxc.errors import DecodeError, LabelConflict, LabelNotFound
from pyxc.files import xattrs
from pyxc.files.xattrs import Attributes

if TYPE_CHECKING:
    from pyxc.host.flask import Flask

ATTRIBUTE = "trusted.pyxc.seclabel"
MOST_BYTES = 255

Path = str | os.PathLike[str]
Validate = Callable[[str], object]
"""A function that raises if the hypervisor's policy does not know a label: xen.flask.sid does."""
Access = Callable[[str, str], bool]
"""Whether the hypervisor's policy allows a subject's label to use a file's label; see policy_access()."""

_OBJECT_ROLE = "object_r"
_ALLOWED = frozenset(string.ascii_letters + string.digits + string.punctuation)


class Presence(Enum):
    """The expected state of a file before its label changes."""

    ANY = "any label or none"
    ABSENT = "no label"
    PRESENT = "a label"


class Source(Enum):
    """The basis of a decision."""

    POLICY = "policy"
    EQUALITY = "equality"
    NO_LABEL = "no-label"


class Context(NamedTuple):
    """The parts of a label; `levels` is the MLS range, None in policies without."""

    user: str
    role: str
    type: str
    levels: str | None

    @classmethod
    def parse(cls, label: str) -> Context:
        """ValueError unless it is user:role:type or user:role:type:levels, in printable ASCII."""
        if not 0 < len(label) <= MOST_BYTES or not _ALLOWED.issuperset(label):
            raise ValueError(
                f"{label!r} is not a label: expected 1 to {MOST_BYTES} ASCII characters, no spaces"
            )
        parts = label.split(":", 3)
        if len(parts) < 3 or not all(parts):
            raise ValueError(f"{label!r} is not a label: expected user:role:type or user:role:type:levels")
        return cls(parts[0], parts[1], parts[2], parts[3] if len(parts) > 3 else None)


class Decision(NamedTuple):
    """Whether a file may be used for a subject, and why. `allowed` is None if that is unknown."""

    path: str
    subject: str
    label: str | None
    allowed: bool | None
    source: Source
    reason: str


def get(path: Path) -> str | None:
    """A file's label, None if it has none.

    DecodeError if the attribute is not a label; AttributeForbidden if it cannot be read.
    """
    with xattrs.opened(path) as attributes:
        return _decoded(attributes, attributes.get(ATTRIBUTE))


def put(
    path: Path,
    label: str,
    *,
    expect: str | Presence = Presence.ANY,
    validate: Validate | None = None,
) -> None:
    """Set a file's label. `expect` is the label that it must have now, or whether it must have one.

    Comparing and setting are one atomic step among programs that use this function. ValueError for an invalid
    label, and the errors of `validate`; LabelConflict if the file does not have the expected label;
    BlockingIOError while another process holds a lock on it; AttributeForbidden, AttributeUnsupported.
    """
    Context.parse(label)
    if validate:
        validate(label)
    with _as_expected(path, expect) as (attributes, present):
        flags = 0 if expect is Presence.ANY else xattrs.REPLACE if present else xattrs.CREATE
        try:
            attributes.set(ATTRIBUTE, label.encode("ascii"), flags)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENODATA):
                raise LabelConflict(
                    f"{attributes.path}: another process has just changed its label"
                ) from error
            raise


def remove(path: Path, *, expect: str | Presence = Presence.ANY) -> bool:
    """Remove a file's label; returns whether it had one. Errors as for put()."""
    with _as_expected(path, expect) as (attributes, _):
        return attributes.remove(ATTRIBUTE)


@contextmanager
def _as_expected(path: Path, expect: str | Presence) -> Iterator[tuple[Attributes, bool]]:
    """A file's attributes, locked, and whether it has a label, after the check of `expect`."""
    with xattrs.opened(path) as attributes:
        _lock(attributes)
        value = attributes.get(ATTRIBUTE)
        present = value is not None
        if isinstance(expect, str):
            right = value == expect.encode()
        else:
            right = expect is Presence.ANY or present == (expect is Presence.PRESENT)
        if not right:
            wanted = expect.value if isinstance(expect, Presence) else f"the label {expect!r}"
            found = "no label" if value is None else f"the label {_shown(value)}"
            raise LabelConflict(f"{attributes.path}: expected {wanted}, but it has {found}")
        yield attributes, present


def _lock(attributes: Attributes) -> None:
    try:
        fcntl.flock(attributes.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(error.errno, "locked by another process", attributes.path) from error


def _decoded(attributes: Attributes, value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        label = value.decode("ascii")
        Context.parse(label)
    except ValueError as error:
        text = f"{attributes.path}: {ATTRIBUTE} is {_shown(value)}, which is not a label"
        raise DecodeError(text) from error
    return label


def _shown(value: bytes) -> str:
    """The arbitrary contents of an attribute, limited to the length of a label."""
    return ascii(value[:MOST_BYTES].decode("utf-8", "backslashreplace"))


def decide(subject: str, path: Path, access: Access | None = None) -> Decision:
    """Whether a file may be used for a domain with the label `subject`; changes nothing.

    `access` asks the hypervisor's policy. Without it, both labels must belong to the same tenant: they must
    have the same user, MLS range and role. The file's role object_r, which policies give to everything that
    is not a domain, matches every role. ValueError for an invalid label of the subject; OSError as for get(),
    and the errors of `access` except LabelNotFound: a label that the policy does not know counts as none.
    """
    mine = Context.parse(subject)
    shown = os.fspath(path)
    try:
        label = get(path)
    except DecodeError as error:
        return Decision(shown, subject, None, None, Source.NO_LABEL, str(error))
    if label is None:
        return Decision(shown, subject, None, None, Source.NO_LABEL, "the file has no label")
    if access:
        try:
            allowed = access(subject, label)
        except LabelNotFound as error:
            return Decision(shown, subject, label, None, Source.POLICY, error.hint)
        reason = f"the policy {'allows' if allowed else 'does not allow'} {subject} to use {label}"
        return Decision(shown, subject, label, allowed, Source.POLICY, reason)
    differing = _differences(mine, Context.parse(label))
    outcome = f"differ in {' and '.join(differing)}" if differing else "belong to the same tenant"
    reason = f"{subject} and {label} {outcome}"
    return Decision(shown, subject, label, not differing, Source.EQUALITY, reason)


def policy_access(flask: Flask, tclass: str, permission: str) -> Access:
    """A function that asks the policy for a permission of a class of objects with rules about files."""
    return lambda subject, label: permission in flask.access(subject, label, tclass)


def _differences(subject: Context, image: Context) -> list[str]:
    """The differences of two labels that do not belong to the same tenant."""
    roles = (subject.role, _OBJECT_ROLE)
    same = {
        "user": subject.user == image.user,
        "role": image.role in roles,
        "MLS range": subject.levels == image.levels,
    }
    return [name for name, equal in same.items() if not equal]
