# SPDX-License-Identifier: MIT
"""Scripts of calls to xenstore that run unchanged on a real xenstored and on the simulated one.

`client` goes through pyxc's own client, `compat` through xen.lowlevel.xs, of Xen or of pyxc. What came of
them on the C xenstored of Xen 4.17 is recorded beside them; tools/record-store does that anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Outcomes = dict[str, Any]
"""What came of a script: "what a step is about" to outcome, as JSON holds it."""


def recorded(script: str) -> Outcomes:
    """What came of a script on the real xenstored."""
    outcomes: Outcomes = json.loads(_place(script).read_text(encoding="ascii"))
    return outcomes


def record(script: str, outcomes: Outcomes, directory: Path) -> None:
    text = json.dumps(outcomes, indent=1, sort_keys=True)
    (directory / _place(script).name).write_text(text + "\n", encoding="ascii")


def differences(one: Outcomes, other: Outcomes) -> dict[str, tuple[Any, Any]]:
    """Steps of which two runs differ, with both outcomes."""
    return {
        step: (one.get(step), other.get(step))
        for step in {**one, **other}
        if one.get(step) != other.get(step)
    }


def _place(script: str) -> Path:
    return Path(__file__).with_name(f"{script}.outcomes.json")
