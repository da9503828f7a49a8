# SPDX-License-Identifier: MIT
"""The command on every simulated release: what it prints may be less, but it never fails for that."""

from __future__ import annotations

import pytest

from pyxc.sim import PROFILES, named

RELEASES = [target for target in PROFILES if not named(target).dom0_op]
SHADOWLESS = ("sim:xen-4.22", "sim:xen-4.23")
"""Built without shadow page tables."""
COMMANDS = """
    list -v, list --json, claims, info, info --json -v, vcpu-list, vcpu-list --json, vcpu-pin web1 all 0,
    vcpu-pin web1 0 all --json, context web1, frames web1, frames web1 --types, frames db1,
    frames build --p2m, dmesg, dmesg --clear, debug-keys h, mem-max web1 128, pause web1,
    create-empty, create-empty --hvm SHADOWLESS, destroy build, dump-core --provenance none build CORE
"""


@pytest.mark.parametrize("target", RELEASES)
@pytest.mark.parametrize("command", [command.strip() for command in COMMANDS.split(",")])
def test_a_command_works_on_every_release(pyxc, target, command, tmp_path):
    places = {"CORE": [str(tmp_path / "core")], "SHADOWLESS": ["--hap"] if target in SHADOWLESS else []}
    words = [part for word in command.split() for part in places.get(word, [word])]
    outcome = pyxc("--target", target, *words)
    assert (outcome.status, outcome.err) == (0, "")


def test_what_an_old_release_does_not_tell(pyxc):
    info = pyxc("--target", "sim:xen-3.1", "info", "--json").json
    assert (info["nr_cpus"], info["max_cpu_id"]) == (2, None)
    assert (info["outstanding_memory_kb"], info["xen_commandline"], info["build_id"]) == (None, None, None)
    assert info["virt_caps"] == ["pv", "hvm"]
    lines = pyxc("--target", "sim:xen-3.1", "info").out.splitlines()
    assert not [line for line in lines if line.startswith(("outstanding", "xen_commandline", "max_cpu_id"))]
    (vcpu, *_) = pyxc("--target", "sim:xen-4.4", "vcpu-list", "--json").json["vcpus"]
    assert (vcpu["hard_affinity"], vcpu["soft_affinity"]) == ([0, 1], None)
    assert pyxc("--target", "sim:xen-4.4", "vcpu-list").out.splitlines()[1].endswith("  all / -")


def test_what_a_release_cannot_do(pyxc):
    outcome = pyxc("--target", "sim:xen-4.4", "vcpu-pin", "web1", "0", "all", "1")
    assert (outcome.status, outcome.out) == (6, "")
    assert "soft affinity exists since Xen 4.5" in outcome.err
    outcome = pyxc("--target", "sim:xen-4.22", "create-empty", "--hvm")
    assert (outcome.status, outcome.out) == (1, "")
    assert "EINVAL" in outcome.err and "HVM without hap" in outcome.err
    outcome = pyxc("--target", "sim:xen-3.1", "dmesg", "--follow")
    assert (outcome.status, outcome.out) == (6, "")
    assert "an index exists since Xen 3.2" in outcome.err
