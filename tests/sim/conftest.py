# SPDX-License-Identifier: MIT
"""A client that speaks bytes: it packs with the layouts itself, nothing stands between test and simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from dom0_op_bytes import OldXen

from pyxc import sim
from pyxc._core import Arena
from pyxc.abi.operation import Operation
from pyxc.sim import Hypervisor, SimLink


class Answer(NamedTuple):
    """The hypercall's result and the structure's fields afterwards."""

    result: int
    fields: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


class Client:
    """Issues operations on one link of a simulated host."""

    def __init__(self, link: SimLink) -> None:
        self.link = link
        self.xen: Hypervisor = link.hypervisor
        self.interface = link.hypervisor.interface
        self._arenas: list[Arena] = []

    def buffer(self, content: bytes | int) -> Arena:
        """Registered memory with some content, or so many zero bytes."""
        data = bytes(content) if isinstance(content, int) else content
        arena = self.link.pool.take(max(1, len(data)))
        arena.view[: len(data)] = data
        self._arenas.append(arena)
        return arena

    def call(self, operation: Operation, domid: int | None = None, /, **fields: Any) -> Answer:
        """One operation with its structure in a buffer of its own."""
        layout = operation.at(self.interface)
        if not layout.size:
            return Answer(self.link.hypercall(operation.family.hypercall, operation.command), {})
        values = {**self._envelope(operation, layout.names, domid), **operation.fixed, **fields}
        arena = self.buffer(layout.pack(values))
        result = self.raw(operation, arena.address)
        return Answer(result, layout.unpack(arena.view))

    def raw(self, operation: Operation, address: int) -> int:
        """One operation whose structure lies at an address, real or not."""
        family = operation.family
        arguments = (operation.command, address) if family.command_argument else (address,)
        return self.link.hypercall(family.hypercall, *arguments, *family.extra)

    def _envelope(self, operation: Operation, names: tuple[str, ...], domid: int | None) -> dict[str, int]:
        version = self.interface.number(operation.family.name) or 0
        values = {"cmd": operation.command, "interface_version": version}
        place = next((name for name in ("domid", "dom", "domain_id") if name in names), "")
        if domid is not None and place:
            values[place] = domid
        return {name: value for name, value in values.items() if name in names}

    def close(self) -> None:
        for arena in self._arenas:
            arena.release()
        self.link.close()


@pytest.fixture(params=sorted(target for target in sim.PROFILES if sim.named(target).interface.domctl))
def any_client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of each release that has domctl."""
    yield from _serve(request.param)


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of the default release."""
    yield from _serve(sim.DEFAULT)


@pytest.fixture
def client_of() -> Iterator[Any]:
    """A function that makes clients by release, such as (4, 14)."""
    opened: list[Client] = []

    def make(release: tuple[int, int]) -> Client:
        opened.append(Client(sim.connect(f"sim:xen-{release[0]}.{release[1]}")))
        return opened[-1]

    yield make
    for made in opened:
        made.close()


@pytest.fixture(params=["sim:ppc64", "sim:xen-3.0"])
def old(request: pytest.FixtureRequest) -> Iterator[OldXen]:
    """A Xen of 2006, big-endian and little-endian."""
    made = OldXen(request.param)
    yield made
    made.close()


@pytest.fixture
def old_of() -> Iterator[Any]:
    """A function that makes one by its target."""
    opened: list[OldXen] = []

    def make(target: str) -> OldXen:
        opened.append(OldXen(target))
        return opened[-1]

    yield make
    for made in opened:
        made.close()


def _serve(target: str) -> Iterator[Client]:
    made = Client(sim.connect(target))
    yield made
    made.close()
