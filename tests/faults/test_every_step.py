# SPDX-License-Identifier: MIT
"""Each act with a fault at each step: an error of each hypercall, mapping and request to xenstored, and each
piece of hypercall-safe memory that cannot be had. What is raised is documented, and nothing leaks.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest
from acts import ACTS, RELEASES, Act
from steps import WHOLE, Fault, Steps

import pyxc
from pyxc import errors, sim
from pyxc.abi import operation, registry, releases
from pyxc.abi.layout import Interface, NotInInterface
from pyxc.abi.operation import Family, Operation
from pyxc.call.caller import Caller

ERESTART, UNKNOWN = 85, 500
ERRNOS = (
    errno.EPERM, errno.ENOMEM, errno.EFAULT, errno.EAGAIN, errno.EBUSY, errno.ESRCH, errno.EINVAL,
    errno.ENOSYS, errno.EIO, errno.EINTR, ERESTART, UNKNOWN,
)  # fmt: skip
SAMPLED = (errno.EFAULT, errno.ESRCH)
"""Errors of a sample: one that says nothing, and one that is believed."""


class Case(NamedTuple):
    """What befalls one run: a step that fails with an errno, or a piece of memory that is missing."""

    step: int = -1
    errno: int = 0
    arena: int = -1

    def __str__(self) -> str:
        if self.errno:
            return f"step {self.step} fails: {errno.errorcode.get(self.errno, self.errno)}"
        return f"no memory for arena {self.arena}" if self.arena >= 0 else "no fault"


class Found(NamedTuple):
    """What came of a run."""

    steps: int
    arenas: int
    error: BaseException | None
    wrong: str


class Runner:
    """Carries out an act on one simulated host, which is booted anew where that matters."""

    def __init__(self, act: Act, release: str) -> None:
        self.act = act
        self.release = release

    def boot(self) -> sim.Hypervisor:
        host = sim.Hypervisor(sim.named(f"sim:{self.release}"))
        with pyxc.connect(host.connect()) as xen:
            self.act.before(xen)
        return host

    def run(self, host: sim.Hypervisor, case: Case) -> Found:
        opened, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        link = Steps(host.connect())
        xen = pyxc.connect(link)
        xen.store.timeout = 0.05
        link.start({case.step: Fault(case.errno)} if case.errno else {})
        link.starve(case.arena)
        error = self._carried_out(xen)
        link.stop()
        found = Found(link.taken, link.arenas, error, self._undocumented(case, error))
        wrong = [found.wrong] if found.wrong else []
        wrong += [f"{len(link.pool.live())} arenas leak"] if link.pool.live() else []
        wrong += [f"{len(link.maps)} mappings leak"] if link.maps else []
        xen.close()
        wrong += ["descriptors leak"] if len(os.listdir("/proc/self/fd")) > opened else []
        wrong += ["threads leak"] if threading.active_count() > threads else []
        return found._replace(wrong=", ".join(wrong))

    def _carried_out(self, xen: pyxc.Xen) -> BaseException | None:
        try:
            self.act.run(xen)
        except Exception as error:
            return error
        return None

    def _undocumented(self, case: Case, error: BaseException | None) -> str:
        allowed: tuple[type[BaseException], ...] = (errors.Error, OSError, *self.act.refuses)
        if case.arena >= 0:
            allowed += (MemoryError,)
        return "" if error is None or isinstance(error, allowed) else repr(error)

    def cases(self, steps: int, arenas: int) -> Iterator[list[Case]]:
        """What is tried, each list on a host of its own."""
        if WHOLE:
            for step in range(steps):
                yield [Case(step, number) for number in ERRNOS]
            yield [Case(arena=number) for number in range(arenas)]
        else:
            some = sorted({0, steps // 2, steps - 1} & set(range(steps)))
            yield [
                *(Case(step, number) for step in some for number in SAMPLED),
                *(Case(arena=number) for number in sorted({0, arenas - 1} & set(range(arenas)))),
            ]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what is tried again."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def _releases(name: str) -> tuple[str, ...]:
    """Where an act is done: of a sample on one host, of which each has its turn."""
    return RELEASES if WHOLE else ("xen-4.17-pci" if "pci" in name else "xen-4.17-xsm",)


@pytest.mark.filterwarnings("ignore:domains are shown without names:RuntimeWarning")
@pytest.mark.parametrize("name", ACTS)
def test_no_fault_at_any_step_does_harm(name: str) -> None:
    wrong: list[str] = []
    for release in _releases(name):
        runner = Runner(ACTS[name], release)
        try:
            host = runner.boot()
        except (errors.Error, KeyError, ValueError):
            continue
        honest = runner.run(host, Case())
        wrong += [f"{release}, no fault: {honest.wrong}"] if honest.wrong else []
        for cases in runner.cases(honest.steps, honest.arenas):
            host = runner.boot()
            found = ((case, runner.run(host, case)) for case in cases)
            wrong += [f"{release}, {case}: {one.wrong}" for case, one in found if one.wrong]
    assert wrong == [], f"{len(wrong)} runs, first {wrong[0]}"


@pytest.mark.filterwarnings("ignore:domains are shown without names:RuntimeWarning")
@pytest.mark.parametrize("name", [name for name in ACTS if name.startswith("change.")])
def test_what_is_tried_can_succeed(name: str) -> None:
    """An act that fails anyway would show nothing."""
    failed = {}
    for release in RELEASES:
        try:
            runner = Runner(ACTS[name], release)
            failed[release] = runner.run(runner.boot(), Case()).error
        except (errors.Error, KeyError, ValueError) as error:
            failed[release] = error
    assert None in failed.values(), failed


FAMILIES = [family for family in vars(operation).values() if isinstance(family, Family)]
OPERATIONS = {asked.full_name: asked for family in FAMILIES for asked in registry.of_family(family).values()}


def _interface_with(asked: Operation) -> Interface:
    """One that has an operation: the newest."""
    for interface in reversed((*releases.BEFORE_DOMCTL, *releases.RELEASES)):
        with suppress(NotInInterface):
            asked.at(interface)
            return interface
    raise AssertionError(f"no release has {asked.full_name}")


@pytest.fixture(scope="module")
def host() -> sim.Hypervisor:
    """What fails is not asked of it, so it may be any."""
    return sim.Hypervisor(sim.named("sim:"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_says_each_errno(name: str, host: sim.Hypervisor) -> None:
    """It is never taken for a result, and the error says in one line what failed."""
    link, interface = Steps(host.connect()), _interface_with(OPERATIONS[name])
    with pyxc.Xen(link, Caller(link, interface), names=False) as xen:
        asked = OPERATIONS[name].spoken(interface)
        for number in ERRNOS:
            if number == ERESTART or asked.retry_on.get(number, 0) is None:
                continue  # until it is another one
            link.start({step: Fault(number) for step in range(10)})
            with pytest.raises(errors.HypercallError) as caught:
                xen.call(asked, 1)
            message = str(caught.value)
            assert (caught.value.errno, link.pool.live()) == (number, [])
            assert message.startswith(asked.full_name) and "\n" not in message
        if link.arenas:
            link.starve(0)
            with pytest.raises(MemoryError, match="RLIMIT_MEMLOCK"):
                xen.call(asked, 1)
            assert link.pool.live() == []
