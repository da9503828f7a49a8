# SPDX-License-Identifier: MIT
"""One boot: QEMU, Xen, a Debian kernel as dom0, a job in dom0, and what the job leaves in /results.

Results come back in a tar file on a disk, not through the console. A boot without results is lost, which is
neither passed nor failed: Xen or dom0 crashed or hangs, or the time was up.
"""

from __future__ import annotations

import enum
import shlex
import subprocess
import tarfile
import tempfile
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab import artifacts, config, host, layers

# What QEMU 7.2 emulates wrongly: PV kernels do not start with SMAP and SMEP, PVH kernels do not with RDTSCP;
# with XSAVE, processes in dom0 crash now and then while guests run on a busy machine.
BROKEN = ("smap", "smep", "rdtscp")
XSAVE = "xsave"
MACHINE = ("-accel", "tcg,thread=multi", "-smp", "2", "-no-reboot")
XEN_COMMAND_LINE = "com1=115200,8n1 console=com1 loglvl=warning guest_loglvl=all"
# No comma in here: QEMU's multiboot loader splits modules at commas.
KERNEL_COMMAND_LINE = "console=hvc0 quiet panic=1"
DISK = "virtio-blk-pci,drive=results,disable-legacy=on,iommu_platform=on"
NETWORK = "virtio-net-pci,netdev=outside,romfile=,disable-legacy=on,iommu_platform=on"
DISK_BYTES = 256 << 20
# The path in dom0 of the security policy that is built into the hypervisor.
POLICY = "/lab/policy"
# In the tar that init.sh writes.
RESULTS = "results/"
EXIT_CODE = "lab/exit-code"
# How long to wait after the time limit of the job, so that a job that hangs still brings back its results.
GRACE_S = 120
# A dom0 that writes nothing to the disk for so long hangs: init.sh, once it runs, writes every few seconds.
SILENCE_S = 300

NOTHING: Mapping[Any, str] = types.MappingProxyType({})


class Outcome(enum.Enum):
    """How a boot ended."""

    PASSED = "passed"
    FAILED = "failed"
    LOST = "lost"


class Result(NamedTuple):
    """What a boot brought back: the exit code of the job (None if lost), and the files in its /results.

    `seconds` is the time from power-on to power-off.
    """

    outcome: Outcome
    exit_code: int | None
    files: Mapping[str, bytes]
    seconds: float

    @property
    def output(self) -> bytes:
        """Standard output and errors of the job."""
        return self.files.get("output", b"")


class Boot(NamedTuple):
    """What a boot is made of: a lane, archives (cpio) and files to add, and variables for the job.

    `ssh_port` is the port of 127.0.0.1 that leads to the dom0's port 22; without one, it has no network.
    """

    lane: config.Lane
    archives: Sequence[Path] = ()
    files: layers.Files = NOTHING
    environment: Mapping[str, str] = NOTHING
    ssh_port: int | None = None


class Pulse:
    """Whether dom0 still writes to the disk."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._written = 0
        self._seen = time.monotonic()

    def beats(self) -> bool:
        """False once nothing was written for SILENCE_S."""
        # The clock of the files is that of day, which may jump.
        written, now = self._disk.stat().st_mtime_ns, time.monotonic()
        if written != self._written:
            self._written, self._seen = written, now
        return now - self._seen < SILENCE_S


def run(boot: Boot, command: str) -> Result:
    """Boot, run a shell script in dom0 (as root, in /root), and bring back what it leaves in /results.

    A command that is still running at the time limit of the lane is killed (exit code 124). A boot that is
    lost is repeated once.
    """
    result = _run_once(boot, command)
    if result.outcome is Outcome.LOST and not host.interrupted():
        kept = console_log(boot.lane).rename(console_log(boot.lane).with_name("console-lost.log"))
        host.say(f"lab: {boot.lane.name}: lost, see {kept}; repeating")
        result = _run_once(boot, command)
    return result


def shell(boot: Boot) -> int:
    """Boot with a shell of dom0 on this terminal until it ends; return the exit code of QEMU."""
    with tempfile.TemporaryDirectory(prefix="pyxc-lab-") as scratch:
        command = _command(boot, _image(boot, None, Path(scratch)), None)
        return subprocess.run([*command, "-nographic"], check=False).returncode


def console_log(lane: config.Lane) -> Path:
    """The file with the console output of the last boot of a lane."""
    return host.OUTPUT / lane.name / "console.log"


def _run_once(boot: Boot, command: str) -> Result:
    log = console_log(boot.lane)
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pyxc-lab-") as scratch, log.open("wb") as console:
        disk = Path(scratch) / "results"
        with disk.open("wb") as empty:
            empty.truncate(DISK_BYTES)
        qemu = _command(boot, _image(boot, command, Path(scratch)), disk)
        start = time.monotonic()
        host.watch(
            [*qemu, "-display", "none", "-monitor", "none", "-serial", "stdio"],
            console,
            boot.lane.timeout_s + GRACE_S,
            alive=Pulse(disk).beats,
        )
        return _result(_read_disk(disk), time.monotonic() - start)


def _result(brought: Mapping[str, bytes], seconds: float) -> Result:
    if EXIT_CODE not in brought:
        return Result(Outcome.LOST, None, {}, seconds)
    code = int(brought[EXIT_CODE])
    files = {
        name.removeprefix(RESULTS): content for name, content in brought.items() if name.startswith(RESULTS)
    }
    return Result(Outcome.FAILED if code else Outcome.PASSED, code, files, seconds)


def _command(boot: Boot, image: Path, disk: Path | None) -> list[str]:
    lane = boot.lane
    xen = artifacts.hypervisor(lane.hypervisor)
    drive = ["-drive", f"id=results,if=none,format=raw,file={disk}", "-device", DISK] if disk else []
    forward = f"user,id=outside,hostfwd=tcp:127.0.0.1:{boot.ssh_port}-:22"
    network = ["-netdev", forward, "-device", NETWORK] if boot.ssh_port else ["-nic", "none"]
    # setpriv: QEMU must not outlive the lab, however that ends.
    return [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        "qemu-system-x86_64",
        *MACHINE,
        "-cpu",
        ",-".join(("max", *BROKEN, *(() if lane.xsave else (XSAVE,)))),
        "-m",
        str(lane.memory_mb),
        "-kernel",
        str(xen),
        "-append",
        f"{XEN_COMMAND_LINE} dom0_mem={lane.dom0_memory_mb}M {lane.hypervisor.options}".rstrip(),
        "-initrd",
        f"{artifacts.kernel() / 'vmlinux'} {KERNEL_COMMAND_LINE},{image}",
        *drive,
        *network,
    ]


def _image(boot: Boot, command: str | None, scratch: Path) -> Path:
    """Write the image of dom0. The layer of the job is last, so its files replace others."""
    lane = boot.lane
    parts = [layers.base(), layers.of_root(lane.root)]
    if lane.peer and lane.peer is not lane.root:
        parts.append(layers.of_root(lane.peer, "/peer"))
    environment = {"PATH": config.PATH, "PYXC_GUESTS": "/guests", **boot.environment}
    files = dict(boot.files)
    if lane.peer_path:
        environment["PYXC_PEER"] = lane.peer_path
    policy = artifacts.policy(lane.hypervisor)
    if policy:
        environment["PYXC_POLICY"] = files[policy] = POLICY
    limited = None if command is None else f"exec timeout -k 10 {lane.timeout_s} sh -c {shlex.quote(command)}"
    image = scratch / "image"
    with image.open("wb") as out:
        layers.concatenate([*parts, *boot.archives], out)
        layers.of_job(limited, environment, files, out)
    return image


def _read_disk(disk: Path) -> dict[str, bytes]:
    """The files in the tar file on a disk, none if there is no tar file."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(disk, "r:") as members:
            for member in members:
                content = members.extractfile(member) if member.isfile() else None
                if content is not None:
                    files[member.name] = content.read()
    except (tarfile.TarError, OSError):
        return {}
    return files
