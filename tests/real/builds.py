# SPDX-License-Identifier: MIT
"""Guests that pyxc builds from the lab's images, and what they print."""

from __future__ import annotations

import os
import re
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

import pyxc
from pyxc import ShutdownReason
from pyxc.guest.built import BuiltDomain
from pyxc.guest.config import GuestConfig
from pyxc.guest.launch import launch

PATTERN = array("Q", (0x7079786300000000 + index for index in range(512))).tobytes()
PATTERN_AT = {"pv": 1, "pv32": 1, "pvh": 0x101}
"""Where the small guests have it: in pages of their address space."""
PATIENCE_S = 60
TOPS = {"", "/libxl", "/vm", *(f"/local/domain/0/backend{kind}" for kind in ("", "/console", "/vbd", "/vif"))}
Launch = Callable[..., BuiltDomain]


def require(xen: pyxc.Xen, kind: str) -> None:
    """Skip the test if this Xen has no guests of that kind."""
    if kind == "pv32" and "xen-3.0-x86_32p" not in xen.capabilities:
        pytest.skip("this Xen has no 32-bit PV guests")


class Build(Protocol):
    """Builds one of the lab's guests, by the name of its image."""

    def __call__(self, name: str, command_line: str, **options: object) -> BuiltDomain: ...


def config_of(name: str) -> Path:
    return Path(os.environ["PYXC_GUESTS"]) / f"{name}.cfg"


def everything(xen: pyxc.Xen, path: str = "") -> set[str]:
    """All paths in xenstore but the roots that toolstacks leave once they have made them."""
    found = {path} - TOPS
    for name in xen.store.list(path or "/") or []:
        found |= everything(xen, f"{path}/{name}")
    return found


@contextmanager
def launcher(xen: pyxc.Xen) -> Iterator[Launch]:
    """A way to launch guests of the lab's configurations; none is left in the end, and nothing of them."""
    tree, domids, made = everything(xen), sorted(xen.domains), []

    def make(name: str, *settings: str) -> BuiltDomain:
        made.append(launch(xen, GuestConfig.read(config_of(name), settings)))
        return made[-1]

    yield make
    for domain in made:
        domain.console.close()
        with suppress(pyxc.DomainNotFound, pyxc.DomainGone):
            domain.destroy()
    assert everything(xen) == tree
    assert sorted(xen.domains) == domids


def in_use() -> tuple[list[str], int]:
    """What this process has open, and its mappings of grants."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the directory itself
            links.append(re.sub(r"\[\d+\]", "", os.readlink(f"/proc/self/fd/{number}")))
    with open("/proc/self/maps", encoding="ascii") as maps:
        return sorted(links), sum("/dev/xen/gnt" in line for line in maps)


def image(name: str) -> Path:
    return Path(os.environ["PYXC_GUESTS"]) / name


@contextmanager
def builder(xen: pyxc.Xen) -> Iterator[Build]:
    """A function that builds; everything built is destroyed at the end, and leaves nothing."""
    before, free, made = list(xen.domains), xen.physinfo().free_memory_kb, []

    def build(name: str, command_line: str, **options: object) -> BuiltDomain:
        made.append(xen.domains.build(image(name), command_line=command_line, **options))
        return made[-1]

    yield build
    for domain in made:
        if domain.exists():
            domain.destroy()
    assert list(xen.domains) == before
    wait_for_memory(xen, free - 1024)


def wait_for_memory(xen: pyxc.Xen, free_kb: int) -> None:
    """Xen frees some of a guest's memory after the guest has gone."""
    deadline = time.monotonic() + PATIENCE_S
    while (now := xen.physinfo().free_memory_kb) < free_kb:
        assert time.monotonic() < deadline, f"{free_kb - now} KiB of the guests are not free again"
        time.sleep(0.1)


def wait_for_the_end(domain: pyxc.Domain) -> ShutdownReason | int | None:
    deadline = time.monotonic() + PATIENCE_S
    while (reason := domain.info().shutdown_reason) is None:
        assert time.monotonic() < deadline, f"the guest did not end in {PATIENCE_S} s"
        time.sleep(0.01)
    return reason


def printed(domain: BuiltDomain) -> bytes:
    """What it has written to its console's ring."""
    ring = domain.memory.read(domain.console_frame)
    (produced,) = struct.unpack_from("<I", ring, 3084)
    return ring[1024 : 1024 + produced]


def wait_for_text(domain: BuiltDomain, text: bytes, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while text not in printed(domain):
        reason = domain.info().shutdown_reason
        assert reason is None and time.monotonic() < deadline, (reason, printed(domain))
        time.sleep(0.1)
