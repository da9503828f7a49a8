# SPDX-License-Identifier: MIT
"""A strict parser of Prometheus' text format."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import NamedTuple

import pytest

_LABEL = r'([a-z_]+)="((?:[^"\\\n]|\\[\\n"])*)"'
_LINE = re.compile(rf"([a-z_]+)(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? ([0-9.e+-]+)")


class Metric(NamedTuple):
    """A family: its type, its help text, and its values by their sorted labels."""

    kind: str
    help: str
    values: dict[tuple[tuple[str, str], ...], float]

    def only(self, **labels: str) -> float:
        """The one value that has these labels."""
        (found,) = [value for key, value in self.values.items() if labels.items() <= dict(key).items()]
        return found


def read(text: str) -> dict[str, Metric]:
    """Families by name. AssertionError for what Prometheus would not accept."""
    assert text.endswith("\n")
    found: dict[str, Metric] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            _, _, name, about = line.split(" ", 3)
            kind = next(lines).removeprefix(f"# TYPE {name} ")
            assert kind in ("counter", "gauge"), line
            assert name not in found, f"{name} comes twice"
            found[name] = Metric(kind, about, {})
            continue
        match = _LINE.fullmatch(line)
        assert match, line
        assert match[1] == name, f"{line} does not belong to {name}"
        labels = tuple(sorted(re.findall(_LABEL, match[2] or "")))
        assert labels not in found[name].values, f"{line} comes twice"
        found[name].values[labels] = float(match[match.re.groups])
    return found


def promtool() -> str:
    """Debian's promtool, where it is."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed")
    return path


def check_with_promtool(text: str) -> None:
    """Check that Prometheus' own tool reports no problem."""
    done = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
