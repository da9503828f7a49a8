# SPDX-License-Identifier: MIT
"""Hypervisor files that do not come from Debian's packages: which release each one is, and its lanes."""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from pathlib import Path

from lab import cache, config, host, vm
from lab.config import Hypervisor, Lane

GZIP_MAGIC = b"\x1f\x8b"
# The kernel asks Xen for its release in a way that never changes.
ASK = "cat /sys/hypervisor/version/major /sys/hypervisor/version/minor > /results/release"
ASK_LIMIT_S = 300


def lanes(file: Path) -> list[Lane]:
    """The lanes for a hypervisor file, which may be compressed: those of its release, with this hypervisor.

    For a release without lanes, one with an i386 dom0 and without Xen's own tools. LabError for a file that
    does not exist or does not boot.
    """
    if not file.is_file():
        raise host.LabError(f"no such file: {file}")
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if content.startswith(GZIP_MAGIC):
        unpack = functools.partial(_unpack, content)
        plain = cache.entry("hypervisor", digest, unpack) / "xen"
    else:
        plain = file.absolute()
    unknown = Hypervisor("", "", file=plain, label=re.sub(r"[^\w.+-]+", "-", file.name))
    asked = cache.entry("release", digest, functools.partial(_ask, unknown))
    own = unknown._replace(version=(asked / "release").read_text())
    fitting = [
        lane
        for lane in config.LANES
        if lane.hypervisor.version == own.version and not lane.hypervisor.flavour
    ]
    return [
        lane._replace(hypervisor=own, skips=config.ANY_SKIP, all_operations=config.ALL_OPERATIONS)
        for lane in fitting or [Lane(own, config.I386)]
    ]


def _unpack(content: bytes, into: Path) -> None:
    (into / "xen").write_bytes(gzip.decompress(content))


def _ask(unknown: Hypervisor, into: Path) -> None:
    """Boot a hypervisor and write its release, such as 4.17, into a file."""
    lane = Lane(unknown, config.I386, timeout_s=ASK_LIMIT_S)
    result = vm.run(vm.Boot(lane), ASK)
    if result.outcome is not vm.Outcome.PASSED:
        raise host.LabError(f"{unknown.file} does not boot, see {vm.console_log(lane)}")
    (into / "release").write_text(".".join(result.files["release"].decode().split()))
