# SPDX-License-Identifier: MIT
"""Arguments that make no sense never reach the hypervisor."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

import pytest

import pyxc
from pyxc._core import ForeignMap
from pyxc.link.privcmd import PrivcmdLink
from pyxc.link.wrapper import LinkWrapper


class CountingLink(LinkWrapper):
    """Counts what goes to the hypervisor: hypercalls and mappings."""

    calls = 0

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        self.calls += 1
        return super().hypercall(op, a1, a2, a3, a4, a5)

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        self.calls += 1
        return super().map_frames(domid, frames, writable)


@pytest.fixture
def counting() -> Iterator[tuple[pyxc.Xen, CountingLink]]:
    """A handle, and its link, which counts."""
    link = CountingLink(PrivcmdLink())
    with pyxc.connect(link, names=False) as opened:
        yield opened, link


WRONG: dict[str, Callable[[pyxc.Domain], object]] = {
    "negative domid": lambda d: d.xen.domains[-1],
    "reserved domid": lambda d: d.xen.domains[0x7FF0],
    "domid beyond its field": lambda d: d.xen.domains[1 << 16],
    "UUID of 15 bytes": lambda d: d.xen.domains.create(uuid=bytes(15)),
    "UUID that is none": lambda d: d.set_uuid("web1"),
    "no vcpus": lambda d: d.xen.domains.create(max_vcpus=0),
    "hap without hvm": lambda d: d.xen.domains.create(hap=True),
    "wanted id out of range": lambda d: d.xen.domains.create(domid=0x7FF1),
    "negative memory": lambda d: d.set_max_memory(-1),
    "negative count of vcpus": lambda d: d.set_max_vcpus(-1),
    "negative vcpu": lambda d: d.vcpu(-1),
    "cpu beyond the host": lambda d: d.vcpu(0).set_affinity(hard=[d.xen.nr_cpus]),
    "no cpu": lambda d: d.vcpu(0).set_affinity(hard=[]),
    "no affinity": lambda d: d.vcpu(0).set_affinity(),
    "negative frame": lambda d: d.memory.map([-1]),
    "frame beyond 52 bits": lambda d: d.memory.read(1 << 52),
    "no frame": lambda d: d.memory.map([]),
    "offset beyond the page": lambda d: d.memory.read(1, offset=4096),
    "negative size": lambda d: d.memory.read(1, size=-1),
    "nothing to write": lambda d: d.memory.write(1, b""),
    "negative count": lambda d: d.memory.increase(-1),
    "order too large": lambda d: d.memory.populate([0], order=19),
    "hvm param beyond its field": lambda d: d.hvm_params.write(1 << 32, 0),
    "hvm value beyond its field": lambda d: d.hvm_params.write(1, 1 << 64),
    "no debug key": lambda d: d.xen.debug_keys(""),
    "debug key that is no ASCII": lambda d: d.xen.debug_keys("\N{EURO SIGN}"),
}


@pytest.mark.parametrize("case", WRONG)
def test_fails_before_any_hypercall(counting: tuple[pyxc.Xen, CountingLink], case: str) -> None:
    xen, link = counting
    domain = xen.domains[0]
    assert xen.nr_cpus  # asked once, then known
    before = link.calls
    with pytest.raises((ValueError, OverflowError)):
        WRONG[case](domain)
    assert link.calls == before


@pytest.mark.parametrize("wrong", ["gate", "target"])
def test_open_with_an_unknown_word(wrong: str) -> None:
    with pytest.raises(ValueError, match="maybe"):
        pyxc.open(**{wrong: "maybe"})
