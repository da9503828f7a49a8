# SPDX-License-Identifier: MIT
"""A Linux guest that prints what it knows of itself, and whether debuggers find the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from managed import PATIENCE_S

from lab import artifacts, programs

CONTRIB = Path(__file__).parents[2] / "contrib"
GUEST = "described"
IDLE = ["do_idle", "cpu_startup_entry", "rest_init", "start_kernel"]
"""The functions in which the first vcpu of such a guest is when it has nothing to do."""
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
    "messages": get_dmesg(prog).decode(),
}))
"""


def lasting_tasks(said: str) -> list[list[int | str]]:
    """The tasks that the guest printed, without those that come and go.

    /proc has the whole name of a kernel thread, its task_struct 15 characters.
    """
    tasks = [[int(pid), name[:15]] for pid, name in re.findall(r"^task (\d+) (.*)$", said, re.MULTILINE)]
    assert [1, "init"] in tasks
    assert len(tasks) > 20
    return [task for task in tasks if not str(task[1]).startswith(("kworker", "cat"))]


def release(said: str) -> str:
    """The kernel's release."""
    version = re.search(r"^Linux version (\S+) ", said, re.MULTILINE)
    assert version
    return version[1]


def check_messages(said: str, found: str) -> None:
    """That a debugger finds the messages that the kernel printed."""
    line = re.compile(r"^\[ *\d+\.\d+\] (.*\S) *$", re.MULTILINE)
    printed, messages = line.findall(said), line.findall(found)
    assert len(printed) > 50
    assert [one for one in printed if one not in messages] == []


def check_drgn(said: str, words: Sequence[str], scratch: Path) -> None:
    """That drgn finds what the guest printed; `words` are arguments of Python that make it run a script."""
    script = scratch / "script.py"
    script.write_text(SCRIPT)
    found = json.loads(_run([*words, str(script)], programs.drgn()))
    assert found["release"] == release(said)
    assert [task for task in lasting_tasks(said) if task not in found["tasks"]] == []
    mounts = re.findall(r"^\S+ (/\S*) (proc|tmpfs) ", said, re.MULTILINE)
    assert len(mounts) == 2
    assert [mount for mount in mounts if list(mount) not in found["mounts"]] == []
    check_messages(said, found["messages"])


def check_volatility(said: str, place: str, scratch: Path) -> None:
    """That volatility3 finds the tasks that the guest printed."""
    volatility = programs.volatility()
    words = [str(volatility / "bin/vol"), "-q", "-r", "json", "-p", str(CONTRIB / "volatility3")]
    words += ["--cache-path", str(scratch), "-s", str(artifacts.volatility_symbols())]
    tasks = json.loads(_run([*words, "-f", place, "linux.pslist"], volatility))
    found = [[task["PID"], task["COMM"]] for task in tasks]
    assert [task for task in lasting_tasks(said) if task not in found] == []


def _run(words: Sequence[str], packages: Path) -> str:
    """What this machine's Python prints; it has packages in addition to its own."""
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{Path.cwd()}"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
