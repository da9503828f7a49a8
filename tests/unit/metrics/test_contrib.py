# SPDX-License-Identifier: MIT
"""The dashboard, the alert rules and the units speak of what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import exposition
import pytest

from pyxc.cli.commands import build
from pyxc.metrics.exporter import FAMILIES

TOP = Path(__file__).parents[3]
DASHBOARD = TOP / "contrib/grafana/xen.json"
ALERTS = TOP / "contrib/prometheus/xen-alerts.yml"
KNOWN = {family.name: family for family in FAMILIES}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return found


def expressions() -> list[str]:
    shown = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    return shown + re.findall(r"^ +expr: (.*)$", ALERTS.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("expression", expressions())
def test_expressions_use_metrics_that_there_are(expression: str) -> None:
    names = re.findall(r"\bxen_[a-z_]+", expression)
    assert set(names) <= set(KNOWN)
    for name in names:
        by_rate = re.search(rf"\b(rate|increase)\({name}\b", expression) is not None
        assert by_rate == (KNOWN[name].kind == "counter"), name


def test_pages_use_metrics_that_there_are() -> None:
    text = (TOP / "docs/monitoring.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\|[^|\n]*\|([^|\n]*)\|$", text, re.MULTILINE)
    names = {name for cell in cells for name in re.findall(r"\bxen_[a-z_]+", cell)}
    assert len(names) > 20
    assert names - {"xen_vm_"} <= set(KNOWN)


def test_panels_do_not_overlap() -> None:
    places = set()
    for panel in panels():
        grid = panel["gridPos"]
        mine = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not places & mine, panel["title"]
        places |= mine


def test_domains_of_two_hosts_are_kept_apart() -> None:
    """Each host has a Domain-0: it is neither added to another's nor has the same legend."""
    for panel in panels():
        for target in panel.get("targets", ()):
            assert "by (domain)" not in target["expr"], panel["title"]
            if "{{domain}}" in target["legendFormat"]:
                assert target["legendFormat"].startswith("{{instance}} "), panel["title"]


def test_what_can_be_negative_is_shown() -> None:
    limited = [
        panel["title"]
        for panel in panels()
        if panel.get("fieldConfig", {}).get("defaults", {}).get("min") == 0
    ]
    assert "Memory" in limited
    assert "Memory away from its target" not in limited


def test_numbers_that_are_neither_good_nor_bad_are_not_red() -> None:
    """Grafana's own thresholds make all from 80 on red, free memory too."""
    for panel in panels():
        if panel["type"] == "stat":
            (step,) = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert step == {"color": "text", "value": None}, panel["title"]


def test_domains_without_a_name_are_among_all() -> None:
    variables = json.loads(DASHBOARD.read_text(encoding="utf-8"))["templating"]["list"]
    assert {variable["name"]: variable["allValue"] for variable in variables if "allValue" in variable} == {
        "instance": ".*",
        "domain": ".*",
    }


def test_alert_rules_do_what_their_test_says() -> None:
    tool = exposition.promtool()
    for word, file in (("check", ALERTS), ("test", ALERTS.parent / "xen-alerts-test.yml")):
        done = subprocess.run([tool, word, "rules", str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_units_start_a_command_that_there_is() -> None:
    service = (TOP / "contrib/systemd/pyxc-exporter.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=/usr/bin/pyxc (.*)$", service, re.MULTILINE)
    assert build().parse(command.split()).user == "nobody"


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not installed")
    for kind in ("service", "socket"):
        text = (TOP / f"contrib/systemd/pyxc-exporter.{kind}").read_text(encoding="utf-8")
        (tmp_path / f"pyxc-exporter.{kind}").write_text(text.replace("/usr/bin/pyxc", "/bin/true"))
    units = [str(tmp_path / f"pyxc-exporter.{kind}") for kind in ("service", "socket")]
    done = subprocess.run([tool, "verify", "--man=no", *units], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "pyxc-exporter" in line]
    assert complaints == []
