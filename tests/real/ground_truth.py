# SPDX-License-Identifier: MIT
"""Facts about this host from other sources than pyxc: the kernel, and Xen's own tools if installed."""

from __future__ import annotations

import functools
import os
import re
import struct
import subprocess
import time
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pyxc import PhysInfo, Xen
from pyxc._core import PAGE_SIZE
from pyxc.abi import memory
from pyxc.abi.domid import DOMID_XEN

Command = Callable[..., "subprocess.CompletedProcess[str]"]

HYPERVISOR = Path("/sys/hypervisor")
BALLOON = Path("/sys/devices/system/xen_memory/xen_memory0/info/current_kb")
CONSOLES = Path("/run/xen/console")
STORE_SOCKET = Path("/run/xenstored/socket")
PAGEMAP_PRESENT = 1 << 63
PAGEMAP_FRAME = (1 << 55) - 1
FRAMES_OF_2_MIB = 512
KERNEL_RECORD_BYTES = 8192
CRASH = re.compile(r"segfault at|trap invalid opcode|general protection fault|traps: ")


class Guests(NamedTuple):
    """Ids of the guests that xl made, by name."""

    domids: Mapping[str, int]


class Peer(NamedTuple):
    """Xen's own tools: a root to enter, and configurations of guests."""

    root: Path
    configs: Path

    @classmethod
    def start(cls, root: Path, configs: Path) -> Peer:
        """Start xenstored and xenconsoled."""
        subprocess.run(["sh", str(configs / "start-peer")], check=True, capture_output=True, timeout=60)
        return cls(root, configs)

    def run(self, *words: str) -> str:
        """A program's output."""
        done = subprocess.run(["chroot", str(self.root), *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def xl(self, *words: str) -> str:
        return self.run("xl", *words)

    def create(self, config: str, *settings: str) -> None:
        """Create a guest. What an earlier one of its name printed is removed: a test would find it."""
        found = dict(setting.split("=", 1) for setting in settings)
        name = found.get("name", config).strip('"')
        (CONSOLES / f"guest-{name}.log").unlink(missing_ok=True)
        self.xl("create", str(self.configs / f"{config}.cfg"), *settings)

    def domid(self, name: str) -> int:
        return int(self.xl("domid", name))

    def read_store(self, path: str) -> str:
        return self.run("xenstore-read", path).strip()

    def wait_for(self, guest: str, text: str, patience: float = 120) -> None:
        """Wait until a guest has printed a text."""
        log = CONSOLES / f"guest-{guest}.log"
        deadline = time.monotonic() + patience
        while not (log.exists() and text in log.read_text(errors="replace")):
            assert time.monotonic() < deadline, f"{guest} did not print {text!r} in {patience} s"
            time.sleep(0.1)

    def info(self) -> dict[str, str]:
        """`xl info` as a dictionary."""
        rows = (line.partition(":") for line in self.xl("info").splitlines())
        return {name.strip(): value.strip() for name, _, value in rows}

    def registers(self, domid: int) -> dict[str, int]:
        """What xenctx prints of vcpu 0: every NAME: HEX, and rip or eip under its own name."""
        text = self.run("xenctx", "-a", str(domid), "0").partition("Code")[0]
        found = {name: int(value, 16) for name, value in re.findall(r"\b(\w+): ([0-9a-f]+)\b", text)}
        found.update(
            {name: int(value, 16) for name, value in re.findall(r"\w+:(\w+): [0-9a-f]+:([0-9a-f]+)", text)}
        )
        return found

    def p2m(self, domid: int) -> dict[int, int]:
        """What xen-mfndump shows of a guest's p2m."""
        # It prints the whole list and then fails on the pfn behind the last.
        words = ["chroot", str(self.root), "xen-mfndump", "dump-p2m", str(domid)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        pairs = re.findall(r"pfn=0x([0-9a-f]+) ==> mfn=0x([0-9a-f]+)", done.stdout)
        return {int(pfn, 16): int(mfn, 16) for pfn, mfn in pairs}


def release_of_tools(root: Path) -> str:
    """The release, such as 4.17, of the Xen tools in a Debian root."""
    (directory,) = root.glob("usr/lib/xen-[0-9]*")
    return directory.name.removeprefix("xen-")


@functools.cache
def _kernel_log() -> int:
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.lseek(log, 0, os.SEEK_END)
    return log


def crashes() -> list[str]:
    """What the kernel logged about processes that crashed, since the last call."""
    found = []
    while True:
        try:
            record = os.read(_kernel_log(), KERNEL_RECORD_BYTES).decode(errors="replace")
        except BlockingIOError:
            return found
        except BrokenPipeError:  # records were overwritten before they were read
            continue
        if CRASH.search(record):
            found.append(record.partition(";")[2].strip())


def own_frame(address: int) -> int:
    """The pfn of an address of this process, from the kernel."""
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(address // PAGE_SIZE * 8)
        (entry,) = struct.unpack("Q", file.read(8))
    assert entry & PAGEMAP_PRESENT
    return int(entry & PAGEMAP_FRAME)


def machine_to_physical(xen: Xen, physinfo: PhysInfo) -> array[int]:
    """Xen's own table from machine frame to pfn, mapped from Xen itself, which no guest can write."""
    extents = -(-(physinfo.max_mfn + 1) * 8 // (FRAMES_OF_2_MIB * PAGE_SIZE))
    reply = xen.call(memory.MACHPHYS_MFN_LIST, max_extents=extents, extent_start=8 * extents)
    firsts = array("Q", reply.buffers["extent_start"])[: reply.field("nr_extents")]
    frames = array("Q", [first + offset for first in firsts for offset in range(FRAMES_OF_2_MIB)])
    with xen.link.map_frames(DOMID_XEN, frames) as table:
        assert not any(table.errors)
        return array("Q", bytes(table))


def online_cpus() -> int:
    return os.sysconf("SC_NPROCESSORS_ONLN")
