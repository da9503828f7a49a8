# SPDX-License-Identifier: MIT
"""From the name of a target to an open hypervisor."""

from __future__ import annotations

import os
import stat
from functools import cache
from typing import TYPE_CHECKING

from pyxc._core import environment
from pyxc.abi import releases
from pyxc.abi.layout import Interface, Release
from pyxc.call import probe
from pyxc.call.caller import Caller, Plans
from pyxc.link import Gate, Link
from pyxc.store import StoreClient
from pyxc.store import connect as connect_store
from pyxc.xen import Xen

if TYPE_CHECKING:
    from pyxc.files.writer import KeepName
    from pyxc.link.privcmd import PrivcmdLink

SIMULATED = "sim:"
REPLAYED = "replay:"
ELSEWHERE = (SIMULATED, REPLAYED)
"""Prefixes of targets other than the real hypervisor."""


def open_xen(
    target: str | None = None,
    *,
    readonly: bool = False,
    gate: Gate = "auto",
    names: bool = True,
    assume: Release | str | None = None,
    record: str | os.PathLike[str] | None = None,
    replace: bool = False,
    provenance: KeepName = "attributes",
) -> Xen:
    """Open a hypervisor: the real one, or with "sim:PROFILE" a simulated one ("sim:" for the default
    profile), or with "replay:FILE" a recorded one. "sim:PROFILE@FILE" is a simulated one that a file keeps
    from one program to the next, "sim:@SOCKET" one that `pyxc sim` serves to several programs.

    `target` None takes the environment variable PYXC_TARGET, else the real hypervisor. `readonly` refuses
    every operation that makes changes, before the hypercall. `gate` "never" forbids a 32-bit process to enter
    a 64-bit kernel as 64-bit code. `names` False never looks up names in xenstore. `assume` is a Xen release,
    (4, 22) or "4.22", whose structures are used for a hypervisor newer than pyxc, with any newer interface
    numbers that it accepts; None takes the environment variable PYXC_ASSUME, if set. `record` is a file in
    which everything is recorded; it gets its name when the hypervisor is closed. It replaces another
    recording, with `replace` any regular file, otherwise FileExistsError. `provenance` says how to record the
    provenance of the file: "attributes", "required", "sidecar" or "none", see pyxc.files.writer. The
    environment variable PYXC_TRACE=1 prints each call, decoded, to standard error. Raises NotXenError,
    VersionMismatch, Unsupported on another architecture than x86-64, and ValueError for an unknown target or
    release.

    Example:

    >>> with pyxc.open("sim:xen-4.17") as xen:       # on a real host: pyxc.open()
    ...     xen.domains["web1"].pause()
    ...     xen.domains["web1"].info().paused
    True
    """
    if gate not in ("auto", "never"):
        raise ValueError(f'gate is {gate!r}: expected "auto" or "never"')
    if isinstance(assume, str):
        assume = releases.parsed(assume)
    link = open_link(chosen(target), gate)
    try:
        if record is None and link.direct is not None:
            return connect_again(link, readonly=readonly, names=names, assume=assume)
        if record is None:
            return connect(link, readonly=readonly, names=names, assume=assume)
        from pyxc.files.recording import Recorder

        link = recorder = Recorder(link, record, provenance, replace)
        xen = connect(link, readonly=readonly, names=names, assume=assume)
        recorder.note(xen.interface)
        return xen
    except BaseException:
        link.close()
        raise


def open_store(target: str | None = None, *, readonly: bool = False) -> StoreClient:
    """Open xenstore without a hypervisor; this also works in a guest. The target is that of open().

    Example:

    >>> with pyxc.open_store("sim:xen-4.17") as store:
    ...     store.read("/local/domain/1/name")
    b'web1'
    """
    wanted = chosen(target)
    path = wanted.partition("@")[2] if wanted is not None and wanted.startswith(SIMULATED) else ""
    if path and not _is_socket(path):
        raise ValueError(f"{wanted} is written when a hypervisor closes: use open()")
    connect = connect_store if wanted is None else open_link(wanted).connect_store
    return StoreClient(connect, readonly=readonly)


def chosen(target: str | None) -> str | None:
    """A target, or the one in the environment variable PYXC_TARGET; None for the real hypervisor."""
    return target or environment("PYXC_TARGET") or None


def _is_socket(path: str) -> bool:
    """Whether another process serves the host; other files keep one."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _meant(target: str) -> str:
    return f"{target}:" if target in ("sim", "replay") else f"{SIMULATED}{target}"


def open_link(target: str | None, gate: Gate = "auto") -> Link:
    """The link to a target. Modules that only some targets need are loaded only for them."""
    if target is None:
        return _privcmd_link()(gate)
    if target.startswith(SIMULATED):
        path = target.partition("@")[2]
        if path and _is_socket(path):
            from pyxc.link.served import ServedLink

            return ServedLink(path, target)
        from pyxc import sim

        return sim.connect(target)
    if target.startswith(REPLAYED):
        from pyxc.files.playback import replayed

        return replayed(target.removeprefix(REPLAYED), target)
    if target.startswith(("xen-", "ppc64")) or target in ("sim", "replay"):
        raise ValueError(f"unknown target {target!r}: did you mean {_meant(target)!r}?")
    known = f'expected "{SIMULATED}PROFILE", "{REPLAYED}FILE", or none for the host on which this runs'
    raise ValueError(f"unknown target {target!r}: {known}")


@cache
def _privcmd_link() -> type[PrivcmdLink]:
    """Its module is loaded on first use. Even an import that has nothing to load takes as long as a call."""
    from pyxc.link.privcmd import PrivcmdLink

    return PrivcmdLink


def connect_again(
    link: Link, *, readonly: bool = False, names: bool = True, assume: Release | None = None
) -> Xen:
    """connect(), but a hypervisor that stays the same while this process lives is probed only once."""
    assume = assume or _assumed()
    key = (link.target, link.kernel_bits, readonly, assume)
    known = _known.get(key)
    xen = connect(link, readonly=readonly, names=names, assume=assume, known=known)
    if known is None:
        _known[key] = xen.interface, xen.caller.plans
    return xen


Known = tuple[Interface, Plans]
_known: dict[tuple[object, ...], Known] = {}
"""What other handles found out about the hypervisors that this process has probed."""


def _assumed() -> Release | None:
    """The release in the environment variable PYXC_ASSUME, if set."""
    text = environment("PYXC_ASSUME")
    return releases.parsed(text) if text else None


def connect(
    link: Link,
    *,
    readonly: bool = False,
    names: bool = True,
    assume: Release | None = None,
    known: Known | None = None,
) -> Xen:
    """A Xen on an open link: for wrapped links (recorded, replayed, with faults).

    `known` is what another handle found out about the same hypervisor, which then is not probed again.
    """
    interface, plans = known or (probe.interface_of(link, assume or _assumed()), None)
    tracer = None
    how = environment("PYXC_TRACE")
    if how not in (None, "", "0"):
        from pyxc.call import trace

        tracer = trace.Summary() if how == "summary" else trace.printer()
    caller = Caller(link, interface, readonly, tracer, plans)
    return Xen(link, caller, names)
