# SPDX-License-Identifier: MIT
"""Whether assumed layouts are those of the hypervisor: measured with too much space, by what it writes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyxc import errors
from pyxc.abi.operation import Operation, Stride
from pyxc.call.plan import Plan
from pyxc.link.exchange import Placement

_SPACE = 4096

Issue = Callable[[Plan, list[Any], tuple[Placement, ...]], tuple[int, bytes, Sequence[bytes]]]
"""Caller's own function that issues a call once it is laid out."""


def measure(
    issue: Issue,
    plan: Plan,
    values: list[Any],
    placements: Mapping[str, Placement],
    unmeasured: Mapping[str, Stride],
) -> list[str]:
    """Call with more space than the lists need, and compare how much of it is written with the layouts.

    Returns the names of the lists that had items, and so could be measured. VersionMismatch.
    """
    written = dict.fromkeys(placements, 0)
    result, answer = 0, b""
    for filler in (b"\xa5", b"\x5a"):
        roomy = tuple((at, _with_space(content, filler)) for at, content in placements.values())
        result, answer, buffers = issue(plan, values.copy(), roomy)
        if result < 0:
            return []  # the real call follows, and reports the failure
        for name, content in zip(placements, buffers):
            written[name] = max(written[name], len(content.rstrip(filler)))
    measured = []
    for name, (item, filled) in unmeasured.items():
        count = plan.layout.unpack(answer)[filled] if filled else result
        expected = count * item.at(plan.interface).size
        if written[name] != expected:
            what = f"{count} x {item.name}"
            hint = f"this hypervisor writes {written[name]} bytes for {what}; pyxc expects {expected}"
            raise _mismatch(plan, hint)
        if count:
            measured.append(name)
    return measured


def _mismatch(plan: Plan, hint: str) -> errors.VersionMismatch:
    operation: Operation = plan.operation
    version = plan.interface.number(operation.family.name)
    return errors.VersionMismatch(errno.EINVAL, operation.full_name, interface_version=version, hint=hint)


def _with_space(content: bytes | int, filler: bytes) -> bytes:
    """A buffer with space for structures up to four times as large, filled with a pattern."""
    start = b"" if isinstance(content, int) else content
    size = content if isinstance(content, int) else len(content)
    return start.ljust(4 * size + _SPACE, filler)
