# SPDX-License-Identifier: MIT
"""Write docs/metrics.md: every metric of the exporter. Called as PYTHONPATH=. tools/metrics.py."""

from __future__ import annotations

from pathlib import Path

from pyxc.metrics.exporter import FAMILIES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

HEAD = """<!-- SPDX-License-Identifier: MIT -->
<!-- written by tools/metrics.py -->
# Metrics

The metrics of `pyxc exporter`; a scrape omits those that a host does not have. [monitoring.md](monitoring.md)
says how to get them. Metrics of domains have the labels `domain` (the name) and `uuid`; `xen_domain_info`
relates these to the current id and, since Xen 4.21, to the unique id. Units are seconds and bytes; disks and
networks are counted from the guest's point of view.

| metric | kind | what it is |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [f"| `{family.name}` | {family.kind} | {family.help} |\n" for family in FAMILIES]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
