# SPDX-License-Identifier: MIT
"""Exit statuses, and errors in one line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest

from pyxc import errors, opening, sim
from pyxc.cli.commands import host as host_commands
from pyxc.cli.status import status_of

SIM = "--target=sim:xen-4.17"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], 2),
        (["nonsense"], 2),
        (["list", "--nonsense"], 2),
        (["li"], 2),
        (["list", "--js"], 2),
        (["list", "70000"], 2),
        (["pause"], 2),
        (["mem-max", "web1", "lots"], 2),
        (["vcpu-pin", "web1", "0", "5"], 2),
        (["vcpu-pin", "web1", "0", "-"], 2),
        (["vcpu-pin", "web1", "first", "0"], 2),
        (["create-empty", "--uuid", "123"], 2),
        (["create-empty", "--hap"], 2),
        (["create-empty", "--vcpus", "many"], 2),
        (["frames", "web1", "--p2m", "--types"], 2),
        (["frames", "web1", "--all", "--count", "3"], 2),
        (["frames", "web1", "--count", "-1"], 2),
        (["dmesg", "--follow", "--json"], 2),
        (["debug-keys", ""], 2),
        (["debug-keys", "\N{SNOWMAN}"], 2),
        (["list", "--target", "sim:xen-1.0"], 2),
        (["list", "--target", "moon"], 2),
        (["list", "--gate", "open"], 2),
        (["pause", "Domain-0"], 1),
        (["unpause", "web1"], 1),
        (["context", "web1", "2"], 1),
        (["context", "0", "0"], 1),
        (["pause", "web1", "--read-only"], 4),
        (["list", "nobody"], 5),
        (["destroy", "99"], 5),
        (["pause", "nobody", "99"], 5),
        (["frames", "00000000-0000-0000-0000-00000000ffff"], 5),
        (["frames", "db1", "--p2m"], 6),
        (["pause", "web1", "nobody"], 7),
        (["list", "web1", "nobody"], 7),
        (["pause", "Domain-0", "nobody"], 1),
    ],
)
def test_status_and_lines(pyxc, words, status):
    outcome = pyxc(SIM, *words)
    assert outcome.status == status
    lines = outcome.err.splitlines()
    assert lines
    assert all(line.startswith("pyxc: ") for line in lines)
    assert len(lines) == (2 if words[:1] == ["pause"] and len(words) == 3 and status in (1, 5) else 1)


@pytest.mark.parametrize("words", [["--help"], ["list", "--help"], ["--version"]])
def test_help_succeeds(pyxc, words):
    outcome = pyxc(*words)
    assert outcome.status == 0
    assert "pyxc" in outcome.out


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotXenError(errno.ENOENT, "no device", "/dev/xen/privcmd"), 3),
        (errors.NotXenError(errno.EACCES, "run as root", "/dev/xen/privcmd"), 4),
        (errors.NotXenError(errno.EPERM, "this is not dom0"), 3),
        (errors.from_errno(errno.EPERM, "domctl.pausedomain", 1), 4),
        (errors.from_errno(errno.ESRCH, "domctl.pausedomain", 1), 5),
        (errors.DomainGone("gone"), 5),
        (errors.from_errno(errno.ENOSYS, "sysctl.x"), 6),
        (errors.VersionMismatch(errno.EACCES, "domctl"), 6),
        (errors.DecodeError("nonsense"), 1),
        (errors.DomainStuck(errno.ETIMEDOUT, "stuck"), 1),
        (errors.StoreError(errno.EIO, "refused"), 1),
        (MemoryError(), 1),
        (KeyError("a fault of pyxc"), None),
    ],
)
def test_what_errors_mean(error, status):
    assert status_of(error) == status


def test_partial_failure_says_which(pyxc, host):
    outcome = pyxc("pause", "web1", "nobody", "--json")
    assert outcome.err == "pyxc: nobody: no domain has the name nobody\n"
    assert pyxc(SIM, "list", "wep1").err == "pyxc: wep1: no domain has the name wep1; did you mean 'web1'?\n"
    assert [done["domid"] for done in outcome.json["done"]] == [1]
    assert outcome.json["failed"] == [
        {"argument": "nobody", "status": 5, "error": "no domain has the name nobody"}
    ]


def test_read_only_changes_nothing(pyxc, host):
    assert pyxc("--read-only", "destroy", "web1").status == 4
    assert pyxc("list", "web1").status == 0


def test_global_options_stand_anywhere(pyxc):
    before, after = pyxc(SIM, "--json", "list"), pyxc("list", "--json", SIM)
    assert before.json == after.json
    assert "xen-4.14" in pyxc(SIM, "info", "--target", "sim:xen-4.14").out


def test_target_of_the_environment(pyxc, monkeypatch):
    monkeypatch.setenv("PYXC_TARGET", "sim:xen-4.20")
    assert "sim:xen-4.20" in pyxc("info").out
    assert "sim:xen-4.17" in pyxc("info", SIM).out


def test_without_xen_one_line_says_what_is_missing(pyxc, monkeypatch):
    def no_device(target, gate):
        raise errors.NotXenError(errno.ENOENT, "no privcmd device", "/dev/xen/privcmd")

    monkeypatch.setattr(opening, "open_link", no_device)
    assert pyxc("list") == (3, "", "pyxc: /dev/xen/privcmd: no privcmd device\n")


def test_a_warning_is_one_line(pyxc, host, monkeypatch):
    def silent(self, domid, uuid):
        warnings.warn("nothing answers", RuntimeWarning, stacklevel=2)

    monkeypatch.setattr("pyxc.store.Names.domain_name", silent)
    outcome = pyxc("list", "0")
    assert (outcome.status, outcome.err) == (0, "pyxc: warning: nothing answers\n")
    assert "(null)" in outcome.out


def test_a_fault_of_pyxc_is_not_hidden(pyxc, monkeypatch):
    def broken(args):
        raise AttributeError("a bug")

    monkeypatch.setattr(host_commands, "_host", broken)
    with pytest.raises(AttributeError):
        pyxc("info", SIM)


def test_follow_ends_by_an_interrupt(pyxc, host, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(host_commands.time, "sleep", interrupt)
    outcome = pyxc("dmesg", "--follow")
    assert outcome.status == 130
    assert outcome.out.startswith("(XEN)")
    assert outcome.err == ""


def test_follow_prints_new_lines_only_once(pyxc, host, monkeypatch):
    naps = iter(range(2))

    def press(seconds):
        if next(naps, None) is None:
            raise KeyboardInterrupt
        host.console.print("(XEN) news\n")

    before = pyxc("dmesg").out
    monkeypatch.setattr(host_commands.time, "sleep", press)
    assert pyxc("dmesg", "-f").out == before + "(XEN) news\n" * 2


@pytest.fixture
def process(start):
    """The command as a process: process("list")."""
    pipe = subprocess.PIPE
    return lambda *words: start(sys.executable, "-m", "pyxc", *words, stdout=pipe, stderr=pipe)


def test_as_a_process(process):
    listing = process("list", SIM)
    out, err = listing.communicate(timeout=60)
    assert (listing.returncode, err) == (0, "")
    assert out.startswith("Name ")


def test_a_closed_pipe_is_no_noise(process):
    frames = process("frames", "web1", "--all", SIM)
    frames.stdout.close()
    assert frames.stderr.read() == ""
    assert frames.wait(timeout=60) == 141


OUTPUTS = {
    ">&-": "pyxc: standard output: Bad file descriptor\n",
    ">/dev/full": "pyxc: standard output: No space left on device\n",
    ">&- 2>&-": "",
    "2>/dev/full >/dev/full": "",
}


@pytest.mark.parametrize("words", ["list", "info --json", "frames web1 --all"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_that_takes_nothing_is_one_line(start, words, output):
    line = f"exec {sys.executable} -m pyxc {SIM} {words} {output}"
    shell = start("sh", "-c", line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = shell.communicate(timeout=60)
    assert (shell.returncode, out, err) == (1, "", OUTPUTS[output])


def test_an_error_is_told_where_nothing_can_be_printed(start):
    line = f"exec {sys.executable} -m pyxc {SIM} list web1 nobody >/dev/full"
    shell = start("sh", "-c", line, stderr=subprocess.PIPE)
    assert shell.communicate(timeout=60)[1].splitlines()[0] == "pyxc: nobody: no domain has the name nobody"
    assert shell.returncode == 1


def test_an_interrupted_process_is_no_noise(process):
    following = process("dmesg", "--follow", SIM)
    following.stdout.readline()
    os.kill(following.pid, signal.SIGINT)
    out, err = following.communicate(timeout=60)
    assert (following.returncode, err) == (130, "")


# A dump that is stopped when its first pages are written: what the guest and the directory are like then.
STOPPED_DUMP = """
import os, signal, sys
from pyxc import cli, opening, sim
from pyxc.guest import core_dump
host = sim.Hypervisor(sim.named("sim:xen-4.17"))
opening.open_link = lambda target, gate="auto": host.connect()
write = core_dump._Writer._write_window

def stop(*arguments):
    assert host.domains[1].pauses == 1
    for number in sys.argv[2:]:
        os.kill(os.getpid(), int(number))
    return write(*arguments)

core_dump._Writer._write_window = stop
status = cli.main(["--target", "sim:", "--provenance", "none", "dump-core", "web1", sys.argv[1]])
print(status, host.domains[1].pauses)
"""


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGHUP], 129),
        ([signal.SIGHUP, signal.SIGTERM], 129),
    ],
)
def test_a_command_that_is_told_to_end_leaves_nothing_half_done(start, tmp_path, signals, status):
    words = [sys.executable, "-c", STOPPED_DUMP, str(tmp_path / "core"), *(str(int(one)) for one in signals)]
    dump = start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = dump.communicate(timeout=60)
    assert (out, err, dump.returncode) == (f"{status} 0\n", "", 0)


def test_what_is_ignored_stays_ignored(start):
    """As by nohup."""
    line = f"trap '' HUP; exec {sys.executable} -m pyxc {SIM} dmesg --follow"
    following = start("sh", "-c", line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    following.stdout.readline()
    for number in (signal.SIGHUP, signal.SIGTERM):
        os.kill(following.pid, number)
    _, err = following.communicate(timeout=60)
    assert (following.returncode, err) == (143, "")


def test_main_may_run_in_another_thread(pyxc, host):
    found = []
    thread = threading.Thread(target=lambda: found.append(pyxc("list").status))
    thread.start()
    thread.join()
    assert found == [0]


def test_a_newer_xen_is_managed_by_assumed_structures(pyxc, monkeypatch):
    host = sim.Hypervisor(sim.named("sim:xen-4.22"))
    host.interface = host.interface._replace(domctl=0x19, sysctl=0x17)
    monkeypatch.setattr(opening, "open_link", lambda target, gate="auto": host.connect())
    refused = pyxc("list")
    assert (refused.status, refused.out) == (6, "")
    assert "--assume" in refused.err and "PYXC_ASSUME" in refused.err
    assert pyxc("--assume", "4.22", "pause", "web1").status == 0
    monkeypatch.setenv("PYXC_ASSUME", "4.22")
    assert pyxc("info", "--json").json["domctl_version"] == 0x19
    assert host.domains[1].pauses == 1


@pytest.mark.parametrize("text", ["4", "9.9", "new", "", "4.22.1"])
def test_a_release_that_cannot_be_assumed_is_a_mistake(pyxc, text):
    assert pyxc("list", "--assume", text, SIM).status == 2


def test_another_architecture_is_unsupported(pyxc, monkeypatch):
    kinds = "xen-3.0-aarch64 xen-3.0-armv7l"
    monkeypatch.setattr("pyxc.sim.ops.version._capabilities", lambda profile: f"{kinds} ")
    outcome = pyxc("list", SIM)
    assert (outcome.status, outcome.out) == (6, "")
    assert f"this is Xen 4.17 for 64-bit Arm ({kinds})" in outcome.err


@pytest.mark.parametrize(
    ("target", "words", "reason"),
    [
        ("sim:xen-4.17", ["trigger", "web1", "power"], "a PV domain takes the trigger nmi only"),
        ("sim:xen-4.17", ["trigger", "web1", "nmi", "99"], "domain 1 has no vcpu 99; it has 2"),
        ("sim:xen-4.17", ["setenforce", "1"], "this hypervisor has no security policy"),
        ("sim:xen-4.17", ["create-empty", "--seclabel", "x"], "this hypervisor has no security policy"),
        ("sim:xen-4.17-xsm", ["loadpolicy", "/etc/passwd"], "does not take the file for a policy"),
        ("sim:xen-4.17", ["sched-credit", "-d", "web1"], "but under credit2: see pyxc sched-credit2"),
        (
            "sim:xen-4.17",
            ["vcpu-pin", "web1", "0", "nodes:7"],
            "nodes:7: this host has only cpus 0 to 1 and",
        ),
        ("sim:xen-4.17", ["vcpu-pin", "web1", "0", "1-0"], "'1-0' is not a range: 1 comes after 0"),
        ("sim:xen-4.17", ["vcpu-set", "web1", "0"], "vcpus of domain 1 is 0: it must be from 1 to 2"),
        ("sim:xen4.17", ["list"], "; did you mean 'sim:xen-4.17'?"),
        (
            "sim:xen-4.17",
            ["mem-set", "web1", "99999"],
            "(99999 MiB): domain 1 was built with at most 65536",
        ),
        ("sim:xen-4.17", ["block-detach", "web1", "xvdz"], "domain 1 has no disk xvdz"),
        (
            "sim:xen-4.17",
            ["network-attach", "web1", "mac=zz"],
            "mac=zz is not a unicast address such as",
        ),
        ("sim:xen-4.17", ["frames", "web1", "--count", "-1"], "'-1' is negative"),
        ("sim:xen-4.17", ["mem-max", "web1", "9" * 20], "is more memory than any host has"),
        ("sim:xen-4.17", ["destroy", "0"], "domain 0 runs this host and this program"),
    ],
)
def test_an_error_names_the_reason_in_the_users_words(pyxc, target, words, reason):
    outcome = pyxc("--target", target, *words)
    assert outcome.status
    assert reason in outcome.err


def test_a_file_is_named_once(pyxc):
    assert pyxc("verify", "nosuch").err == "pyxc: nosuch: No such file or directory\n"
