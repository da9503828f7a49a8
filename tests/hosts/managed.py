# SPDX-License-Identifier: MIT
"""Hosts of real Xen that are reached by ssh, and what runs on them."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE_S = 900
LINUX = "/guests/linux.cfg"


class Host(NamedTuple):
    """A dom0, by its name in the configuration file for ssh."""

    name: str
    ssh: Path

    def run(self, command: str) -> str:
        """The output of a shell command that succeeds."""
        words = ["ssh", "-F", str(self.ssh), self.name, command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> dict[str, Any]:
        """What the pyxc of the host says with --json."""
        said: dict[str, Any] = json.loads(self.run(f"pyxc --json {' '.join(words)}"))
        return said

    def names(self) -> list[str]:
        """The domains of the host."""
        return [domain["name"] for domain in self.json("list")["domains"]]

    def ticks(self, guest: str) -> list[int]:
        """The seconds that a ticking guest has counted on this host.

        xenconsoled names the file by the name that the domain had at first, NAME--incoming after it moved.
        """
        printed = self.run(f"cat /run/xen/console/guest-{guest}*.log 2>/dev/null || true")
        return sorted(int(number) for number in re.findall(r"tick (\d+)\r?\n", printed))

    def wait_for_ticks(self, guest: str, after: int) -> list[int]:
        """At least two seconds that a guest has counted here after the first `after`."""
        wait_until(lambda: len(self.ticks(guest)) > after + 1, f"{guest} counts on {self.name}")
        return self.ticks(guest)[after:]


def start_linux(host: Host, name: str, words: str, ready: Callable[[], bool], what: str) -> None:
    """Create a Linux guest and wait until it is ready.

    An emulated machine sometimes breaks a kernel while it starts: then another one is started.
    """
    create = f"pyxc create {LINUX} name={name} {words}"
    host.run(create)

    def is_ready() -> bool:
        if host.json("list", name)["domains"][0]["state"] == "shutdown":
            host.run(f"pyxc destroy -f {name} && {create}")
        return ready()

    wait_until(is_ready, what)


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S} s"
        time.sleep(1)


def remove_guests(hosts: list[Host]) -> None:
    for host in hosts:
        for name in host.names():
            if name != "Domain-0":
                host.run(f"pyxc destroy -f {name}")
