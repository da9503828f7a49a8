# SPDX-License-Identifier: MIT
"""python3 -m lab.fresh: run the README's commands on a Debian 12 on which nothing was ever installed.

Each run unpacks a bare Debian root, clones the checkout into it, and runs the commands there by chroot. What
was built before cannot hide a missing installation step: the root gets nothing from this machine but its
configuration of package downloads, and the packages that were downloaded.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lab import cache, config, host, report, roots

OUTPUT = host.CHECKOUT / "build" / "fresh"
LIMIT_S = 3600
HEADER = ("command", "exit code", "seconds")
NOT_ENDED = "killed"

HOME = Path("/root")
CLONE = HOME / "pyxc"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# How this machine downloads packages: sources, proxies, certificates. Files, each with its place in the root,
# then variables by name and by prefix.
CONFIGURATION = {
    Path("/etc/apt"): Path("/etc/apt"),
    Path("/etc/hosts"): Path("/etc/hosts"),
    Path("/etc/pip.conf"): Path("/etc/pip.conf"),
    Path("/etc/resolv.conf"): Path("/etc/resolv.conf"),
    Path("/etc/ssl/certs"): Path("/etc/ssl/certs"),
    Path.home() / ".config/pip/pip.conf": HOME / ".config/pip/pip.conf",
    Path.home() / ".pip/pip.conf": HOME / ".pip/pip.conf",
}
VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "TERM")
PREFIXES = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# Downloaded files, kept from run to run. pip's other cache is left out: it holds wheels that were built.
ARCHIVES = Path("/var/cache/downloads/apt")
DOWNLOADS = {
    "apt": ARCHIVES,
    "pip/http": HOME / ".cache/pyxc/pip/http",
    "pip/http-v2": HOME / ".cache/pyxc/pip/http-v2",
}
# Not where apt keeps them by itself: the apt configuration of container images empties that after each run.
APT_CONFIGURATION = f'Dir::Cache::Archives "{ARCHIVES}";\n'
APT_CONFIGURATION_FILE = Path("/etc/apt-downloads.conf")

# Mounts and processes have namespaces of their own, so nothing is left of either when the first process dies;
# setpriv makes it die with this one.
NAMESPACE = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork", "--kill-child")
# $1 is the root; then come the options, source and place of each mount; "--"; variables; and the command. The
# shell stays, as the parent of processes that lose theirs.
ENTER = """
set -e
root=$1
shift
# unshare wants its root to be a mount.
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys" 2>/dev/null || mount --rbind /sys "$root/sys"
while [ "$1" != -- ]; do
    mount --bind -o "$1" "$2" "$root$3"
    shift 3
done
shift
chroot "$root" env -i "$@"
"""


class Mount(NamedTuple):
    """A file or directory of this machine, its place in the root, and options of mount: rw or ro."""

    options: str
    source: Path
    place: Path


class Machine(NamedTuple):
    """A root for an architecture, what is mounted into it, and the environment of its commands."""

    arch: str
    root: Path
    mounts: Sequence[Mount]
    variables: Mapping[str, str]

    def run(self, command: str) -> int | None:
        """Run a shell command in the clone; return its exit code, or None if it did not end in time."""
        mounts = [str(word) for mount in self.mounts for word in mount]
        variables = [f"{name}={value}" for name, value in self.variables.items()]
        return host.watch(
            [*roots.personality(self.arch), *NAMESPACE, "sh", "-c", ENTER, "sh", self.root, *mounts,
             "--", *variables, "sh", "-c", f"cd {CLONE} && {command}"],
            sys.stdout.buffer,
            LIMIT_S,
        )  # fmt: skip


@contextlib.contextmanager
def machine(arch: str) -> Iterator[Machine]:
    """A fresh machine with a clone of the checkout. It is removed at the end, whatever happens."""
    top = cache.directory() / "fresh"
    with cache.locked("fresh"):
        packed = roots.tar(config.FRESH[arch])
        # A run that was killed leaves a root behind.
        shutil.rmtree(top, ignore_errors=True)
        try:
            with host.step("unpacking a bare Debian"):
                roots.extract(packed, top)
                _clone(Path(f"{top}{CLONE}"))
            yield _furnish(arch, top)
        finally:
            # What the last process was about to write may still come; the next run removes it.
            shutil.rmtree(top, ignore_errors=True)


def _clone(into: Path) -> None:
    if host.call(["git", "status", "--porcelain"], cwd=host.CHECKOUT):
        host.say("lab: fresh: changes that are not committed are left out")
    host.call(["git", "clone", "--quiet", "--no-local", host.CHECKOUT, into])


def _furnish(arch: str, root: Path) -> Machine:
    """Make the places for the mounts."""
    shutil.rmtree(OUTPUT, ignore_errors=True)
    downloads = cache.directory() / "downloads"
    mounts = [Mount("rw", OUTPUT, CLONE / "build")]
    mounts += [Mount("rw", downloads / name, place) for name, place in DOWNLOADS.items()]
    for mount in mounts:
        mount.source.mkdir(parents=True, exist_ok=True)
    mounts += [Mount("ro", source, place) for source, place in CONFIGURATION.items() if source.exists()]
    for mount in mounts:
        _make_place(mount.source, Path(f"{root}{mount.place}"))
    Path(f"{root}{APT_CONFIGURATION_FILE}").write_text(APT_CONFIGURATION)
    return Machine(arch, root, mounts, _variables())


def _make_place(source: Path, place: Path) -> None:
    if source.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        # A link would lead out of the root.
        place.unlink(missing_ok=True)
        place.touch()


def _variables() -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in VARIABLES or name.upper().startswith(PREFIXES)
    }
    passed.pop("PIP_CACHE_DIR", None)
    return {**passed, "PATH": PATH, "HOME": str(HOME), "APT_CONFIG": str(APT_CONFIGURATION_FILE)}


def run_all(arch: str, commands: Sequence[str]) -> bool:
    """Run commands on a fresh machine and print a table of them; return whether all succeeded."""
    rows = []
    with machine(arch) as made:
        for command in commands:
            host.say(f"lab: fresh: {command}")
            start = time.monotonic()
            code = made.run(command)
            seconds = time.monotonic() - start
            rows.append((command, NOT_ENDED if code is None else str(code), f"{seconds:.0f}"))
    print("\n".join(report.table([HEADER, *rows])))
    return all(code == "0" for _, code, _ in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return the exit code."""
    options = argparse.ArgumentParser(
        prog="python3 -m lab.fresh",
        description="Run the commands of the README in a bare Debian 12 root, which has nothing installed.",
        epilog="Exit code 0 only if all commands succeed. What they build is in build/fresh/.",
    )
    options.add_argument("--userland", choices=config.FRESH, default="amd64", help="what the root is (amd64)")
    options.add_argument(
        "command",
        nargs="*",
        default=config.FRESH_COMMANDS,
        help=f"shell commands to run in place of: {'; '.join(config.FRESH_COMMANDS)}",
    )
    chosen = options.parse_args(arguments)
    signal.signal(signal.SIGTERM, host.terminated)
    try:
        if os.geteuid() != 0:
            raise host.LabError("a fresh machine needs mounts and chroot: run this as root (sudo make fresh)")
        host.need(config.ROOT_NEEDS)
        return 0 if run_all(chosen.userland, chosen.command) else 1
    except host.LabError as error:
        host.say(f"lab: {error}")
        return 2
    except KeyboardInterrupt:
        return host.INTERRUPTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
