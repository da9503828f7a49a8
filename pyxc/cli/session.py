# SPDX-License-Identifier: MIT
"""What commands have in common: opening the hypervisor, finding domains, going on after a failure."""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import pyxc
from pyxc import errors
from pyxc.cli import output
from pyxc.cli.status import NoSuchDomain, Status, describe, status_of

T = TypeVar("T")
K = TypeVar("K")
_UNLIMITED_PAGES = 2**32 - 1


def shown(name: str | None) -> str:
    """A domain's name as xl prints it; control characters, with which one could forge others, as \\x1b."""
    return output.harmless(pyxc.readable(name) or "(null)", kept="")


def name_of(xen: pyxc.Xen, info: pyxc.DomainInfo) -> str | None:
    """A domain's name for display; None, after a warning, if xenstore is not available."""
    return pyxc.readable(xen.names.domain_name(info.domid, info.handle))


def opened(args: argparse.Namespace) -> pyxc.Xen:
    """Open the hypervisor that the options select, with a recording if requested."""
    return pyxc.open(
        args.target,
        readonly=args.read_only,
        gate=args.gate,
        names=args.names,
        assume=args.assume,
        record=args.record,
        provenance=args.provenance,
    )


def find(xen: pyxc.Xen, text: str) -> pyxc.Domain:
    """The domain with an id, a name or a UUID.

    NoSuchDomain; ValueError for an invalid id; Ambiguous if several have the name; StoreError if names cannot
    be looked up.
    """
    try:
        return xen.domains[text]
    except errors.DomainNotFound as error:
        if error.domid is None:
            raise NoSuchDomain(f"{error.hint}{_meant(xen, text)}") from error
        raise NoSuchDomain(f"no domain has the id {text}") from error
    except ValueError as error:
        if text.isdigit():
            raise ValueError("no id of a domain: they are from 0 to 32751") from error
        raise


def _meant(xen: pyxc.Xen, text: str) -> str:
    """The name that comes nearest to one that no domain has."""
    from pyxc.cli import overview

    with suppress(errors.Error):
        names = (xen.names.domain_name(info.domid, info.uuid) for info in xen.domains.infos())
        return overview.meant(text, filter(None, names))
    return ""


def agrees(question: str) -> bool:
    """Whether the person at the terminal agrees; True without a terminal, where a script has decided."""
    if not all(stream and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return True
    output.flush()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def infos(xen: pyxc.Xen, wanted: list[str]) -> Attempt[str, pyxc.DomainInfo]:
    """The given domains, or all; reports those that do not exist."""
    attempt = Attempt(wanted, lambda text: find(xen, text).info())
    if not wanted:
        attempt.results = xen.domains.infos()
    return attempt


def limit_kb(info: pyxc.DomainInfo) -> int | None:
    """The most memory that a domain may own; None for no limit."""
    return None if info.max_pages == _UNLIMITED_PAGES else info.max_memory_kb


def seconds_of(cpu_time_ns: int) -> float:
    """Through single precision, as xl computes it: the digit that is shown can depend on that."""
    single: float = struct.unpack("f", struct.pack("f", cpu_time_ns))[0]
    return single / 1e9


def state_of(info: pyxc.DomainInfo) -> str:
    """The one word that says most of what a domain does."""
    flags = pyxc.DomainFlag
    for flag in (flags.DYING, flags.SHUTDOWN, flags.PAUSED, flags.RUNNING, flags.BLOCKED):
        if info.flags & flag:
            return str(flag.name).lower()
    return "runnable"


def style_of(info: pyxc.DomainInfo) -> str:
    """How its row in a table stands out."""
    if info.crashed or info.dying:
        return "alert"
    return "dim" if info.paused or info.shut_down else ""


class Attempt(Generic[K, T]):
    """An action on several things; an expected failure of one is reported and does not stop the others."""

    def __init__(self, things: Iterable[K], action: Callable[[K], T]) -> None:
        self.results: list[T] = []
        self.failures: list[dict[str, Any]] = []
        for thing in things:
            try:
                self.results.append(action(thing))
            except Exception as error:
                self._note(thing, error)

    def _note(self, thing: K, error: Exception) -> None:
        status = status_of(error)
        if status is None:
            raise error
        name = str(thing.domid) if isinstance(thing, pyxc.Domain) else str(thing)
        text = describe(error).removeprefix(f"{name}: ")
        output.complain(f"{name}: {text}")
        self.failures.append({"argument": name, "status": int(status), "error": text})

    @property
    def status(self) -> Status:
        """OK; PARTIAL if some failed; if all failed in the same way, the status for that failure."""
        if not self.failures:
            return Status.OK
        if self.results:
            return Status.PARTIAL
        kinds = {failure["status"] for failure in self.failures}
        return Status(kinds.pop()) if len(kinds) == 1 else Status.FAILED


def worst(found: Iterable[Status], otherwise: Status) -> Status:
    """The status of several findings: the highest counts, `otherwise` where all is well."""
    return max(found, default=Status.OK) or otherwise
