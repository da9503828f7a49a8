# SPDX-License-Identifier: MIT
"""The Ansible collection: what its modules do to a host, and that they do it once."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyxc.store import StoreClient

COLLECTION = Path(__file__).parents[2] / "contrib/ansible"
SPEC = importlib.util.spec_from_file_location("collection", COLLECTION / "plugins/module_utils/pyxc.py")
assert SPEC is not None and SPEC.loader is not None
collection: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(collection)

SIM = ("--target", "sim:xen-4.17")
"""Commands of xenstore do not open the hypervisor."""
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(pyxc, host) -> Ask:
    """The command with --json on one simulated host."""

    def run(*words: str) -> dict[str, Any]:
        outcome = pyxc("--json", *words)
        assert outcome.status == 0, outcome.err
        return outcome.json if outcome.out else {}

    return run


def bring(ask: Ask, name: str, wanted: str, **options: Any) -> list[list[str]]:
    """What the module does; then it has nothing more to do."""
    for _ in range(2):
        now = collection.state_of(collection.domain_named(ask, name))
        steps, after = collection.domain_steps(now, wanted, name, **options)
        for words in steps:
            ask(*words)
        assert collection.state_of(collection.domain_named(ask, name)) == after
        if not steps:
            break
        first = steps
    else:
        pytest.fail(f"it is not idempotent: {steps}")
    return first if "first" in locals() else []


def test_a_domain_is_paused_and_runs_again(ask):
    assert bring(ask, "db1", "paused") == [["pause", "db1"]]
    assert bring(ask, "db1", "running") == [["unpause", "db1"]]
    assert bring(ask, "db1", "present") == []


def test_a_domain_goes(ask):
    assert bring(ask, "build", "absent") == [["destroy", "build"]]
    assert bring(ask, "web1", "absent", force=True) == [["destroy", "web1"]]


def test_a_guest_is_asked_first(ask, host):
    host.script(1).obey()
    asked, destroyed = bring(ask, "web1", "absent", timeout=30)
    assert (asked[0], destroyed) == ("shutdown", ["destroy", "web1"])


def test_one_that_has_shut_down_is_built_anew(host, ask):
    host.shut_down(host.domains[1], 0)
    now = collection.state_of(collection.domain_named(ask, "web1"))
    assert now == "stopped"
    assert collection.domain_steps(now, "present", "web1") == ([], "stopped")
    steps, after = collection.domain_steps(now, "paused", "web1", "/etc/xen/web1.cfg")
    assert steps == [
        ["destroy", "web1"],
        ["create", "--quiet", "--paused", "/etc/xen/web1.cfg", 'name="web1"'],
    ]
    assert after == "paused"
    with pytest.raises(ValueError, match="config is needed"):
        collection.domain_steps(now, "running", "web1")


@pytest.mark.parametrize("name", ["managed", 'a "b"', "back\\slash"])
def test_a_domain_has_the_name_that_is_asked_for_whatever_the_file_says(pyxc, guest_config, name):
    (build,), _ = collection.domain_steps("absent", "running", name, guest_config)
    assert f"name                : {name}\n" in pyxc(*SIM, *build, "--dry-run").out


def make(ask: Ask, name: str, **wanted: Any) -> list[list[str]]:
    """The same of a cpu pool."""
    pools = {pool["name"]: pool for pool in ask("cpupool-list")["pools"]}
    steps: list[list[str]] = collection.pool_steps(pools.get(name), name, **wanted)
    for words in steps:
        ask(*words)
    return steps


def test_a_cpu_pool(ask, host):
    ask("cpupool-cpu-remove", "Pool-0", "1")
    assert make(ask, "fast", wanted="present", scheduler="credit", cpus=[1]) != []
    assert make(ask, "fast", wanted="present", scheduler="credit", cpus=[1]) == []
    assert make(ask, "fast", wanted="present") == []
    assert make(ask, "fast", wanted="present", cpus=[]) == [["cpupool-cpu-remove", "fast", "1"]]
    with pytest.raises(ValueError, match="stays"):
        make(ask, "fast", wanted="present", scheduler="rtds")
    assert make(ask, "fast", wanted="absent") == [["cpupool-destroy", "fast"]]
    assert make(ask, "fast", wanted="absent") == []


def test_a_domain_is_saved_and_restored(ask, host, tmp_path):
    file = str(tmp_path / "web1.save")
    host.script(1).obey()
    save = ["save", "--timeout", "30", "web1", file]
    assert collection.domain_steps("paused", "saved", "web1", timeout=30, file=file) == (
        [["unpause", "web1"], save],
        "saved",
    )
    steps, after = collection.domain_steps("running", "saved", "web1", timeout=30, file=file)
    assert (steps, after) == ([save], "saved")
    assert collection.domain_steps("saved", "present", "web1", file=file) == ([], "saved")
    assert collection.domain_steps("saved", "saved", "web1", file=file) == ([], "saved")
    assert collection.domain_steps("saved", "paused", "web1", file=file) == (
        [["restore", "--paused", file]],
        "paused",
    )
    for now, given, said in (("running", None, "file is needed"), ("absent", file, "cannot be saved")):
        with pytest.raises(ValueError, match=said):
            collection.domain_steps(now, "saved", "web1", file=given)


def test_the_share_of_a_domain(ask):
    def now() -> dict[str, int]:
        (found,) = ask("sched-credit2", "--domain", "web1")["domains"]
        return {name: found[name] for name in ("weight", "cap")}

    steps, change = collection.scheduler_steps("credit2", "web1", now(), {"weight": 512, "cap": None})
    assert change == {"weight": 512}
    ask(*steps[0])
    assert now() == {"weight": 512, "cap": 0}
    assert collection.scheduler_steps("credit2", "web1", now(), {"weight": 512, "cap": 0}) == ([], {})


def test_a_node(ask, host):
    def now() -> str | None:
        with StoreClient(host.store.connect) as store:
            value = store.read("/tool/x")
        return None if value is None else value.decode()

    for wanted in ("a=b", None):
        (step,) = collection.store_steps("/tool/x", now(), wanted)
        ask(*step, *SIM)
        assert now() == wanted
        assert collection.store_steps("/tool/x", now(), wanted) == []


@pytest.mark.parametrize(("path", "wanted"), [("/params/loglvl", "all"), ("/params/global-pages", "1")])
def test_an_entry_of_xens_file_system(ask, path, wanted):
    (step,) = collection.hypfs_steps(path, ask("hypfs", "cat", path)["value"], wanted)
    ask(*step)
    assert collection.hypfs_steps(path, ask("hypfs", "cat", path)["value"], wanted) == []


def test_the_policy():
    now = {"enforcing": True, "booleans": {"guest_writeconsole": True}}
    assert collection.flask_steps(now, None, {"guest_writeconsole": True}) == []
    assert collection.flask_steps(now, False, {"guest_writeconsole": False}) == [
        ["setenforce", "0"],
        ["set-bool", "guest_writeconsole", "0"],
    ]
    with pytest.raises(ValueError, match="no boolean other"):
        collection.flask_steps(now, None, {"other": True})


def test_a_live_patch(ask, tmp_path):
    file = tmp_path / "xsa-500.livepatch"
    file.write_bytes(b"\x7fELF")

    def now() -> str:
        states = {patch["name"]: patch["state"] for patch in ask("livepatch", "list")["livepatches"]}
        return str(states.get("xsa-500", "absent"))

    with pytest.raises(ValueError, match="file is needed"):
        collection.livepatch_steps("xsa-500", now(), "applied")
    for wanted in ("applied", "checked", "applied", "absent", "checked", "absent"):
        for words in collection.livepatch_steps("xsa-500", now(), wanted, str(file)):
            ask(*words)
        assert now() == wanted
        assert collection.livepatch_steps("xsa-500", now(), wanted) == []


@pytest.fixture
def collections(tmp_path: Path) -> Path:
    """Where Ansible finds the collection."""
    pytest.importorskip("ansible")
    place = tmp_path / "ansible_collections/pyxc/xen"
    shutil.copytree(COLLECTION, place)
    return tmp_path


def module(
    collections: Path, called: str, target: str = "sim:xen-4.17", /, **parameters: Any
) -> dict[str, Any]:
    """Run a module as Ansible does, on a simulated host of its own."""
    program = collections / "pyxc"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pyxc "$@"\n')
    program.chmod(0o755)
    arguments = {"ANSIBLE_MODULE_ARGS": {"executable": str(program), **parameters}}
    path = os.pathsep.join([str(collections), str(COLLECTION.parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.pyxc.xen.plugins.modules.{called}"],
        input=json.dumps(arguments), capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path, "PYXC_TARGET": target},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_modules_in_ansible(collections: Path) -> None:
    found = module(collections, "info")
    assert [one["name"] for one in found["domains"]] == ["Domain-0", "web1", "db1", "build"]
    assert (found["changed"], found["host"]["xen_version"]) == (False, "4.17.7")
    found = module(collections, "domain", name="db1", state="paused", _ansible_check_mode=True)
    assert (found["changed"], found["commands"]) == (True, [["pause", "db1"]])
    assert found["diff"] == {"before": {"state": "running"}, "after": {"state": "paused"}}
    found = module(collections, "domain", name="db1", state="running")
    assert (found["changed"], found["state"]) == (False, "running")
    found = module(collections, "domain", name="new", state="running")
    assert found["failed"] and "config is needed" in found["msg"]
    found = module(collections, "cpupool", name="Pool-0", cpus=[0])
    assert (found["changed"], found["diff"]["after"]["cpus"]) == (True, [0])


def test_modules_of_one_setting_in_ansible(collections: Path) -> None:
    found = module(collections, "scheduler", name="db1", weight=100)
    assert found["diff"] == {"before": {"weight": 256, "cap": 0}, "after": {"weight": 100, "cap": 0}}
    found = module(collections, "store", path="/tool/backup/last", value="now")
    assert found["diff"] == {"before": {"value": None}, "after": {"value": "now"}}
    assert not module(collections, "store", path="/tool/backup/last", state="absent")["changed"]
    found = module(collections, "hypfs", path="/params/loglvl", value="warning/warning")
    assert (found["changed"], found["commands"]) == (False, [])
    found = module(
        collections, "flask", "sim:xen-4.17-xsm", enforcing=True, booleans={"guest_writeconsole": "no"}
    )
    assert found["commands"] == [["set-bool", "guest_writeconsole", "0"]]
    assert found["diff"]["after"]["booleans"]["guest_writeconsole"] is False
    assert module(collections, "flask", "sim:xen-4.17-xsm", booleans={"no": True})["failed"]
    assert not module(collections, "livepatch", name="xsa-500", state="absent")["changed"]


def test_the_inventory_in_ansible(collections: Path) -> None:
    program = collections / "pyxc"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pyxc "$@"\n')
    program.chmod(0o755)
    source = collections / "lab.pyxc.yml"
    source.write_text(f"plugin: pyxc.xen.guests\nhosts: [localhost]\nexecutable: {program}\n")
    path = os.pathsep.join([str(COLLECTION.parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "ansible.cli.inventory", "-i", str(source), "--list"],
        capture_output=True, text=True,
        env={
            **os.environ, "PYTHONPATH": path, "PYXC_TARGET": "sim:xen-4.17", "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_INVENTORY_ENABLED": "pyxc.xen.guests",
            "ANSIBLE_LOCAL_TEMP": str(collections / "tmp"), "HOME": str(collections),
        },
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert set(found["xen_guests"]["hosts"]) == {"web1", "db1", "build"}, done.stderr
    assert found["_meta"]["hostvars"]["web1"]["xen_host"] == "localhost"
