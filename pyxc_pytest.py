# SPDX-License-Identifier: MIT
"""Fixtures for tests of programs that use pyxc: simulated hosts. pytest loads them where pyxc is installed.

pyxc itself is imported by the fixtures, so that tests without them do not pay for it, and its coverage begins
in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import pyxc
    from pyxc import sim
    from pyxc.link import Gate, Link
    from pyxc.link.faults import FaultLink

_DEFAULT = "sim:xen-4.17"
_MARKER = "sim_host(*targets, with_guests=True, with_store=True): the simulated hosts that a test runs on"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    parser.addini("sim_hosts", "targets of sim_host, for tests without a marker", "args", [_DEFAULT])
    # pytest rewrites the assertions of a plugin's whole distribution. Those of pyxc are not a test's, and
    # where the result cannot be cached, each run would take half a second longer.
    hook = getattr(pluginmanager, "rewrite_hook", None)
    getattr(hook, "_must_rewrite", set[str]()).discard("pyxc")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sim_target" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("sim_host")
        targets = marker.args if marker and marker.args else metafunc.config.getini("sim_hosts")
        metafunc.parametrize("sim_target", targets, indirect=True)


@pytest.fixture
def sim_target(request: pytest.FixtureRequest) -> str:
    """The target of the simulated host, as "sim:xen-4.17"."""
    return str(getattr(request, "param", _DEFAULT))


@pytest.fixture
def sim_host(
    sim_target: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> sim.Hypervisor:
    """A freshly booted simulated host, which pyxc.open() and pyxc.open_store() open during the test."""
    from pyxc import sim

    marker = request.node.get_closest_marker("sim_host")
    host = sim.Hypervisor(sim.named(sim_target), **(marker.kwargs if marker else {}))
    host.serve_devices()
    _open_instead(lambda: host.connect(sim_target), monkeypatch)
    return host


@pytest.fixture
def sim_link(
    sim_host: sim.Hypervisor, sim_target: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultLink]:
    """The link that pyxc.open() opens during the test, any number of times: its calls can be made to fail."""
    from pyxc.link.faults import FaultLink

    class Lasting(FaultLink):
        def close(self) -> None:
            """What one part of a program closes the next one opens again."""

    inner = sim_host.connect(sim_target)
    link = Lasting(inner)
    _open_instead(lambda: link, monkeypatch)
    yield link
    inner.close()


@pytest.fixture
def xen(sim_host: sim.Hypervisor, sim_target: str) -> Iterator[pyxc.Xen]:
    """The simulated host, opened; it is closed after the test."""
    import pyxc

    with pyxc.connect(sim_host.connect(sim_target)) as xen:
        yield xen


def _open_instead(make: Callable[[], Link], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that opens the hypervisor without naming a target gets the link that `make` makes."""
    from pyxc import opening

    def open_link(target: str | None, gate: Gate = "auto") -> Link:
        return make() if target is None else named(target, gate)

    named = opening.open_link
    monkeypatch.setattr(opening, "open_link", open_link)
    monkeypatch.setattr(opening, "connect_store", lambda: make().connect_store())
    monkeypatch.delenv("PYXC_TARGET", raising=False)
