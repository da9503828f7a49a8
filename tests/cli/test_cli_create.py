# SPDX-License-Identifier: MIT
"""`pyxc create`, and what `destroy` takes away again."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A host whose new guests print, and power off when they are told "off".
PROGRAM = """
import sys
from pyxc import opening, sim
from pyxc.cli import main

hypervisor = sim.Hypervisor(sim.named("sim:xen-4.17"))
opening.open_link = lambda target, gate="auto": hypervisor.connect("sim:xen-4.17")
def kernel(guest):
    guest.obey()
    guest.typed(lambda data: guest.stop() if b"off" in data else guest.print(data))
    guest.print("booted\\n")
hypervisor.when_started(kernel)
sys.exit(main(sys.argv[1:]))
"""


def test_a_guest_is_created_and_destroyed(pyxc, host, guest_config):
    status, out, err = pyxc("create", guest_config)
    assert (status, out) == (0, "")
    assert err.splitlines() == [
        f"Parsing config from {guest_config}",
        "on_reboot=restart: only `pyxc run` stays to do that",
    ]
    assert pyxc("list", "shop").out.split()[-6:-2] == ["shop", "4", "16", "1"]
    assert host.domains[4].pauses == 0
    assert pyxc("destroy", "shop") == (0, "", "")
    assert host.store.tree.get("/local/domain/4") is None
    assert host.store.tree.get("/libxl/4") is None


def test_paused_and_quiet(pyxc, host, guest_config):
    assert pyxc("create", "-p", "-q", guest_config, "name=other", "vcpus=2") == (0, "", "")
    assert host.domains[4].pauses == 1
    assert pyxc("domid", "other").out == "4\n"
    made = pyxc("create", "-p", guest_config, "on_reboot=destroy", "--json").json
    assert (made["domid"], made["name"], made["kind"]) == (5, "shop", "pvh")


def test_what_would_be_built(pyxc, host, guest_config):
    shown = pyxc("create", "-n", "-q", guest_config, "memory=64", "disk=['phy:/dev/a,xvda,w']").out
    assert "memory_kb           : 65536\n" in shown
    assert "kind                : pvh\n" in shown
    config = pyxc("create", "--dryrun", guest_config, "on_crash=preserve", "--json").json["config"]
    assert (config["name"], config["on_crash"], config["kind"]) == ("shop", "preserve", "pvh")
    assert len(host.domains) == 4


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        (["vnc=1"], 1, "argument 'vnc=1': vnc is not supported"),
        (["name=web1"], 2, "domain 1 already has the name web1"),
        (["kernel=/nothing"], 1, "No such file"),
        (["memory=4096"], 1, "ENOMEM"),
        (["type=pv"], 2, ""),
        (["nonsense"], 1, "= is expected"),
    ],
)
def test_what_cannot_be_built(pyxc, host, guest_config, settings, status, message):
    outcome = pyxc("create", "-q", guest_config, *settings)
    assert (outcome.status, message in outcome.err) == (status, True), outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert len(host.domains) == 4
    assert host.store.tree.get("/local/domain/4") is None


def test_the_line_of_the_file_is_named(pyxc, host, guest_config):
    with open(guest_config, "a") as file:
        file.write("bootloader = 'pygrub'\n")
    outcome = pyxc("create", "-q", guest_config)
    assert outcome.err == (
        f"pyxc: {guest_config}:4: bootloader is not supported: name the kernel itself by kernel=\n"
    )
    assert pyxc("create", "-q", "/nothing").status == 1


def test_with_its_console_from_the_first_byte(guest_config):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "create", "-c", "-q", guest_config],
        input="off", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("booted\n", "")


def test_a_guest_of_xl_leaves_what_is_xls(pyxc, host):
    host.store.write("/libxl/1/type", "pv")
    outcome = pyxc("destroy", "web1")
    assert outcome == (0, "", "Domain 1 was xl's: its nodes in xenstore stay\n")
    assert host.store.tree.get("/local/domain/1") is not None
