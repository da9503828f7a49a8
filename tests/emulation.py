# SPDX-License-Identifier: MIT
"""Foreign Pythons run under qemu-user, which implements some system calls itself."""

from __future__ import annotations

import os

import pytest

needs_the_kernel = pytest.mark.skipif(
    "PYXC_EMULATED" in os.environ, reason="qemu-user answers here, not the kernel"
)
"""Marks tests of what only a kernel does; `make foreign` sets the variable where it emulates a processor."""
