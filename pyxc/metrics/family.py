# SPDX-License-Identifier: MIT
"""What a metric is, and Prometheus' text format (version 0.0.4), which it is written in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from pyxc.domain.info import DomainInfo
from pyxc.domain.usage import Sample
from pyxc.domain.vcpus import VcpuInfo
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
    from a newer one are not in it; `domains` and `vcpus` are the others, after their labels. `runstates` are
    by domain and vcpu, without what `lost_records` would have said; None where nothing is traced.
    """

    sample: Sample
    about: str
    labels: dict[int, str]
    domains: list[tuple[str, DomainInfo]]
    vcpus: list[tuple[str, VcpuInfo]]
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


def written(families: Iterable[Family], subject: object) -> str:
    """The text format; nothing of a family without values."""
    text = []
    for family in families:
        name = family.name
        lines = [
            f"{name}{{{labels}}} {+value!r}\n" if labels else f"{name} {+value!r}\n"  # + of a bool is an int
            for labels, value in family.points(subject)
            if value is not None
        ]
        if lines:
            text.append(f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n")
            text += lines
    return "".join(text)


def label(name: str, value: object) -> str:
    """One label, its value short enough and escaped."""
    text = str(value)[:LABEL_MOST]
    if not text.isalnum():
        text = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'{name}="{text}"'


def labels(**values: object) -> str:
    """Several labels."""
    return ",".join([label(name, value) for name, value in values.items()])
