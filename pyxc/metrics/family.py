# SPDX-License-Identifier: MIT
"""What a metric is, and Prometheus' text format (version 0.0.4), which it is written in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from pyxc.domain.usage import Sample
from pyxc.host.runstates import Runstates

Kind = Literal["counter", "gauge"]
Value = int | float | bool | None

NS = 1e-9
KB = 1024
LABEL_MOST = 256
"""The most characters of a label's value: names of domains come from xenstore, from any toolstack."""


class Facts(NamedTuple):
    """What the values of one scrape are made of: a full sample, labels of the hypervisor and of its domains.

    `labels` has a domain's name and UUID, ready to be written, by id. Domains that nothing but their id tells
    from a newer one are not in it. `runstates` are by domain and vcpu, without what `lost_records` would have
    said; None where nothing is traced.
    """

    sample: Sample
    about: str
    labels: dict[int, str]
    runstates: dict[tuple[int, int], Runstates] | None = None
    lost_records: int | None = None


Points = Iterable[tuple[str, Value]]
"""Values with their labels, ready to be written; None is left out."""


class Family(NamedTuple):
    """A metric: its name, what it is for people, and how its values are found.

    A counter only grows while its subject lives, and its name ends in _total. Units are seconds and bytes.
    """

    name: str
    kind: Kind
    help: str
    points: Callable[[Any], Points]
    """Called with Facts, or with what the exporter says of itself."""


def written(families: Iterable[Family], subject: object) -> Iterator[str]:
    """Lines of the text format; nothing of a family without values."""
    for family in families:
        name = family.name
        lines = [
            f"{name}{{{labels}}} {_number(value)}\n" if labels else f"{name} {_number(value)}\n"
            for labels, value in family.points(subject)
            if value is not None
        ]
        if lines:
            yield f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n"
            yield from lines


def _number(value: int | float | bool) -> str:
    return repr(value) if type(value) is not bool else "01"[value]


def label(name: str, value: object) -> str:
    """One label, its value short enough and escaped."""
    text = str(value)[:LABEL_MOST]
    if not text.isalnum():
        text = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{name}="{text}"'


def labels(**values: object) -> str:
    """Several labels."""
    return ",".join([label(name, value) for name, value in values.items()])
