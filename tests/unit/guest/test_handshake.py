# SPDX-License-Identifier: MIT
"""The protocol of a migration: everything that can happen, with every message lost and either side killed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from pyxc.guest.handshake import BANNER, FAILED, GRANT, READY, REPORT, RUNS, Source, Step, Target

GUEST = b"the stream of the guest"


class Side:
    """One of the two: alive or killed, its guest running or not, and what is on the way to the other one."""

    def __init__(self, machine: Source | Target, runs: bool) -> None:
        self.machine = machine
        self.runs, self.has_guest = runs, runs
        self.outbox: list[bytes] = []
        self.over = False
        self.in_doubt = False


class World(NamedTuple):
    source: Side
    target: Side
    connected: bool
    killed: frozenset[str]

    def key(self) -> str:
        return repr([
            (sorted(vars(side.machine).items()), side.runs, side.has_guest, side.outbox, side.over)
            for side in (self.source, self.target)
        ] + [self.connected, sorted(self.killed)])  # fmt: skip


def beginning() -> World:
    world = World(Side(Source(), True), Side(Target(), False), True, frozenset())
    world.target.outbox.append(BANNER)
    return world


def act(side: Side, step: Step) -> None:
    """What the implementation does for each step."""
    if step is Step.SEND_GUEST:
        side.outbox.append(GUEST)
        side.runs = False
        side.machine.sent_guest()  # type: ignore[union-attr]
    elif step is Step.SAY_GRANT:
        side.machine.grant()  # type: ignore[union-attr]
        side.outbox.append(GRANT)
    elif step is Step.END:
        side.has_guest, side.over = False, True
    elif step is Step.RUN:
        side.runs, side.over = True, True
    elif step is Step.KEEP:
        side.over = side.in_doubt = True
    elif step is Step.DISCARD:
        side.has_guest, side.over = False, True


def hear_source(side: Side, message: bytes) -> None:
    assert isinstance(side.machine, Source)
    expected = side.machine.expected
    fits = expected is not None and message.startswith(expected)
    act(side, side.machine.hear(message) if fits else side.machine.broken())


def hear_target(side: Side, message: bytes, succeeds: bool) -> None:
    assert isinstance(side.machine, Target)
    if message == GUEST:
        side.has_guest = True
        assert side.machine.has_guest() is Step.SAY_READY
        side.outbox.append(READY)
        return
    assert message == GRANT == side.machine.expected
    assert side.machine.hear() is Step.RUN
    side.over = True
    if side.machine.ran(succeeds) is Step.SAY_RUNS:
        side.runs = True
        side.outbox.append(REPORT + RUNS)
    else:
        side.has_guest = False
        side.outbox += [REPORT + FAILED, GRANT]


def successors(world: World) -> Iterator[tuple[str, World]]:
    """A message arrives; the connection breaks, with what is on the way; a side finds that out, or dies."""
    if world.connected:
        yield "break", _without(world)
    for name in ("source", "target"):
        if name not in world.killed:
            yield f"kill {name}", _killed(world, name)
    for sender, receiver in (("source", "target"), ("target", "source")):
        if receiver in world.killed:
            continue
        if getattr(world, sender).outbox and world.connected and not getattr(world, receiver).over:
            for succeeds in (True, False) if receiver == "target" else (True,):
                changed = copy.deepcopy(world)
                message = getattr(changed, sender).outbox.pop(0)
                if receiver == "source":
                    hear_source(changed.source, message)
                else:
                    hear_target(changed.target, message, succeeds)
                yield f"{receiver} hears {message[:12]!r}", changed
        elif not world.connected and not getattr(world, receiver).over:
            changed = copy.deepcopy(world)
            side = getattr(changed, receiver)
            act(side, side.machine.broken())
            yield f"{receiver} hears the end", changed


def _without(world: World) -> World:
    changed = copy.deepcopy(world)._replace(connected=False)
    changed.source.outbox.clear()
    changed.target.outbox.clear()
    return changed


def _killed(world: World, name: str) -> World:
    """What it said arrives; nothing of it runs on by itself, but its guest stays as it is."""
    changed = copy.deepcopy(world)
    getattr(changed, name).over = True
    if not getattr(changed, name).outbox:
        changed = _without(changed)
    return changed._replace(killed=changed.killed | {name})


def every_world() -> dict[str, tuple[World, list[str]]]:
    first = beginning()
    found = {first.key(): (first, ["begin"])}
    waiting = [first]
    while waiting:
        world = waiting.pop()
        path = found[world.key()][1]
        for what, following in successors(world):
            if following.key() not in found:
                found[following.key()] = following, [*path, what]
                waiting.append(following)
    return found


@pytest.fixture(scope="module")
def worlds() -> list[tuple[World, list[str]]]:
    return list(every_world().values())


def test_never_do_both_run(worlds: list[tuple[World, list[str]]]) -> None:
    assert len(worlds) > 100
    for world, path in worlds:
        assert not (world.source.runs and world.target.runs), path


def test_it_is_never_lost(worlds: list[tuple[World, list[str]]]) -> None:
    for world, path in worlds:
        assert world.source.has_guest or world.target.has_guest, path
        if not world.source.has_guest:
            assert world.target.runs, path


def test_in_the_end_one_runs_unless_the_source_is_in_doubt(worlds: list[tuple[World, list[str]]]) -> None:
    ends = [(world, path) for world, path in worlds if world.source.over and world.target.over]
    doubts = 0
    for world, path in ends:
        if world.killed:
            continue
        doubts += world.source.in_doubt
        assert world.source.runs or world.target.runs or world.source.in_doubt, path
        if world.source.in_doubt:
            assert not world.source.runs, path
    assert doubts


def test_doubt_comes_only_after_the_grant(worlds: list[tuple[World, list[str]]]) -> None:
    for world, path in worlds:
        if world.source.in_doubt:
            assert any("hears b'domain recei" in step for step in path), path


def test_without_losses_it_runs_there_or_here(worlds: list[tuple[World, list[str]]]) -> None:
    undisturbed = [
        world for world, path in worlds
        if world.connected and not world.killed and world.source.over and world.target.over
    ]  # fmt: skip
    assert {(world.source.runs, world.target.runs) for world in undisturbed} == {(False, True), (True, False)}
    assert not any(world.source.in_doubt for world in undisturbed)
