# SPDX-License-Identifier: MIT
"""drgn, volatility3 and GDB on this machine, with the kernel's symbols, look into a guest of another host."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from managed import PATIENCE_S, Host, remove_guests, start_linux

from lab import artifacts, programs

CONTRIB = Path(__file__).parents[2] / "contrib"
UNWINDER = CONTRIB / "gdb/xen_hypercalls.py"
GUEST = "described"
SOCKET = "/run/described.memory"
SCRIPT = """
import json
from drgn.helpers.linux.fs import for_each_mount, mount_dst, mount_fstype
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.printk import get_dmesg
mounts = for_each_mount(find_task(prog, 1).nsproxy.mnt_ns)
print(json.dumps({
    "release": prog["init_uts_ns"].name.release.string_().decode(),
    "tasks": sorted([task.pid.value_(), task.comm.string_().decode()] for task in for_each_task(prog)),
    "mounts": [[mount_dst(mount).decode(), mount_fstype(mount).decode()] for mount in mounts],
    "messages": get_dmesg(prog).decode().splitlines(),
}))
"""


@pytest.fixture(params=["pv", "pvh"])
def said(request: pytest.FixtureRequest, hosts: list[Host]) -> Iterator[str]:
    """What a guest of the first host prints of itself."""
    words = f"type={request.param} 'cmdline=\"console=hvc0 describe\"'"
    log = f"/run/xen/console/guest-{GUEST}.log"

    def printed() -> str:
        return hosts[0].run(f"cat {log} || true").replace("\r\n", "\n")

    start_linux(hosts[0], GUEST, words, lambda: "all is described" in printed(), "the guest describes itself")
    yield printed()
    remove_guests(hosts)
    hosts[0].run(f"rm -f {log}")


@pytest.fixture
def memory(said: str, hosts: list[Host], tmp_path: Path) -> Iterator[Path]:
    """A socket on this machine that leads to the guest's memory."""
    here = tmp_path / "memory"
    # With a terminal, the server ends with the connection.
    words = ["ssh", "-tt", "-F", str(hosts[0].ssh), "-L", f"{here}:{SOCKET}", hosts[0].name]
    serve = f"exec pyxc memory-server --unix {SOCKET} {GUEST}"
    with subprocess.Popen([*words, serve], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            assert server.stdout.readline().decode().strip() == f"listening: pyxc drgn unix:{SOCKET}"
            yield here
        finally:
            server.kill()


def lasting_tasks(said: str) -> list[list[int | str]]:
    """The tasks that the guest printed, without those that come and go.

    /proc has the whole name of a kernel thread, its task_struct 15 characters.
    """
    tasks = [[int(pid), name[:15]] for pid, name in re.findall(r"^task (\d+) (.*)$", said, re.MULTILINE)]
    assert [1, "init"] in tasks
    assert len(tasks) > 20
    return [task for task in tasks if not str(task[1]).startswith(("kworker", "cat"))]


def test_what_drgn_finds_is_what_the_guest_says(said: str, memory: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    words = ["-m", "pyxc", "drgn", "--vmlinux", str(artifacts.symbols()), f"unix:{memory}", str(script)]
    environment = {**os.environ, "PYTHONPATH": f"{programs.drgn()}:{Path.cwd()}"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    version = re.search(r"^Linux version (\S+) ", said, re.MULTILINE)
    assert version
    assert found["release"] == version[1]
    assert [task for task in lasting_tasks(said) if task not in found["tasks"]] == []
    mounts = re.findall(r"^\S+ (/\S*) (proc|tmpfs) ", said, re.MULTILINE)
    assert len(mounts) == 2
    assert [mount for mount in mounts if list(mount) not in found["mounts"]] == []
    printed = re.findall(r"^\[ *\d+\.\d+\] (.*\S)$", said, re.MULTILINE)
    messages = [line.partition("] ")[2].rstrip() for line in found["messages"]]
    assert len(printed) > 50
    assert [line for line in printed if line not in messages] == []


def check_volatility(said: str, place: str, scratch: Path) -> None:
    """That volatility3 finds the tasks that the guest printed."""
    volatility = programs.volatility()
    words = [
        volatility / "bin/vol",
        "-q",
        "-r",
        "json",
        "-p",
        CONTRIB / "volatility3",
        "--cache-path",
        scratch,
    ]
    words += ["-s", artifacts.volatility_symbols(), "-f", place, "linux.pslist"]
    environment = {**os.environ, "PYTHONPATH": f"{volatility}:{Path.cwd()}"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [[task["PID"], task["COMM"]] for task in json.loads(done.stdout)]
    assert [task for task in lasting_tasks(said) if task not in found] == []


def test_volatility_lists_the_tasks_of_a_running_guest(said: str, memory: Path, tmp_path: Path) -> None:
    check_volatility(said, f"xen://unix:{memory}", tmp_path)


def test_volatility_lists_the_tasks_in_a_dump(said: str, hosts: list[Host], tmp_path: Path) -> None:
    make = f"pyxc dump-core --format vmcore {GUEST} /run/described.core && gzip -1 /run/described.core"
    hosts[0].run(make)
    with open(tmp_path / "core.gz", "wb") as packed:
        words = ["ssh", "-F", str(hosts[0].ssh), hosts[0].name, "cat /run/described.core.gz"]
        subprocess.run(words, stdout=packed, check=True, timeout=PATIENCE_S)
    hosts[0].run("rm /run/described.core.gz")
    subprocess.run(["gunzip", str(tmp_path / "core.gz")], check=True)
    check_volatility(said, str(tmp_path / "core"), tmp_path)


def test_gdb_shows_what_an_idle_vcpu_does(said: str, hosts: list[Host]) -> None:
    """GDB ends, and the guest runs."""
    remote = shlex.join(["ssh", "-F", str(hosts[0].ssh), hosts[0].name, f"pyxc gdb --stdio {GUEST}"])
    start = (f"source {UNWINDER}", f"set remotetimeout {PATIENCE_S}", f"target remote | {remote}")
    words = ["gdb", "-nx", "-batch"]
    for command in (*start, "backtrace", "detach"):
        words += ["-ex", command]
    words.append(str(artifacts.symbols()))
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    frames = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+) \(", done.stdout, re.MULTILINE)
    called = ["do_idle", "cpu_startup_entry", "rest_init", "start_kernel"]
    assert [name for name in frames if name in called] == called, done.stdout
    assert hosts[0].json("list", GUEST)["domains"][0]["state"] in ("blocked", "runnable", "running")
