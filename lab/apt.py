# SPDX-License-Identifier: MIT
"""Packages of any Debian release, from the mirror that apt is configured to use."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from lab import cache, host


@functools.cache
def mirror() -> str:
    """The URI of the Debian archive in apt's configuration. LabError if there is none.

    apt itself is asked, so both formats of its files work. Without indexes it lists nothing; then they are
    downloaded to a private directory first, which does not need root.
    """
    uri = _configured_mirror([])
    if uri is None:
        private = _private_state("mirror")
        host.call(["sh", "-c", '"$@" || true', "sh", "apt-get", *private, "update", "-q"])
        uri = _configured_mirror(private)
    if uri is None:
        raise host.LabError("apt is not configured to use a Debian mirror")
    return uri


def _configured_mirror(options: list[str]) -> str | None:
    listed = host.call(
        [
            "apt-get",
            *options,
            "indextargets",
            "--format",
            "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)",
            "Created-By: Packages",
        ]
    )
    for line in listed.splitlines():
        origin, label, component, uri = line.split("|", 3)
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return uri
    return None


def source_line(suite: str, kind: str = "deb") -> str:
    """An apt source in one line: the main component of `suite`, binary (deb) or source (deb-src) packages."""
    return f"{kind} [signed-by={host.KEYRING}] {mirror()} {suite} main"


def _private_state(name: str) -> list[str]:
    """apt options for a state directory `name` in the cache, in which no packages are installed."""
    top = cache.directory() / "apt" / name
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (top / folder).mkdir(parents=True, exist_ok=True)
    (top / "status").touch()
    settings = {
        "Dir::State": top / "state",
        "Dir::State::status": top / "status",
        "Dir::Cache": top / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


@functools.cache
def options(suite: str, arch: str) -> list[str]:
    """apt options for the packages of `suite` for `arch`. The indexes are downloaded once in a run."""
    architecture = ["-o", f"APT::Architecture={arch}", "-o", f"APT::Architectures={arch}"]
    return _updated(f"{suite}-{arch}", source_line(suite), architecture)


@functools.cache
def _source_options(suite: str) -> list[str]:
    """apt options for the source packages of `suite`."""
    return _updated(f"{suite}-source", source_line(suite, "deb-src"), [])


def _updated(name: str, line: str, extra: list[str]) -> list[str]:
    """apt options for a state directory `name` with one source, `line`, whose index is downloaded."""
    chosen = _private_state(name)
    sources = cache.directory() / "apt" / name / "sources.list"
    sources.write_text(line + "\n")
    chosen += ["-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null", *extra]
    with cache.locked(f"apt-{name}"):
        host.call(["apt-get", *chosen, "update", "-q"])
    return chosen


def fetch(suite: str, arch: str, package: str, into: Path) -> None:
    """Download `package` and unpack it into the directory `into`."""
    apt = options(suite, arch)
    host.call(["apt-get", *apt, "download", package], cwd=into)
    for deb in into.glob("*.deb"):
        host.call(["dpkg-deb", "-x", deb, into])
        deb.unlink()


def fetch_source(suite: str, package: str, into: Path) -> None:
    """Download the files of the source `package` (.dsc, tar files) to the directory `into`."""
    host.call(["apt-get", *_source_options(suite), "source", "--download-only", package], cwd=into)


def fetch_upstream(suite: str, package: str, into: Path, patches: Sequence[str] = ()) -> None:
    """Unpack the upstream source of `package` into the directory `into`; apply Debian's `patches` alone."""
    apt = _source_options(suite)
    for part in ("--tar-only", "--diff-only") if patches else ("--tar-only",):
        host.call(["apt-get", *apt, "source", "-q", "--download-only", part, package], cwd=into)
    for packed in into.glob("*.orig.tar.*"):
        host.call(["tar", "-xf", packed, "--strip-components=1"], cwd=into)
    for packed in into.glob("*.debian.tar.*"):
        host.call(["tar", "-xf", packed], cwd=into)
    for patch in patches:
        host.call(["patch", "-p1", "-i", into / "debian/patches" / patch], cwd=into)


def first_dependency(suite: str, arch: str, metapackage: str) -> str:
    """The first dependency of `metapackage`: the package that it stands for."""
    listed = host.call(["apt-cache", *options(suite, arch), "depends", "--important", metapackage])
    for line in listed.splitlines():
        relation, _, name = line.strip().partition(": ")
        if relation == "Depends":
            return name
    raise host.LabError(f"{metapackage} of {suite} has no dependency")
