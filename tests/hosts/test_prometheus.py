# SPDX-License-Identifier: MIT
"""Prometheus on this machine scrapes an exporter on each host, and sees on which of them a guest is."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from managed import LINUX, Host, remove_guests, wait_until

DASHBOARD = Path(__file__).parents[2] / "contrib/grafana/xen.json"
VARIABLES = {"$instance": ".*", "$domain": ".*", "$__rate_interval": "1m", "$__range": "1m"}
EXPORTER_PORT = 9779
GUEST = "wanderer"
BRIDGE = "pyxcbr0"
DISK = "/run/wanderer.disk"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def process(*words: str) -> Iterator[None]:
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        try:
            yield
        finally:
            started.terminate()


@pytest.fixture
def prometheus(hosts: list[Host], tmp_path: Path) -> Iterator[int]:
    """The port of a Prometheus whose targets are the exporters, each by the name of its host."""
    own, *ports = free_ports(len(hosts) + 1)
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"xen_host": host.name}}
        for host, port in zip(hosts, ports)
    ]
    scraped = {"job_name": "xen", "static_configs": targets}
    interval = {"scrape_interval": "5s", "scrape_timeout": "5s"}
    # JSON is YAML.
    (tmp_path / "prometheus.yml").write_text(json.dumps({"global": interval, "scrape_configs": [scraped]}))
    with contextlib.ExitStack() as stack:
        for host, port in zip(hosts, ports):
            forward = f"127.0.0.1:{port}:127.0.0.1:{EXPORTER_PORT}"
            words = ("ssh", "-F", str(host.ssh), "-L", forward, host.name, "exec pyxc exporter --runstates")
            # A terminal, so that the exporter ends with the connection.
            stack.enter_context(process(*words[:3], "-tt", *words[3:]))
        stack.enter_context(
            process(
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{own}",
            )
        )
        everywhere = {host.name: 1.0 for host in hosts}
        wait_until(lambda: by_host(own, 'up{job="xen"}') == everywhere, "all targets answer")
        yield own
    remove_guests(hosts)


def ask(port: int, query: str) -> list[dict[str, Any]]:
    """The series that answer a query."""
    words = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{words}", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return found


def by_host(port: int, query: str) -> dict[str, float]:
    """The answer to a query by the host that it is about."""
    return {row["metric"].get("xen_host", ""): float(row["value"][1]) for row in ask(port, query)}


def queries_of_panels() -> list[tuple[str, str]]:
    """Each query of the dashboard, with the title of its panel."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]


def empty_panels(port: int) -> list[str]:
    """The panels in which nothing is drawn."""
    empty = []
    for title, query in queries_of_panels():
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        if not ask(port, query):
            empty.append(title)
    return empty


@pytest.fixture
def bridge(hosts: list[Host]) -> Iterator[str]:
    """A bridge of the first host."""
    path = "PATH=$PATH:/lab/bin"
    hosts[0].run(f"{path}; brctl addbr {BRIDGE} && ifconfig {BRIDGE} up")
    yield BRIDGE
    hosts[0].run(f"{path}; ifconfig {BRIDGE} down && brctl delbr {BRIDGE}")


def test_a_guest_is_seen_to_move(hosts: list[Host], prometheus: int) -> None:
    here, there = hosts[:2]
    here.run(f"pyxc create {LINUX} name={GUEST}")
    lives = f'count by (xen_host) (xen_domain_memory_bytes{{domain="{GUEST}"}})'
    wait_until(lambda: by_host(prometheus, lives) == {here.name: 1.0}, "the guest is seen")
    here.run(f"pyxc migrate {GUEST} {there.name}")
    wait_until(lambda: by_host(prometheus, lives) == {there.name: 1.0}, "the guest is seen to have moved")


def test_each_panel_of_the_dashboard_shows_something(hosts: list[Host], bridge: str, prometheus: int) -> None:
    hosts[0].run(f"head -c 1M /dev/zero > {DISK}")
    devices = f"disk=\"['{DISK},raw,xvda,rw']\" vif=\"['bridge={bridge}']\""
    hosts[0].run(f"pyxc create {LINUX} name={GUEST} 'cmdline=\"console=hvc0 quiet devices\"' {devices}")
    empty: list[str] = []

    def all_show_something() -> bool:
        empty[:] = empty_panels(prometheus)
        print(empty)
        return not empty

    wait_until(all_show_something, "each panel shows something")
