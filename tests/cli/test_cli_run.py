# SPDX-License-Identifier: MIT
"""`pyxc run`: it stays with a guest, and its exit status says how the guest ended."""

from __future__ import annotations

import signal
import sys

import pytest

from pyxc import ShutdownReason
from pyxc.cli.status import Status

# A host whose guests take requests, or with the argument "deaf" do not.
PROGRAM = """
import sys
from pyxc import opening, sim
from pyxc.cli import main

hypervisor = sim.Hypervisor(sim.named("sim:xen-4.17"))
opening.open_link = lambda target, gate="auto": hypervisor.connect("sim:xen-4.17")
def kernel(guest):
    if sys.argv[1] != "deaf":
        guest.obey()
    guest.print("\\x1b[1mbooted\\n")
hypervisor.when_started(kernel)
status = main(sys.argv[2:])
assert len(hypervisor.domains) == 4, hypervisor.domains
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (ShutdownReason.POWEROFF, Status.OK),
        (ShutdownReason.REBOOT, Status.REBOOTED),
        (ShutdownReason.CRASH, Status.CRASHED),
        (ShutdownReason.WATCHDOG, Status.WATCHDOG),
        (77, Status.CRASHED),
    ],
)
def test_the_status_says_how_it_ended(pyxc, host, guest_config, reason, status):
    host.when_started(lambda guest: guest.stop(reason))
    assert pyxc("run", "-q", guest_config, "on_reboot=destroy") == (status, "", "")
    assert len(host.domains) == 4


def test_what_happens_is_said(pyxc, host, guest_config):
    host.when_started(lambda guest: guest.stop())
    assert pyxc("run", guest_config).err.splitlines() == [
        f"Parsing config from {guest_config}",
        "shop is domain 4",
        "shop powered off: destroy",
    ]


def test_its_console_is_printed_and_logged(pyxc, host, guest_config, tmp_path):
    def kernel(guest):
        guest.print("\x1b[1mbooted\n")
        guest.stop()

    host.when_started(kernel)
    log = tmp_path / "shop.log"
    assert pyxc("run", "-q", "-c", "--log", str(log), guest_config).out == "\\x1b[1mbooted\n"
    assert log.read_bytes() == b"\x1b[1mbooted\n"


def test_one_that_somebody_destroys(pyxc, host, guest_config):
    host.when_started(lambda guest: host.kill(guest.domain))
    assert pyxc("run", "-q", guest_config).status == Status.GONE


def test_one_that_is_preserved(pyxc, host, guest_config):
    host.when_started(lambda guest: guest.stop())
    outcome = pyxc("run", "-q", guest_config, "on_poweroff=preserve", "--json")
    assert outcome.json["shutdown_reason"] == "poweroff"
    assert pyxc("domid", "shop").out == "4\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_it_to_power_off(start, guest_config, number):
    process = start(
        sys.executable, "-c", PROGRAM, "obedient", "run", "-c", guest_config, "on_poweroff=restart",
        stdout=-1, stderr=-1,
    )  # fmt: skip
    assert process.stdout.readline() == "\\x1b[1mbooted\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.splitlines()[-2:] == ["asking domain 4 to power off", "shop powered off: destroy"]


def test_one_that_does_not_power_off_is_destroyed(start, guest_config):
    process = start(
        sys.executable, "-c", PROGRAM, "deaf", "run", "-c", "--timeout", "0.1", guest_config,
        stdout=-1, stderr=-1,
    )  # fmt: skip
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "has not shut down within 0.1 s: it is destroyed" in errors
