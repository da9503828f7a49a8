# SPDX-License-Identifier: MIT
"""Write docs/supported.md: every operation by Xen release, and where each was shown.

Called as PYTHONPATH=. tools/supported.py. The page is made of the tables of pyxc.abi, the register of the
simulator and the recordings of real Xen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyxc import sim
from pyxc.abi import operation, registry, releases
from pyxc.abi.layout import Interface, NotInInterface, Release
from pyxc.abi.operation import Family, Operation

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "supported.md"
INTERFACES = (*releases.BEFORE_DOMCTL, *releases.RELEASES)
RELEASES = tuple(dict.fromkeys(interface.xen for interface in INTERFACES))

RECORDED, REFUSED, SIMULATED, KNOWN, ABSENT = "R", "r", "s", "+", " "

HEAD = """<!-- SPDX-License-Identifier: MIT -->
<!-- written by tools/supported.py -->
# What is supported, on which Xen

The operations of each hypercall, with a column for each release of Xen. 3.0 stands for the trees of April to
August 2006; {unreleased} is not released: it is the development tree of 2026-08-20, and may still change. An
operation that a release does not have raises `Unsupported` before any hypercall.

| | |
| --- | --- |
| R | succeeded on real Xen of that release, and was recorded (`tests/recordings`) |
| r | ran on real Xen of that release, which refused it: the machine or the build does not support it |
| s | runs on the simulated hypervisor of that release |
| + | has its layout, compared with the headers of that release, but was not run |
| | the release does not have it |

The simulated releases are {simulated}. Operations ran on real Xen in the lab, from a 32-bit dom0.
"""


def recorded() -> dict[Release, dict[str, bool]]:
    """Of each release that was recorded the operations, and whether any call of one went well."""
    found: dict[Release, dict[str, bool]] = {}
    for path in sorted((TOP / "tests" / "recordings").glob("xen-*/*.outcomes.json")):
        release = _release(path.parent.name)
        for step, outcome in json.loads(path.read_text(encoding="ascii")).items():
            name = step.partition("/")[0]
            told = found.setdefault(release, {})
            told[name] = told.get(name, False) or ("fields" in outcome and "errno" not in outcome)
    return found


def _release(directory: str) -> Release:
    """(4, 17) of "xen-4.17" and of "xen-4.17-xsm"."""
    major, minor = directory.split("-")[1].split(".")
    return int(major), int(minor)


def exists(asked: Operation, interface: Interface) -> bool:
    """Whether an interface has an operation itself, not only the dom0_op that did the same."""
    try:
        asked.at(interface)
    except NotInInterface:
        return False
    return asked.spoken(interface) is asked


class Matrix:
    """What is known of each operation in each release."""

    def __init__(self) -> None:
        self._recorded = recorded()
        self._simulated = {sim.named(target).interface for target in sim.PROFILES}
        self._handled = sim.operations()

    def cell(self, asked: Operation, release: Release) -> str:
        interfaces = [interface for interface in INTERFACES if interface.xen == release]
        if not any(exists(asked, interface) for interface in interfaces):
            return ABSENT
        told = self._recorded.get(release, {}).get(asked.full_name)
        if told is not None:
            return RECORDED if told else REFUSED
        ran = any(exists(asked, i) for i in self._simulated if i.xen == release)
        return SIMULATED if ran and asked.full_name in self._handled else KNOWN

    def simulated(self) -> list[Release]:
        return sorted({interface.xen for interface in self._simulated})


def families() -> list[Family]:
    return [value for value in vars(operation).values() if isinstance(value, Family)]


def page() -> str:
    matrix = Matrix()
    simulated = ", ".join(map(_text, matrix.simulated()))
    text = HEAD.format(simulated=simulated, unreleased=_text(releases.UNRELEASED))
    for family in families():
        text += "\n" + "\n".join(_section(family, registry.of_family(family).values(), matrix)) + "\n"
    return text


def _section(family: Family, operations: Iterable[Operation], matrix: Matrix) -> Iterator[str]:
    yield f"## {family.name}\n"
    columns = [r for r in RELEASES if any(matrix.cell(asked, r) != ABSENT for asked in operations)]
    yield f"| operation | {' | '.join(map(_text, columns))} |"
    yield f"| --- |{' --- |' * len(columns)}"
    for asked in sorted(operations, key=lambda asked: asked.name):
        yield f"| {asked.name} | {' | '.join(matrix.cell(asked, release) for release in columns)} |"


def _text(release: Release) -> str:
    return f"{release[0]}.{release[1]}" + ("*" if release == releases.UNRELEASED else "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
