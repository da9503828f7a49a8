# SPDX-License-Identifier: MIT
"""The Ansible collection manages all hosts, and has nothing to do the second time."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from managed import LINUX, PATIENCE_S, Host, remove_guests

COLLECTION = Path(__file__).parents[2] / "contrib/ansible"
PLAY = f"""
- hosts: all
  gather_facts: false
  tasks:
    - pyxc.xen.info:
      register: facts
    - pyxc.xen.domain: {{name: managed, state: "{{{{ wanted }}}}", config: {LINUX}, force: true}}
    - pyxc.xen.store: {{path: /tool/managed, value: "by ansible"}}
    - pyxc.xen.scheduler: {{name: Domain-0, weight: 512}}
"""


@pytest.fixture
def workplace(tmp_path: Path, hosts: list[Host]) -> Path:
    """A directory with the collection, an inventory of the hosts and a play."""
    place = tmp_path / "collections/ansible_collections/pyxc"
    place.mkdir(parents=True)
    (place / "xen").symlink_to(COLLECTION)
    python = "ansible_python_interpreter=/usr/bin/python3"
    (tmp_path / "hosts").write_text("".join(f"{host.name} {python}\n" for host in hosts))
    (tmp_path / "play.yml").write_text(PLAY)
    guests = {
        "plugin": "pyxc.xen.guests",
        "hosts": [host.name for host in hosts],
        "ssh_arguments": ["-F", str(hosts[0].ssh)],
        "ssh_timeout": 60,
    }
    (tmp_path / "all.pyxc.yml").write_text(json.dumps(guests))
    return tmp_path


def ansible(workplace: Path, ssh: Path, *words: str) -> str:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(workplace / "collections"),
        "ANSIBLE_SSH_ARGS": f"-F {ssh} -o ControlMaster=auto -o ControlPersist=60",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_TIMEOUT": "60",
    }
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=workplace, env=environment, timeout=5 * PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def changed(output: str) -> set[int]:
    """How many tasks changed something, of each host in the recapitulation."""
    return {int(number) for number in re.findall(r"changed=(\d+) .* failed=0 ", output)}


def play(workplace: Path, hosts: list[Host], *words: str) -> set[int]:
    return changed(ansible(workplace, hosts[0].ssh, "ansible-playbook", "-i", "hosts", "play.yml", *words))


def test_a_play_changes_what_differs_and_only_that(workplace: Path, hosts: list[Host]) -> None:
    wanted = ("-e", "wanted=paused")
    assert play(workplace, hosts, "--check", *wanted) == {3}
    assert all(host.names() == ["Domain-0"] for host in hosts)
    assert play(workplace, hosts, *wanted) == {3}
    assert all("managed" in host.names() for host in hosts)
    assert play(workplace, hosts, *wanted) == {0}
    assert play(workplace, hosts, "-e", "wanted=absent") == {1}
    assert all(host.names() == ["Domain-0"] for host in hosts)
    for host in hosts:
        assert host.run("pyxc store read /tool/managed") == "by ansible\n"
        host.run("pyxc store rm /tool/managed")


def test_the_inventory_has_the_guests(workplace: Path, hosts: list[Host]) -> None:
    hosts[1].run(f"pyxc create -p {LINUX} name=listed")
    said = json.loads(ansible(workplace, hosts[0].ssh, "ansible-inventory", "-i", "all.pyxc.yml", "--list"))
    assert sorted(said["xen_hosts"]["hosts"]) == [host.name for host in hosts]
    assert any("listed" in name for group in said.values() for name in group.get("hosts", ()))
    remove_guests(hosts)
