# SPDX-License-Identifier: MIT
"""`pyxc console`: a guest on a terminal, and in a pipe."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import termios
import time

import pytest

from pyxc.cli.terminal import Harmless

# A host whose guest speaks, echoes, and powers off when it is told "off".
PROGRAM = """
import sys
from pyxc import opening, sim
from pyxc.cli import main

hypervisor = sim.Hypervisor(sim.named("sim:xen-4.17"))
opening.open_link = lambda target, gate="auto": hypervisor.connect("sim:xen-4.17")
guest = hypervisor.script(1)
def react(data):
    guest.print(b"heard " + data)
    if b"off" in data:
        guest.stop()
guest.typed(react)
guest.print("\\x1b[31mred\\n" + ("login: " if "--last" in sys.argv else ""))
sys.exit(main(sys.argv[1:]))
"""


def read_until(descriptor: int, wanted: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 30
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([descriptor], [], [], 1)[0]:
            seen += os.read(descriptor, 4096)
    return seen


@pytest.fixture
def on_a_terminal(start):
    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)

    def run(*words):
        process = start(sys.executable, "-c", PROGRAM, *words, stdin=theirs, stdout=theirs, stderr=theirs)
        return process, ours

    yield run
    assert termios.tcgetattr(theirs) == before, "the terminal stayed raw"
    os.close(ours)
    os.close(theirs)


def test_a_person_types_and_detaches(on_a_terminal):
    process, terminal = on_a_terminal("console", "web1")
    assert b"\x1b[31mred" in read_until(terminal, b"red")
    os.write(terminal, b"\x03ls")
    assert b"heard \x03ls" in read_until(terminal, b"ls")
    os.write(terminal, b"bye\x1dnot this")
    assert process.wait(30) == 0


def test_another_escape(on_a_terminal):
    process, terminal = on_a_terminal("console", "-e", "^T", "web1")
    read_until(terminal, b"red")
    os.write(terminal, b"\x1d")
    read_until(terminal, b"heard \x1d")
    os.write(terminal, b"\x14")
    assert process.wait(30) == 0


def test_it_ends_with_the_guest(on_a_terminal):
    process, terminal = on_a_terminal("console", "web1")
    read_until(terminal, b"red")
    os.write(terminal, b"off")
    read_until(terminal, b"heard off")
    assert process.wait(30) == 0


def test_in_a_pipe_escapes_are_harmless_and_the_log_has_all(tmp_path):
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "console", "--log", str(log), "web1"],
        input=b"off", capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == b"Linux version 6.1 (simulated)\n\\x1b[31mred\nheard off"
    assert log.read_bytes() == b"Linux version 6.1 (simulated)\r\n\x1b[31mred\nheard off"


def test_the_last_of_it(pyxc, host):
    assert pyxc("console", "--last", "web1") == (0, "Linux version 6.1 (simulated)\n", "")
    assert pyxc("console", "--json", "web1").json["text"] == "Linux version 6.1 (simulated)\n"
    outcome = pyxc("console", "web1")
    assert outcome.status == 1
    assert "another process serves this console" in outcome.err


def test_the_prompt_after_the_last_of_it_has_a_line_of_its_own(on_a_terminal):
    process, terminal = on_a_terminal("console", "--last", "web1")
    read_until(terminal, b"login: \r\n")
    assert process.wait(30) == 0


def test_what_is_no_escape(pyxc, host):
    for text in ("^é", "ab", "é"):
        assert pyxc("console", "-e", text, "web1").status == 2


def test_text_that_does_nothing_to_a_terminal():
    harmless = Harmless()
    assert harmless.text(b"a\x1b]0;title\x07b\r\nc\rd\x9b\xc2\x9bm\te") == (
        "a\\x1b]0;title\\x07b\nc\\rd\\x9b\\x9bm\te"
    )  # fmt: skip
    assert harmless.text("é".encode()[:1]) + harmless.text("é".encode()[1:]) == "é"
