# SPDX-License-Identifier: MIT
"""What the shell offers on TAB."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPLETIONS = Path(__file__).parents[2] / "completions"
SCRIPT = COMPLETIONS / "bash" / "pyxc"
SIM = ["--target", "sim:xen-4.17"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pa"], ["pause"]),
        ([*SIM, "vc"], ["vcpu-list", "vcpu-set", "vcpu-pin"]),
        ([*SIM, "pause", ""], ["Domain-0", "web1", "db1", "build"]),
        ([*SIM, "pause", "web1", "b"], ["build"]),
        (["--target=sim:", "context", "w"], ["web1"]),
        ([*SIM, "context", "web1", ""], ["0", "1"]),
        ([*SIM, "vcpu-pin", "db1", ""], ["0"]),
        ([*SIM, "hypfs", "cat", "/"], ["/buildinfo", "/cpupool", "/params"]),
        ([*SIM, "hypfs", "cat", "/nothing/"], []),
        ([*SIM, "debug-keys", ""], []),
        (["frames", "--t"], ["--target", "--types"]),
        (["--r"], ["--read-only", "--record"]),
        (["--record", "x"], ["__files__"]),
        (["list", "--provenance", "r"], ["required"]),
        (["list", "--gate", ""], ["auto", "never"]),
        (["--target", "sim:xen-4.2"], ["sim:xen-4.20", "sim:xen-4.22", "sim:xen-4.23"]),
        ([*SIM, "store", "w"], ["write", "watch"]),
        ([*SIM, "store", "ls", ""], ["/tool", "/local", "/vm"]),
        ([*SIM, "store", "read", "/local/domain/1/na"], ["/local/domain/1/name"]),
        ([*SIM, "store", "read", "/nothing/"], []),
        (["nonsense", "x"], []),
        (["pause", "--target", "moon", ""], []),
        (["la"], ["label"]),
        (["--json", "label", ""], ["get", "set", "rm", "check"]),
        (["label", "nonsense", ""], []),
        (["label", "get", "--j"], ["--json", "--jsonl"]),
        (["label", "get", "x", "y"], ["__files__"]),
        (["label", "set", ""], []),
        (["label", "set", "--expect", "u:r:t", "u:r:t2", ""], ["__files__"]),
        (["verify", "x"], ["__files__"]),
        ([*SIM, "label", "check", "--domain", "w"], ["web1"]),
        ([*SIM, "label", "check", "--domain=w"], ["--domain=web1"]),
        (["--target=sim:xen-4.22"], ["--target=sim:xen-4.22"]),
        (["list", "--gate="], ["--gate=auto", "--gate=never"]),
        (["list", "--record=x"], []),
    ],
)
def test_candidates(pyxc, words, offered):
    outcome = pyxc("__complete", *words)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.split() == offered


def test_recordings_are_targets(pyxc, tmp_path):
    (tmp_path / "bug.calls").touch()
    target = f"replay:{tmp_path}/b"
    assert pyxc("__complete", "--target", target).out == f"replay:{tmp_path}/bug.calls\n"
    assert pyxc("__complete", "--target", "r").out == "replay:\n"


def test_a_first_word(pyxc):
    assert "list" in pyxc("__complete").out.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the file is for bash")
def test_the_shell_completes_names_of_files(plain_directory):
    (plain_directory / "web1.core").touch()
    assert _completed(f"pyxc verify {plain_directory}/we") == [f"{plain_directory}/web1.core"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="the file is for bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pyxc lis", ["list"]),
        ("pyxc --target sim: unpause we", ["web1"]),
        ("pyxc --target sim:xen-4.1", None),
        ("pyxc --target=sim:xen-4.1", None),
        ("pyxc list --gate=n", ["never"]),
    ],
)
def test_the_bash_file(line, offered):
    """After a colon or an equals sign bash replaces only what follows it."""
    expected = ["xen-4.1", "xen-4.10", "xen-4.14", "xen-4.17", "xen-4.17-pci", "xen-4.17-xsm"]
    assert _completed(line) == (offered or expected)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_the_fish_file(plain_directory):
    (plain_directory / "web1.core").touch()
    assert _in_fish("pyxc lis") == ["list"]
    assert _in_fish("pyxc --target sim: unpause we") == ["web1"]
    assert _in_fish("pyxc --target=sim:xen-4.20") == ["--target=sim:xen-4.20"]
    assert _in_fish(f"pyxc verify {plain_directory}/we") == [f"{plain_directory}/web1.core"]


def _in_fish(line):
    script = f"""
        function pyxc; {shlex.quote(sys.executable)} -m pyxc $argv; end
        source {COMPLETIONS}/fish/pyxc.fish
        complete -C {shlex.quote(line)}
    """
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
    return [offered.partition("\t")[0] for offered in done.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_the_zsh_file(plain_directory):
    (plain_directory / "web1.core").touch()
    assert _in_zsh("pyxc lis") == "pyxc list "
    assert _in_zsh("pyxc --target sim: unpause we") == "pyxc --target sim: unpause web1 "
    assert _in_zsh(f"pyxc verify {plain_directory}/we") == f"pyxc verify {plain_directory}/web1.core "


def _in_zsh(line):
    """What the line is after TAB, in a zsh of its own in which Ctrl-X prints it."""
    program = f"""
        zmodload zsh/zpty
        zpty shell zsh -f
        zpty -w shell 'PS1=; pyxc() {{ {shlex.quote(sys.executable)} -m pyxc "$@" }}'
        zpty -w shell 'fpath=({COMPLETIONS}/zsh $fpath); autoload -Uz compinit; compinit -D -u'
        zpty -w shell 'show() {{ print -r -- "<$BUFFER>" }}; zle -N show; bindkey "^X" show'
        zpty -w shell 'print -r re''ady'
        zpty -r -m shell found '*ready*'
        zpty -w -n shell {shlex.quote(line)}$'\t\x18'
        zpty -r -m shell found '*<pyxc*>*'
        print -r -- "${{${{found##*<}}%%>*}}"
    """
    words = ["zsh", "-f", "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.rstrip("\n")


def _completed(line):
    """COMPREPLY for a line."""
    script = f"""
        pyxc() {{ {shlex.quote(sys.executable)} -m pyxc "$@"; }}
        source {shlex.quote(str(SCRIPT))}
        COMP_LINE={line!r} COMP_POINT={len(line)}
        _pyxc
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()
