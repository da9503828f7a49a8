# SPDX-License-Identifier: MIT
"""Commands about what is inside the hypervisor, and about its security policy."""

from __future__ import annotations

import errno
import json

import pytest

from pyxc import opening
from pyxc.abi.livepatch import LIVEPATCH_OP_ACTION
from pyxc.cli.status import Status
from pyxc.link.faults import FaultLink
from pyxc.sim.model.frequencies import Frequencies

XSM = ("--target", "sim:xen-4.17-xsm")
SIM = ("--target", "sim:xen-4.17")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("getenforce",), "Enforcing"),
        (("get-bool", "prot_doms_locked"), "prot_doms_locked: off"),
        (("hypfs", "ls", "/params"), "<bool>   rw global-pages"),
        (("hypfs", "tree"), "      extra"),
        (("hypfs", "tree"), "    version/"),
        (("hypfs", "cat", "/buildinfo/version/minor"), "17"),
        (("hypfs", "cat", "/params/global-pages"), "0"),
        (("cpu-policy",), "  00000007:00000000 -> 00000000:00000281:00000000:00000000"),
        (("cpu-policy", "web1"), "  000000ce -> 0000000080000000"),
    ],
)
def test_what_is_printed(pyxc, words, line):
    assert line in pyxc(*XSM, *words).out.splitlines()


def test_counters_and_their_values(pyxc):
    summed = next(line for line in pyxc(*XSM, "perf").out.splitlines() if line.startswith("hypercalls"))
    full = next(line for line in pyxc(*XSM, "perf", "-f").out.splitlines() if line.startswith("hypercalls"))
    each = next(line for line in pyxc(*XSM, "perf").out.splitlines() if line.startswith("calls from"))
    assert len(summed.split()) == 3
    assert each.split() == ["calls", "from", "multicall", "T=", "0"]
    assert len(full.split()) == 3 + 64


def test_locks_are_shown_as_xenlockprof_does(pyxc, guarded):
    first, *_, held, waited = pyxc("lockprof").out.splitlines()
    count = int(first.partition("lock:")[2].partition("(")[0])
    name = "global lock sysctl_lock"
    assert first == f"{name:<50}: lock:{count:12}({count / 1e6:20.9f}s), block:{0:12}({0:20.9f}s)"
    assert held.split()[:3] == ["total", "locked", "time:"]
    assert waited == "total blocked time:            0.000000000s"
    before = pyxc("lockprof", "--json").json["locks"][0]["lock_cnt"]
    assert pyxc("lockprof", "--reset") == (0, "", "")
    assert count < before > pyxc("lockprof", "--json").json["locks"][0]["lock_cnt"]


def test_a_hypervisor_without_lock_profiling_says_so(pyxc):
    refused = pyxc(*SIM, "lockprof")
    assert (refused.status, refused.err.count("built without lock profiling")) == (Status.UNSUPPORTED, 1)


def test_json_of_everything(pyxc):
    for words, key in (
        (("perf",), "counters"), (("hypfs", "ls"), "entries"), (("livepatch", "list"), "livepatches"),
        (("cpu-policy",), "leaves"), (("get-bool",), "booleans"), (("getenforce",), "enforcing"),
    ):  # fmt: skip
        assert key in json.loads(pyxc(*XSM, *words, "--json").out)
    leaf = json.loads(pyxc(*XSM, "cpu-policy", "--json").out)["leaves"][0]
    assert leaf["subleaf"] is None
    domains = json.loads(pyxc(*XSM, "list", "--json").out)["domains"]
    assert {domain["label"] for domain in domains} == {"system_u:system_r:dom0_t", "system_u:system_r:domU_t"}


def test_labels_are_listed(pyxc):
    assert pyxc(*XSM, "list", "-v").out.splitlines()[1].endswith(" system_u:system_r:dom0_t")
    assert pyxc(*SIM, "list", "-v").out.splitlines()[1].endswith(f" {'-':>16}")


def test_a_domain_is_created_with_a_label(pyxc, guarded):
    label = "system_u:system_r:isolated_domU_t"
    domid = pyxc("create-empty", "--seclabel", label).out.strip()
    assert pyxc("list", domid, "--json").json["domains"][0]["label"] == label
    assert pyxc("create-empty", "--seclabel", "system_u:system_r:dom0_t").status == Status.FORBIDDEN
    assert pyxc("create-empty", "--seclabel", "no such label").status == Status.FAILED
    assert len(guarded.domains) == 5


@pytest.mark.parametrize("mode", ["0", "1", "Permissive", "enforcing"])
def test_modes_are_spelled_as_xl_does(pyxc, mode):
    assert pyxc(*XSM, "setenforce", mode).status == Status.OK


def test_changes_are_carried_out(pyxc, policy):
    for words in (
        ("setenforce", "0"), ("set-bool", "prot_doms_locked", "on"), ("loadpolicy", policy),
        ("perf", "--reset"), ("hypfs", "write", "/params/loglvl", "none"),
        ("hypfs", "write", "/params/global-pages", "1"),
    ):  # fmt: skip
        assert pyxc(*XSM, *words) == (Status.OK, "", ""), words
        assert json.loads(pyxc(*XSM, *words, "--json").out)["schema"] == 1
        assert pyxc(*XSM, "--read-only", *words).status == Status.FORBIDDEN


def test_without_a_policy(pyxc):
    assert pyxc(*SIM, "getenforce").out == "Flask XSM Disabled\n"
    assert pyxc(*SIM, "setenforce", "1").status == Status.UNSUPPORTED
    assert pyxc(*SIM, "perf").status == Status.UNSUPPORTED


@pytest.mark.parametrize(
    "words",
    [
        ("setenforce", "maybe"),
        ("set-bool", "prot_doms_locked", "2"),
        ("hypfs", "write", "/params/global-pages", "on"),
        ("hypfs", "cat", "params"),
        ("cpu-policy", "web1", "--policy", "raw"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(pyxc, words):
    assert pyxc(*XSM, *words).status == Status.USAGE


def test_what_is_not_there_is_a_failure(pyxc):
    assert pyxc(*XSM, "hypfs", "cat", "/nope").status == Status.FAILED
    assert pyxc(*XSM, "get-bool", "nope").status == Status.FAILED
    assert pyxc(*XSM, "loadpolicy", "/nope").status == Status.FAILED


def test_a_patch_that_cannot_be_applied_is_unloaded_again(pyxc, host, tmp_path):
    patch = tmp_path / "xsa-1.livepatch"
    patch.write_bytes(b"\x7fELF")
    link = FaultLink(host.connect("sim:xen-4.17"))
    link.fail(LIVEPATCH_OP_ACTION, errno.EBUSY)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(opening, "open_link", lambda target, gate="auto": link)
        assert pyxc("livepatch", "load", str(patch)).status == 1
    assert host.livepatches == []
    assert pyxc("livepatch", "load", str(patch)) == (0, "", "")
    assert "APPLIED" in pyxc("livepatch", "list").out
    assert pyxc("livepatch", "unload", "xsa-1").status == 1


def test_frequencies(pyxc, host):
    assert pyxc("pm", "get-cpufreq-para", "0").status == 1
    host.frequencies = Frequencies()
    assert pyxc("pm", "set-scaling-governor", "0", "powersave") == (0, "", "")
    assert pyxc("pm", "disable-turbo-mode") == (0, "", "")
    lines = pyxc("pm", "get-cpufreq-para").out.splitlines()
    assert lines[:2] == ["cpu id               : 0", "affected_cpus        : *0"]
    assert "scaling_avail_freq   : 2400000 1800000 *1200000" in lines
    assert "turbo mode           : disabled" in lines
    assert pyxc("pm", "set-max-cstate", "1") == (0, "", "")
    assert pyxc("pm", "set-max-cstate", "unlimited", "--json").json["max_c_state"] is None
