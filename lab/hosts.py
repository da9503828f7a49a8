# SPDX-License-Identifier: MIT
"""python3 -m lab.hosts: several hosts of real Xen side by side, and the tests that manage them from outside.

Each is a machine with a dom0 in which sshd runs. This machine reaches them at ports of 127.0.0.1, and they
reach each other through it. The keys are made for one run.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lab import artifacts, cache, config, host, packages, programs, vm

TESTS = "tests/hosts"
OUTPUT = host.CHECKOUT / "build" / "hosts"
HOST = config.HOSTS["4.17", "i386"]
PATIENCE_S = 900
POLL_S = 2
# What the network of QEMU calls this machine and each dom0.
OUTSIDE, INSIDE = "10.0.2.2", "10.0.2.15"
ENDED = "/run/lab-ended"
JOB = f"""
hostname $PYXC_HOST
ifconfig eth0 {INSIDE} netmask 255.255.255.0 up
/guests/start-peer
mkdir -p /run/sshd
/usr/sbin/sshd -E /results/sshd.log
while [ ! -e {ENDED} ]; do sleep 1; done
cp /run/xen/console/*.log /results
"""
SSH = """\
Host {name}
    HostName {address}
    Port {port}
    User root
    IdentityFile {keys}/id_ed25519
    HostKeyAlias lab
    UserKnownHostsFile {keys}/known_hosts
    BatchMode yes
    ConnectTimeout 60
"""


class Machine(NamedTuple):
    """A host: its name, and the port of 127.0.0.1 that leads to its sshd."""

    name: str
    port: int


def parser() -> argparse.ArgumentParser:
    """The options of python3 -m lab.hosts."""
    options = argparse.ArgumentParser(
        prog="python3 -m lab.hosts",
        description=f"Boot several hosts of Xen side by side, in QEMU, and run {TESTS} on this machine, "
        f"which manage them. Each takes {HOST.memory_mb} MiB of memory.",
        epilog="PYXC_SSH names a configuration file for ssh -F in which the hosts are host1, host2, ... "
        "Exit code: that of the tests or of the command; 128 if a host did not start. Console logs are in "
        "build/lab, what the hosts leave in build/hosts.",
    )
    options.add_argument("--hosts", type=int, default=3, metavar="N", help="how many (3)")
    options.add_argument(
        "--xen",
        type=_releases,
        default=HOST.hypervisor.version,
        metavar="RELEASES",
        help=f"their releases of Xen in turn, such as 4.14,4.20 ({HOST.hypervisor.version})",
    )
    options.add_argument(
        "--userland",
        choices=sorted({arch for _, arch in config.HOSTS}),
        default="i386",
        help="their dom0s (i386)",
    )
    action = options.add_mutually_exclusive_group()
    action.add_argument("-k", dest="expression", metavar="EXPR", help="run matching tests, as pytest -k")
    action.add_argument("--run", metavar="CMD", help="run a shell command on this machine beside the hosts")
    return options


def _releases(text: str) -> list[str]:
    known = sorted({release for release, _ in config.HOSTS})
    releases = text.split(",")
    for release in releases:
        if release not in known:
            raise argparse.ArgumentTypeError(f"no Xen {release}; there are {', '.join(known)}")
    return releases


def lanes(count: int, releases: Sequence[str], userland: str) -> list[config.Lane]:
    """What each host boots."""
    chosen = [(releases[number % len(releases)], userland) for number in range(count)]
    for release, arch in chosen:
        if (release, arch) not in config.HOSTS:
            raise host.LabError(f"Xen {release} is here without a dom0 for {arch}")
    return [config.HOSTS[key] for key in chosen]


@contextlib.contextmanager
def running(lanes: Sequence[config.Lane]) -> Iterator[Path]:
    """Hosts that have booted; yields the configuration file for ssh. They end with the block."""
    count = len(lanes)
    with tempfile.TemporaryDirectory(prefix="pyxc-hosts-") as name:
        keys = Path(name)
        machines = [Machine(f"host{number + 1}", port) for number, port in enumerate(_free_ports(count))]
        _make_keys(keys)
        here = _write_configuration(keys / "here", machines, "127.0.0.1", keys)
        there = _write_configuration(keys / "there", machines, OUTSIDE, Path("/root/.ssh"))
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            boots = [
                pool.submit(vm.run, _boot(machine, lane, keys, there), JOB)
                for machine, lane in zip(machines, lanes)
            ]
            try:
                with host.step(f"{count} hosts: booting"):
                    _wait_for(machines, boots, here)
                yield here
                for machine in machines:
                    host.call(_ssh(here, machine.name, f"touch {ENDED}"))
            except BaseException:
                host.interrupt()
                raise
        _keep_results(machines, [boot.result() for boot in boots])


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _make_keys(directory: Path) -> None:
    for name in ("id_ed25519", "ssh_host_ed25519_key"):
        host.call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", directory / name])
    public = (directory / "ssh_host_ed25519_key.pub").read_text()
    (directory / "known_hosts").write_text(f"lab {public}")


def _write_configuration(file: Path, machines: Sequence[Machine], address: str, keys: Path) -> Path:
    parts = [SSH.format(**machine._asdict(), address=address, keys=keys) for machine in machines]
    file.write_text("".join(parts))
    return file


def _boot(machine: Machine, lane: config.Lane, keys: Path, configuration: Path) -> vm.Boot:
    named = lane.hypervisor._replace(file=artifacts.hypervisor(lane.hypervisor), label=machine.name)
    files = {
        configuration: "/root/.ssh/config",
        keys / "id_ed25519": "/root/.ssh/id_ed25519",
        keys / "id_ed25519.pub": "/root/.ssh/authorized_keys",
        keys / "known_hosts": "/root/.ssh/known_hosts",
        keys / "ssh_host_ed25519_key": "/etc/ssh/ssh_host_ed25519_key",
    }
    return vm.Boot(
        lane._replace(hypervisor=named),
        packages.archives(lane.root.arch),
        files,
        {"PYXC_HOST": machine.name},
        machine.port,
    )


def _ssh(configuration: Path, name: str, command: str) -> list[str]:
    return ["ssh", "-F", str(configuration), name, command]


def _wait_for(
    machines: Sequence[Machine], boots: Sequence[concurrent.futures.Future[vm.Result]], configuration: Path
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    for machine, boot in zip(machines, boots):
        while subprocess.run(_ssh(configuration, machine.name, "true"), capture_output=True).returncode:
            if boot.done() or time.monotonic() > deadline:
                raise host.LabError(f"{machine.name} does not answer, see build/lab/{machine.name}-*")
            time.sleep(POLL_S)


def _keep_results(machines: Sequence[Machine], results: Sequence[vm.Result]) -> None:
    for machine, result in zip(machines, results):
        for name, content in result.files.items():
            path = OUTPUT / machine.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return the exit code."""
    chosen = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, host.terminated)
    matching = ["-k", chosen.expression] if chosen.expression else []
    tests = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", TESTS, *matching]
    try:
        host.need(config.HOSTS_NEEDS)
        programs.add_prometheus()
        with running(lanes(chosen.hosts, chosen.xen, chosen.userland)) as configuration:
            # Tests have a HOME of their own.
            places = {"PYXC_SSH": str(configuration), "PYXC_CACHE": str(cache.directory())}
            environment = {**os.environ, **places}
            command = chosen.run or shlex.join(tests)
            return subprocess.run(command, shell=True, cwd=host.CHECKOUT, env=environment).returncode
    except host.LabError as error:
        host.say(f"lab: {error}")
        return 128
    except KeyboardInterrupt:
        return host.INTERRUPTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
