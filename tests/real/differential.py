# SPDX-License-Identifier: MIT
"""The same calls through libxc's own binding and through ours, side by side, and a report."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyxc

MOVING = {
    "cpu_time": 60 * 10**9,
    "idletime": 60 * 10**9,
    "free_memory": 8192,
    "scrub_memory": 8192,
    "node_memfree": 8,
    "node_to_dma32_mem": 8,
}
"""Numbers that go on, and how far they may be apart: nanoseconds, KiB, MiB."""
PATIENCE_S = 10
GUEST = "system_u:system_r:domU_t"
OF_THE_MOMENT = {"running", "blocked", "cpu"}
"""What is another thing at every look, of a domain that runs."""


class Outcome(NamedTuple):
    """The outcome of a call: a value, or the name and number of an error."""

    value: Any = None
    error: str = ""
    number: int | None = None

    def __str__(self) -> str:
        if not self.error:
            return repr(self.value)
        return f"{self.error} {errno.errorcode.get(self.number or 0, '')}".strip()


class Event(NamedTuple):
    """A step of a script: a call of a method, or (method "") something observed in another way."""

    method: str
    shown: str
    outcome: Outcome
    fixed: str


class World(NamedTuple):
    """What exists besides the domains that a script creates: a hypervisor and two guests."""

    xen: pyxc.Xen
    pv: int
    linux: int

    @property
    def ssidref(self) -> int:
        """The label of new domains where there is a security policy."""
        return self.xen.flask.sid(GUEST) if self.xen.flask.present else 0


class Side:
    """One of the two bindings, and what a script did with it. Each side creates its own domains."""

    def __init__(self, module: Any, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.events: list[Event] = []
        self.domids: list[int] = []
        self._xc = module.xc()

    def call(self, method: str, *args: Any, fixed: str = "", **kwargs: Any) -> Any:
        """Call a method. `fixed` names the bug of the original because of which the two differ here."""
        named = [f"{name}={value!r}" for name, value in kwargs.items()]
        shown = f"{method}({', '.join([*map(repr, args), *named])})"
        try:
            outcome = Outcome(getattr(self._xc, method)(*args, **kwargs))
        except Exception as error:
            outcome = Outcome(error=type(error).__name__, number=_number(error))
        self.events.append(Event(method, shown, self._anonymous(outcome), fixed))
        return outcome.value

    def silently(self, method: str, *args: Any) -> Any:
        """Call a method without comparing the outcome."""
        return getattr(self._xc, method)(*args)

    def create(self, **kwargs: Any) -> int:
        """A domain that is destroyed at the end of the script."""
        domid: int = self._xc.domain_create(ssidref=self.world.ssidref, **kwargs)
        self.domids.append(domid)
        self._xc.domain_max_vcpus(domid, kwargs.get("max_vcpus", 1))
        return domid

    def note(self, what: str, value: Any) -> None:
        """Something else that must be equal, such as the effect of a call."""
        self.events.append(Event("", what, self._anonymous(Outcome(value)), ""))

    def adopt(self, domid: int | None) -> None:
        """Treat a domain that the last call created as this side's own: ids differ between the sides."""
        event = self.events[-1]
        if domid is not None:
            self.domids.append(domid)
            self.events[-1] = event._replace(outcome=event.outcome._replace(value="a new id"))

    def _anonymous(self, outcome: Outcome) -> Outcome:
        """This side's own domains, by the order of their creation instead of their ids."""
        return outcome._replace(value=self._renamed(outcome.value))

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._renamed(item) for item in value]
        if isinstance(value, dict) and value.get("domid") in self.domids:
            return {**value, "domid": f"own {self.domids.index(value['domid'])}"}
        return value

    def clean(self) -> None:
        """Destroy the remaining domains. A dead one still counts in its pool after it is in no list."""
        for domid in self.domids:
            try:
                self._xc.domain_destroy(domid)
            except RuntimeError as error:
                assert _number(error) == errno.ESRCH, error
        deadline = time.monotonic() + PATIENCE_S
        while self._counted() > len(self.world.xen.domains) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _counted(self) -> int:
        return sum(info.nr_domains for info in self.world.xen.pools.infos())


def _number(error: Exception) -> int | None:
    """The errno of an Error, if it has one: libxc's sometimes have only a text."""
    number = error.args[0] if len(error.args) == 2 else None
    return number if isinstance(number, int) else None


class Row(NamedTuple):
    """The comparison of one call."""

    method: str
    verdict: str
    shown: str
    note: str


def compare(theirs: Side, ours: Side) -> list[Row]:
    """A row for each step. AssertionError, with all rows, for a difference without a reason."""
    rows, problems = list[Row](), list[str]()
    for their, our in zip(theirs.events, ours.events, strict=True):
        assert their.method == our.method and their.fixed == our.fixed
        difference = difference_of(their.outcome, our.outcome)
        if bool(difference) != bool(their.fixed):
            expected = f"the bug {their.fixed!r} does not show" if their.fixed else difference
            problems.append(f"{their.shown}: theirs {their.outcome}, ours {our.outcome}: {expected}")
        if their.method:
            rows.append(_row(their, our))
    assert not problems, "\n".join(problems)
    return rows


def _row(their: Event, our: Event) -> Row:
    if their.fixed:
        return Row(their.method, "fixed", their.shown, their.fixed)
    verdict = "failed" if their.outcome.error else "same"
    return Row(their.method, verdict, their.shown, str(their.outcome))


def difference_of(theirs: Outcome, ours: Outcome) -> str:
    """ "" when two outcomes are equal."""
    if theirs.error or ours.error:
        same_number = None in (theirs.number, ours.number) or theirs.number == ours.number
        return "" if theirs.error == ours.error and same_number else "another outcome"
    return _value_difference(theirs.value, ours.value, "")


def _value_difference(theirs: Any, ours: Any, where: str) -> str:
    if type(theirs) is not type(ours):
        return f"{where} is {type(ours).__name__}, not {type(theirs).__name__}"
    if isinstance(theirs, dict):
        return _dict_difference(theirs, ours, where)
    if isinstance(theirs, list):
        if len(theirs) != len(ours):
            return f"{where} has {len(ours)} items, not {len(theirs)}"
        found = (_value_difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(theirs, ours)))
        return next(filter(None, found), "")
    key = where.rpartition(".")[2].split("[")[0]
    if key in MOVING and isinstance(theirs, int):
        return "" if abs(ours - theirs) <= MOVING[key] else f"{where} is {ours}, far from {theirs}"
    return "" if theirs == ours else f"{where} is {ours!r}, not {theirs!r}"


def _dict_difference(theirs: dict[str, Any], ours: dict[str, Any], where: str) -> str:
    if list(theirs) != list(ours):
        return f"{where} has the keys {list(ours)}, not {list(theirs)}"
    skipped = OF_THE_MOMENT if theirs.get("domid") == 0 else set()
    kept = [key for key in theirs if key not in skipped]
    found = (_value_difference(theirs[key], ours[key], f"{where}.{key}") for key in kept)
    return next(filter(None, found), "")


Script = Callable[[Side], None]


def methods(module: Any) -> list[str]:
    """The methods of a binding."""
    return [name for name in vars(module.xc) if not name.startswith("_")]


class Report:
    """All rows, method by method."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.rows: list[Row] = []
        self._reasons = reasons

    def run(self, theirs: Side, ours: Side, script: Script) -> None:
        """Run a script on both sides, theirs first, and add the outcomes."""
        for side in (theirs, ours):
            try:
                script(side)
            finally:
                side.clean()
        self.rows += compare(theirs, ours)

    def lines(self, methods: Iterable[str]) -> list[str]:
        return [f"{method:28} {self.verdict(method)}" for method in methods]

    def verdict(self, method: str) -> str:
        """ "same", "fixed bug" or "not compared", with the reason; "" for a method that was not called."""
        rows = [row for row in self.rows if row.method == method]
        if rows and method in self._reasons:
            return f"not compared: {self._reasons[method]}"
        same = sum(row.verdict == "same" for row in rows)
        failed = sum(row.verdict == "failed" for row in rows)
        fixed = dict.fromkeys(row.note for row in rows if row.verdict == "fixed")
        parts = [f"same ({same} calls)"] if same else []
        parts += [f"fixed bug: {bug}" for bug in fixed]
        if parts:
            return "; ".join([*parts, *([f"{failed} calls that both refuse alike"] if failed else [])])
        return ""

    def write(self, path: Path, methods: Iterable[str]) -> None:
        detail = [f"  {row.verdict:6} {row.shown} -> {row.note}" for row in self.rows]
        path.write_text("\n".join([*self.lines(methods), "", "Every call:", *detail]) + "\n")
