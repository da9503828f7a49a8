# SPDX-License-Identifier: MIT
"""From the name of a target to an open hypervisor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyxc.abi import releases
from pyxc.abi.layout import Interface, Release
from pyxc.call import probe
from pyxc.call.caller import Caller
from pyxc.link import Gate, Link
from pyxc.store import StoreClient
from pyxc.store import connect as connect_store
from pyxc.xen import Xen

if TYPE_CHECKING:
    from pyxc.files.writer import KeepName

SIMULATED = "sim:"
REPLAYED = "replay:"
ELSEWHERE = (SIMULATED, REPLAYED)
"""What targets begin with that are not the machine of this process."""


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
    profile), or with "replay:FILE" a recorded one.

    `target` None takes the environment's PYXC_TARGET, else the real one. `readonly` refuses every operation
    that changes something before it is issued. `gate`: "never" forbids a 32-bit process to enter a 64-bit
    kernel as 64-bit code. `names` False never asks xenstore for names. `assume` is a Xen release, (4, 22) or
    "4.22", whose structures are used for a hypervisor that is newer than pyxc, with whatever newer interface
    numbers it takes; None takes the environment's PYXC_ASSUME, if any. `record` is a file into which
    everything is recorded; it has its name once the hypervisor is closed, in place of another recording of
    that name; with `replace` in place of any regular file, else FileExistsError. `provenance` says how the
    file tells where it comes from: "attributes", "required", "sidecar" or "none", see pyxc.files.writer.
    PYXC_TRACE=1 in the environment prints each call, decoded, to standard error. Raises NotXenError,
    VersionMismatch, Unsupported on another architecture than x86-64, and ValueError for an unknown target or
    release.
    """
    if gate not in ("auto", "never"):
        raise ValueError(f'gate is {gate!r}: expected "auto" or "never"')
    if isinstance(assume, str):
        assume = releases.parsed(assume)
    link = open_link(chosen(target), gate)
    try:
        if record is None and link.direct is not None:
            return _connect_here(link, readonly, names, assume)
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
    """xenstore alone, without its hypervisor: works in a guest, too. The target is as for open()."""
    wanted = chosen(target)
    connect = connect_store if wanted is None else open_link(wanted).connect_store
    return StoreClient(connect, readonly=readonly)


def chosen(target: str | None) -> str | None:
    """A target, or the one that PYXC_TARGET of the environment names; None for the real hypervisor."""
    return target or os.environ.get("PYXC_TARGET") or None


def _meant(target: str) -> str:
    return f"{target}:" if target in ("sim", "replay") else f"{SIMULATED}{target}"


def open_link(target: str | None, gate: Gate = "auto") -> Link:
    """The link to a target. What only some targets need is loaded only for them."""
    if target is None:
        from pyxc.link.privcmd import PrivcmdLink

        return PrivcmdLink(gate)
    if target.startswith(SIMULATED):
        from pyxc import sim

        return sim.connect(target)
    if target.startswith(REPLAYED):
        from pyxc.files.playback import replayed

        return replayed(target.removeprefix(REPLAYED), target)
    if target.startswith(("xen-", "ppc64")) or target in ("sim", "replay"):
        raise ValueError(f"unknown target {target!r}: did you mean {_meant(target)!r}?")
    known = f'expected None (the real hypervisor), "{SIMULATED}PROFILE" or "{REPLAYED}FILE"'
    raise ValueError(f"unknown target {target!r}: {known}")


def _connect_here(link: Link, readonly: bool, names: bool, assume: Release | None) -> Xen:
    """Through a device: the hypervisor stays the same while a process lives, and is probed once."""
    key = (link.target, link.kernel_bits, assume, os.environ.get("PYXC_ASSUME"))
    xen = connect(link, readonly=readonly, names=names, assume=assume, known=_interfaces.get(key))
    _interfaces[key] = xen.interface
    return xen


_interfaces: dict[tuple[object, ...], Interface] = {}
"""What was found out of this machine's."""


def connect(
    link: Link,
    *,
    readonly: bool = False,
    names: bool = True,
    assume: Release | None = None,
    known: Interface | None = None,
) -> Xen:
    """A Xen on a link that is open: for wrapped links (recorded, replayed, with faults).

    `known` is the interface of another handle on the same hypervisor, which need not be found out again.
    """
    text = os.environ.get("PYXC_ASSUME")
    if assume is None and text:
        assume = releases.parsed(text)
    interface = known or probe.interface_of(link, assume)
    tracer = None
    if os.environ.get("PYXC_TRACE", "0") not in ("", "0"):
        from pyxc.call import trace

        tracer = trace.printer()
    caller = Caller(link, interface, readonly, tracer)
    return Xen(link, caller, names)
