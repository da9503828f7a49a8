# SPDX-License-Identifier: MIT
"""What tests of faults need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from operations import KERNEL

from pyxc import sim


@pytest.fixture(autouse=True, scope="session")
def kernel() -> Iterator[None]:
    KERNEL.write_bytes(sim.kernel("pvh"))
    yield
    KERNEL.unlink()
