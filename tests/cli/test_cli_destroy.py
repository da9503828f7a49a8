# SPDX-License-Identifier: MIT
"""`pyxc destroy`: it asks the person at a terminal, and a trial run changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


class Terminal:
    """A pseudo-terminal on which a command is run."""

    def __init__(self, host):
        self._target = f"sim:xen-4.17@{host}"

    def run(self, typed, *words):
        """Its exit status, and what the terminal shows."""
        leader, follower = os.openpty()
        with open(leader, "r+b", buffering=0) as screen:
            screen.write(typed)
            with open(follower, "r+b", buffering=0) as end:
                command = [sys.executable, "-m", "pyxc", "--target", self._target, *words]
                done = subprocess.run(command, stdin=end, stdout=end, stderr=end, timeout=120)
                end.write(b"the end")
                shown = b""
                while b"the end" not in shown:
                    shown += screen.read(4096)
        return done.returncode, shown.decode()


@pytest.fixture
def terminal(tmp_path):
    return Terminal(tmp_path / "host")


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"\n", 1), (b"\x04", 1)])
def test_it_asks_on_a_terminal(terminal, answer, status):
    outcome, shown = terminal.run(answer, "destroy", "build")
    assert outcome == status
    assert "Destroy domain 3, build, of 32 MiB? [y/N] " in shown
    assert ("build: was not destroyed" in shown) is bool(status)
    assert terminal.run(b"", "domid", "build")[0] == (0 if status else 5)


def test_it_does_not_ask_for_what_is_refused(terminal):
    outcome, shown = terminal.run(b"", "--read-only", "destroy", "build")
    assert outcome == 4
    assert "this handle is read-only" in shown
    assert "?" not in shown


@pytest.mark.parametrize("option", ["-f", "--json"])
def test_it_need_not_ask(terminal, option):
    outcome, shown = terminal.run(b"", "destroy", option, "build")
    assert outcome == 0
    assert "?" not in shown


@pytest.mark.usefixtures("host")
def test_without_a_terminal_it_does_not_ask(pyxc):
    assert pyxc("destroy", "build") == (0, "", "")


def test_a_trial_run(pyxc, host):
    before = set(host.domains)
    outcome = pyxc("destroy", "-n", "build", "web1", "missing", "0")
    assert outcome.status == 7
    assert (
        outcome.out == "would destroy domain 3, build, of 32 MiB\nwould destroy domain 1, web1, of 64 MiB\n"
    )
    assert "missing: no domain has the name" in outcome.err
    assert "it cannot be destroyed" in outcome.err
    report = pyxc("destroy", "--dry-run", "--json", "build").json
    assert [one["domid"] for one in report["would_destroy"]] == [3]
    assert set(host.domains) == before
