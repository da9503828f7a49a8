# SPDX-License-Identifier: MIT
"""`gdb`, `drgn` and `memory-server`, as programs that talk to others."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyxc import PAGE_SIZE
from pyxc.debug import connect_memory

TARGET = [sys.executable, "-m", "pyxc", "--target", "sim:xen-4.17"]
INFO = (
    "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff81000000\n"
    "SYMBOL(swapper_pg_dir)=ffffffff8240a000\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n"
    "KERNELOFFSET=0\n"
)


def test_a_memory_server_and_its_client(pyxc, start, plain_directory):
    path = plain_directory / "memory"
    server = start(*TARGET, "memory-server", "--unix", str(path), "db1", stdout=subprocess.PIPE)
    assert server.stdout.readline() == f"listening: pyxc drgn unix:{path}\n"
    with connect_memory(f"unix:{path}") as another:
        for _ in range(2):
            said = pyxc("drgn", "--json", f"unix:{path}").json
            assert (said["domid"], said["is_hvm"], said["nr_vcpus"], said["vmcoreinfo"]) == (2, True, 1, None)
            assert said["physical_bytes"] % PAGE_SIZE == 0
        assert another.read(0, 0xFFFF_FFFF_8010_0000, 3) == b"db1"
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 143
    assert pyxc("drgn", "--json", f"unix:{path}").status == 1


def test_a_port_of_the_loopback_interface(pyxc, start):
    server = start(*TARGET, "memory-server", "db1", stdout=subprocess.PIPE)
    place = server.stdout.readline().split()[-1]
    assert place.startswith("tcp:127.0.0.1:")
    assert pyxc("drgn", "--json", place).json["domid"] == 2


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_through_a_pipe():
    stub = shlex.join([*TARGET, "gdb", "--stdio", "web1"])
    interrupt = "threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()"
    commands = [
        f"target remote | {stub}", "p/x $rip", f"python import os, signal, threading; {interrupt}",
        "continue", "p/x $rip", "detach",
    ]  # fmt: skip
    words = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(["gdb", "-nx", "-batch", *words], capture_output=True, text=True, timeout=120)
    assert done.stdout.count("0xffffffff810003aa") >= 2, done.stdout + done.stderr
    assert "SIGINT" in done.stdout, done.stdout + done.stderr
    assert "detached" in done.stdout


def test_a_script_of_drgn(pyxc, host, tmp_path):
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    if not hasattr(drgn.Program, "set_linux_kernel_custom"):
        pytest.skip("this drgn is older than 0.1")
    (tmp_path / "info").write_text(INFO)
    script = tmp_path / "read.py"
    script.write_text("import sys\nprint(prog.read(0xffffffff80100000, 3), sys.argv[1:])\n")
    words = ["drgn", "--vmcoreinfo", str(tmp_path / "info"), "db1"]
    done = pyxc(*words, str(script), "one")
    assert (done.status, done.out) == (0, "b'db1' ['one']\n"), done.err
    assert pyxc(*words, str(tmp_path / "none.py")).status == 2
    (tmp_path / "info").write_text("no such thing")
    assert pyxc(*words, str(script)).status == 1


def test_what_is_not_there(pyxc, host: object, tmp_path: Path) -> None:
    assert pyxc("gdb", "nobody").status == 5
    assert pyxc("memory-server", "nobody").status == 5
    nowhere = pyxc("drgn", f"unix:{tmp_path}/none")
    assert nowhere.status == 1
    assert f"unix:{tmp_path}/none" in nowhere.err
    assert pyxc("drgn", "tcp:nowhere").status == 2
    assert pyxc("drgn", "--vmcoreinfo", str(tmp_path / "none"), "db1").status == 1
