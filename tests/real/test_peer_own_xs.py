# SPDX-License-Identifier: MIT
"""Xen's own xen.lowlevel.xs, of this Python's width, beside pyxc's."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat
from types import ModuleType

import pytest
from ground_truth import Peer
from storescripts import compat, differences, recorded

from pyxc import sim
from pyxc.compat import xs
from pyxc.sim.xenstored.listener import Listener


@pytest.fixture
def own(peer: Peer) -> Iterator[ModuleType]:
    """Xen's own module, without its package: a process may have pyxc's under that name."""
    if sys.maxsize < 2**32:
        pytest.skip("Xen's own module is for a 64-bit Python")
    (path,) = peer.root.glob("usr/lib/xen-*/lib/python/xen/lowlevel/xs.*.so")
    spec = importlib.util.spec_from_file_location("xs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module


def _assert_same(one: dict[str, object], other: dict[str, object]) -> None:
    different = differences(one, other)
    assert not different, pformat(different)


def test_both_do_the_same_on_the_real_daemon(own: ModuleType) -> None:
    outcomes = compat.run(own)
    _assert_same(outcomes, compat.run(xs))
    _assert_same(outcomes, recorded("compat"))


def test_xens_own_finds_in_the_simulated_daemon_what_it_finds_in_the_real_one(
    own: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path("/run/pyxc-test-own-xs")
    path.unlink(missing_ok=True)
    monkeypatch.setenv("XENSTORED_PATH", str(path))
    hypervisor = sim.Hypervisor(sim.named("sim:xen-4.17"))
    with Listener(hypervisor.store, path):
        _assert_same(compat.run(own), recorded("compat"))
