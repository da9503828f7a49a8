# SPDX-License-Identifier: MIT
"""Hosts that are checked for leaks: after a test, no buffer or mapping of the library may be left."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import hosts
import pytest
from hosts import Bind, Boot, Host

from pyxc.compat import target
from pyxc.compat.xc import xc


@pytest.fixture
def boot() -> Iterator[Boot]:
    """A function that boots hosts: boot("4.20", readonly=True). Each is checked for leaks at the end."""
    booted: list[Host] = []

    def make(release: str = "4.17", **options: Any) -> Host:
        booted.append(hosts.start(release, **options))
        return booted[-1]

    yield make
    for host in booted:
        assert host.link.pool.outstanding == 0, "a call kept its buffers"
        assert [mapped for mapped in host.link.maps if not mapped.closed] == [], "a mapping stayed open"
        listeners = host.truth.domains[0].ports.listeners
        assert len(listeners) == host.truth.store_runs, "event channels stayed open"
        host.xen.close()


@pytest.fixture
def host(boot: Boot) -> Host:
    """A host of the default release."""
    return boot()


@pytest.fixture(params=hosts.RELEASES)
def any_host(request: pytest.FixtureRequest, boot: Boot) -> Host:
    """A host of each release."""
    return boot(request.param)


@pytest.fixture
def bind(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bind]:
    """A function that opens xen.lowlevel.xc on a freshly booted host: bind("4.20"). Checked for leaks."""
    opened: list[xc] = []

    def make(release: str = "4.17") -> xc:
        monkeypatch.setenv("PYXC_TARGET", release if release.startswith("sim:") else f"sim:xen-{release}")
        target.host.cache_clear()
        opened.append(xc())
        return opened[-1]

    yield make
    for binding in opened:
        assert binding._open.link.pool.outstanding == 0, "a call kept its buffers"
        assert binding._open.link.maps == [], "a mapping stayed open"
    target.host.cache_clear()


@pytest.fixture
def libxc(bind: Bind) -> xc:
    """xen.lowlevel.xc on a host of the default release."""
    return bind()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Hosts of earlier tests, and their descriptors, are not collected during this test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
