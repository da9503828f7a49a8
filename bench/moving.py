# SPDX-License-Identifier: MIT
"""Saves, restores and migrates Linux guests in dom0, with pyxc and xl: bench.moving OUTPUT [MIB ...]

OUTPUT becomes a JSON list of objects with "guest", "operation", and medians in seconds: "pyxc_s" and "xl_s"
of the whole operation, "pyxc_down_s" and "xl_down_s" of the time in which the guest was down. Null where a
side has no such operation, or where nobody waits for the guest. MIB is a size of the guests, 256 by default;
twice the memory of the largest must be free.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import pyxc
from pyxc.guest.template import Template

GUESTS = Path("/guests")
CONSOLES = Path("/run/xen/console")
XL = "/usr/lib/xen-4.17/bin/xl"
NAME = "moving"
KINDS = ("pv", "pvh")
SIZES_MIB = ("256",)
ROUNDS = 3
"""The median leaves out the first, in which a side may load what it needs."""
BOOT_S = 240
LOOK_S = 0.01
RUN_S = 1
"""How long a clone runs before it is put back."""


class Took(NamedTuple):
    """Seconds of one operation, and of those in which the guest was down."""

    total: float
    down: float | None = None


Row = dict[str, str | float | None]
Side = Callable[[], Took]


def measure(guest: str, operation: str, pyxc_side: Side, xl_side: Side | None) -> Row:
    """Both sides in turn; the medians."""
    sides = {"pyxc": pyxc_side, **({"xl": xl_side} if xl_side else {})}
    rounds = [{name: side() for name, side in sides.items()} for _ in range(ROUNDS)]
    row: Row = {"guest": guest, "operation": operation, "xl_s": None}
    for name in ("pyxc", "xl"):
        took = [one[name] for one in rounds if name in one]
        downs = [one.down for one in took if one.down is not None]
        row[f"{name}_s"] = round(statistics.median(one.total for one in took), 3) if took else None
        row[f"{name}_down_s"] = round(statistics.median(downs), 3) if downs else None
    print(row, flush=True)
    return row


def xl(*words: str, into: IO[bytes] | int = subprocess.DEVNULL) -> float:
    """Run a command of xl; returns its seconds."""
    start = time.perf_counter()
    subprocess.run([XL, *words], stdout=into, stderr=subprocess.PIPE, check=True)
    return time.perf_counter() - start


def find(xen: pyxc.Xen) -> pyxc.Domain:
    domid = subprocess.run([XL, "domid", NAME], stdout=subprocess.PIPE, text=True, check=True).stdout
    return xen.domains[int(domid)]


def start(xen: pyxc.Xen, kind: str, mib: int) -> pyxc.Domain:
    """A Linux guest that has booted."""
    log = CONSOLES / f"guest-{NAME}.log"
    log.unlink(missing_ok=True)
    xl("create", "-q", str(GUESTS / "linux.cfg"), f'name="{NAME}"', f'type="{kind}"', f"memory={mib}")
    deadline = time.monotonic() + BOOT_S
    while not log.exists() or b"guest is up" not in log.read_bytes():
        assert time.monotonic() < deadline, "the guest does not boot"
        time.sleep(0.1)
    return find(xen)


def save(domain: pyxc.Domain, file: IO[bytes], live: bool = False) -> Took:
    start = time.perf_counter()
    saved = domain.save(file, live=live, resume=True)
    return Took(time.perf_counter() - start, saved.downtime_s)


@contextmanager
def drain() -> Iterator[IO[bytes]]:
    """The end of a pipe that another process reads."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0) as reader:
        assert reader.stdin
        yield reader.stdin


def save_to_pipe(domain: pyxc.Domain) -> Took:
    with drain() as pipe:
        return save(domain, pipe)


def xl_save_to_pipe() -> Took:
    with drain() as pipe:
        return Took(xl("save", "-c", NAME, "/dev/stdout", into=pipe))


def restore(xen: pyxc.Xen, file: Path) -> Took:
    start = time.perf_counter()
    domain = xen.restore(file, paused=True)
    took = Took(time.perf_counter() - start)
    domain.destroy()
    wait_for_memory(xen)
    return took


def xl_restore(xen: pyxc.Xen, file: Path) -> Took:
    took = Took(xl("restore", "-p", str(file)))
    xl("destroy", NAME)
    wait_for_memory(xen)
    return took


def start_clone(xen: pyxc.Xen, template: Template) -> Took:
    start = time.perf_counter()
    domain = template.start(paused=True)
    took = Took(time.perf_counter() - start)
    domain.destroy()
    wait_for_memory(xen)
    return took


def revert(template: Template, clone: pyxc.Domain) -> Took:
    """Put a clone back that has run for a while."""
    clone.unpause()
    time.sleep(RUN_S)
    start = time.perf_counter()
    template.revert(clone)
    took = Took(time.perf_counter() - start)
    clone.pause()
    return took


def clones(xen: pyxc.Xen, title: str, kind: str, file: Path, own: Path) -> Iterator[Row]:
    """Many domains of one saved guest, for which xl restores it each time."""
    template = xen.template(own)
    yield measure(
        title, "start from a template", lambda: start_clone(xen, template), lambda: xl_restore(xen, file)
    )
    if kind == "pvh":
        clone = template.start(revertible=True, paused=True)
        yield measure(title, "revert", lambda: revert(template, clone), lambda: xl_restore(xen, file))
        clone.destroy()
        wait_for_memory(xen)


def wait_for_memory(xen: pyxc.Xen) -> None:
    """Until Xen has freed what destroyed guests had."""
    while xen.physinfo().scrub_pages or any(info.dying for info in xen.domains.infos()):
        time.sleep(LOOK_S)


def migrate(xen: pyxc.Xen, file: Path, *words: str) -> Took:
    """Run a command that moves a guest of xl's within this host, and watch the guest."""
    xl("restore", str(file))
    before = find(xen)
    start, stopped, runs = time.perf_counter(), None, None
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as moving:
        while moving.poll() is None:
            for info in xen.domains.infos():
                if (
                    info.uuid == before.uuid
                    and info.domid == before.domid
                    and info.shutdown_reason is not None
                ):
                    stopped = stopped or time.perf_counter()
                elif info.uuid == before.uuid and info.domid != before.domid and not info.paused:
                    runs = runs or time.perf_counter()
            time.sleep(LOOK_S)
    assert moving.returncode == 0 and stopped, (words, moving.returncode)
    end = time.perf_counter()
    xl("destroy", NAME)
    wait_for_memory(xen)
    return Took(end - start, (runs or end) - stopped)


def guest(xen: pyxc.Xen, kind: str, mib: int) -> Iterator[Row]:
    """Everything with one guest."""
    title = f"{kind.upper()}, {mib} MiB"
    file, own = Path("/run/moving.save"), Path("/run/moving.own")
    domain = start(xen, kind, mib)
    with open("/dev/null", "wb", buffering=0) as null:
        yield measure(
            title, "save", lambda: save(domain, null), lambda: Took(xl("save", "-c", NAME, "/dev/null"))
        )
        yield measure(title, "save, live", lambda: save(domain, null, live=True), None)
    yield measure(title, "save to a pipe", lambda: save_to_pipe(domain), xl_save_to_pipe)
    domain.save(own, resume=True, provenance="none")
    xl("save", NAME, str(file))
    yield measure(title, "restore", lambda: restore(xen, file), lambda: xl_restore(xen, file))
    yield measure(title, "restore, own file", lambda: restore(xen, own), lambda: xl_restore(xen, file))
    yield from clones(xen, title, kind, file, own)
    own.unlink()
    pyxc_words = ("pyxc", "migrate", "-s", "", "--remote", "", NAME, "pyxc migrate-receive")
    xl_words = (XL, "migrate", "-s", "", NAME, f"{XL} migrate-receive")
    yield measure(
        title, "migrate", lambda: migrate(xen, file, *pyxc_words), lambda: migrate(xen, file, *xl_words)
    )
    file.unlink()


def main(output: str, *sizes: str) -> None:
    """All kinds and sizes, on one cpu: clocks of emulated cpus differ."""
    os.sched_setaffinity(0, {0})
    rows: list[Row] = []
    with pyxc.open() as xen:
        for mib in sizes or SIZES_MIB:
            for kind in KINDS:
                rows += guest(xen, kind, int(mib))
    Path(output).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
