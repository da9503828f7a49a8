# SPDX-License-Identifier: MIT
"""Tests on a real hypervisor. PYXC_TEST_XEN: 1 runs them anywhere, 0 skips them, unset asks the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DEVICES = (Path("/dev/xen/privcmd"), Path("/proc/xen/privcmd"))


def _reason_to_skip() -> str | None:
    wanted = os.environ.get("PYXC_TEST_XEN", "")
    if wanted not in ("", "0", "1"):
        raise pytest.UsageError(f"PYXC_TEST_XEN is {wanted!r}, not 0 or 1")
    if wanted == "0":
        return "PYXC_TEST_XEN=0"
    if wanted == "1" or any(os.access(device, os.R_OK | os.W_OK) for device in DEVICES):
        return None
    return f"no dom0 of a Xen: cannot open {' or '.join(map(str, DEVICES))}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _reason_to_skip()
    if reason is None:
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))
