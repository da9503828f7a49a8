# SPDX-License-Identifier: MIT
"""Write docs/metrics.md: every metric of the exporter. Called as PYTHONPATH=. tools/metrics.py."""

from __future__ import annotations

from pathlib import Path

from pyxc.metrics.exporter import FAMILIES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

HEAD = """<!-- SPDX-License-Identifier: MIT -->
<!-- written by tools/metrics.py -->
# Metrics

What `pyxc exporter` knows; what a host does not have is not in a scrape. [monitoring.md](monitoring.md) says
how to get them. Those of domains have the labels `domain` (its name) and `uuid`; `xen_domain_info` joins them
to the id that a domain has now, and to Xen's own number of it (since 4.21). Units are seconds and bytes;
disks and networks are seen from the guest's side.

| metric | kind | what it is |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [f"| `{family.name}` | {family.kind} | {family.help} |\n" for family in FAMILIES]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
