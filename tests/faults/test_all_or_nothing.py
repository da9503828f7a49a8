# SPDX-License-Identifier: MIT
"""Operations of several steps: an error, or Ctrl-C, at each step. All is done then, or nothing.

What may stay nevertheless is in the table of docs/errors.md, and each error says it.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from operations import OPERATIONS, Operation, Trial
from steps import INTERRUPT, INTERRUPT_BEFORE, REQUEST, WHOLE, Fault, Kind, differences, files

from pyxc.domain import memory

ERRNOS = (errno.EFAULT, errno.ENOMEM, errno.EAGAIN, errno.EPERM, errno.EINVAL, errno.EINTR)
"""Without ESRCH: that a domain has gone is believed, and then there is nothing to undo."""
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "errors.md"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that few extents take several hypercalls; nobody waits, and it is always the same time."""
    monkeypatch.setattr(memory, "_BATCH", 64)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("time.time", lambda: 1e9)
    monkeypatch.setattr("uuid.uuid4", lambda: UUID(int=77))
    monkeypatch.setattr("pyxc.guest.devices._token", lambda: "0" * 16)
    yield


def _without_parts(found: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in found.items() if not name.endswith(".part")}


@pytest.mark.filterwarnings("ignore:domains are shown without names:RuntimeWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_all_or_nothing(name: str, tmp_path: Path) -> None:
    check = Check(OPERATIONS[name], tmp_path)
    plan(check.kinds, check.try_out)
    assert check.wrong == [], f"{len(check.wrong)} of {len(check.kinds)} steps, as {check.wrong[0]}"


class Check:
    """Runs one operation with faults. `wrong` lists what was done by half, or with other results."""

    def __init__(self, operation: Operation, path: Path) -> None:
        self.operation = operation
        self.path = path
        whole = Trial(operation, path)
        self.before = whole.before
        assert whole.run({}) is None
        self.kinds, self.after, self.complete = whole.steps.kinds, whole.end(), files(path)
        assert self.kinds
        self.wrong: list[str] = []

    def try_out(self, faults: dict[int, Fault], forever: Fault | None = None) -> list[Kind]:
        """Returns the steps that it takes then."""
        trial = Trial(self.operation, self.path, self.before)
        error = trial.run(faults, forever)
        then, left = trial.end(), files(self.path)
        how = f"{ {at: str(fault) for at, fault in faults.items()} }, then {forever}: {error!r:.90}"
        noted = forever and getattr(error, "__notes__", None)
        if error is None and not (self._same(then) and left == self.complete):
            self.wrong.append(f"{how}: no error, {differences(self.after, then)}")
        if error is not None and not noted and not self._may_be(then):
            self.wrong.append(f"{how}: half: {differences(self.before, then)}")
        if _without_parts(left) not in ({}, self.complete):
            self.wrong.append(f"{how}: files {left}")
        return trial.steps.kinds

    def _same(self, then: dict[str, Any]) -> bool:
        return self.operation.compared(then) == self.operation.compared(self.after)

    def _may_be(self, then: dict[str, Any]) -> bool:
        return then in (self.before, self.after) or self.operation.may_stay(self.before, then)


_REPEATS = 2
"""How often it is tried what depends on the kind of a step: errnos, and a second fault in the next step."""


def plan(kinds: list[Kind], try_out: Callable[..., list[Kind]]) -> None:
    """Let befall each step: an error, Ctrl-C, and both for good; more at the first steps of each kind."""
    taken, tried = len(kinds), Counter[object]()
    steps = range(taken) if WHOLE else [*range(min(taken, 12)), *range(max(12, taken - 6), taken)]
    for at in steps:
        tried[kinds[at]] += 1
        for fault, seconds in _pairs(kinds[at], tried[kinds[at]] <= _REPEATS).items():
            then = try_out({at: fault})[at : at + 2]
            for second in seconds:
                tried[fault, second, *then] += 1
                if tried[fault, second, *then] <= _REPEATS:
                    try_out({at: fault, at + 1: second})
        try_out({at: INTERRUPT}, Fault(errno.EPERM))
        if WHOLE:
            try_out({at: Fault(errno.EFAULT)}, Fault(errno.EFAULT))


def _pairs(kind: Kind, is_new: bool) -> dict[Fault, list[Fault]]:
    """What may befall a step of this kind, and for each what may befall the next one.

    A request to xenstored has one way to fail.
    """
    numbers = ERRNOS if WHOLE and is_new and kind[0] != REQUEST else (errno.EFAULT,)
    failed = {Fault(number): [Fault(number)] for number in numbers}
    interrupted = {INTERRUPT: [INTERRUPT]}
    if WHOLE:
        failed[Fault(errno.EFAULT)].append(INTERRUPT)
        interrupted[INTERRUPT_BEFORE] = [INTERRUPT]
    return failed | interrupted


def test_the_document_says_of_each_what_may_stay() -> None:
    _, _, table = DOCUMENT.read_text(encoding="utf-8").partition("## All or nothing")
    rows = re.findall(r"^\| `([\w.]+)[`(]", table.partition("\n## ")[0], re.MULTILINE)
    assert sorted({name.partition(",")[0] for name in OPERATIONS}) == sorted(rows)
