# SPDX-License-Identifier: MIT
"""The target of a migration."""

from __future__ import annotations

from contextlib import suppress

from pyxc import errors, undoing
from pyxc.guest import restore, stream
from pyxc.guest.built import BuiltDomain, Making
from pyxc.guest.connection import Connection, Ends
from pyxc.guest.handshake import BANNER, FAILED, GRANT, READY, REPORT, RUNS, Target

_INCOMING = "--incoming"
"""The end of the name of a guest that has not arrived completely."""


def receive(making: Making, ends: Ends, wanted: restore.Wanted) -> BuiltDomain:
    """See Xen.receive()."""
    making.xen.check_writable("receiving a guest")
    side, line, reader = Target(), Connection(ends), stream.Reader()
    line.say(BANNER)
    held = wanted._replace(paused=True, twin=True, suffix=_INCOMING)
    domain = restore.receive(making, line.fill, reader, held)
    with undoing.on_failure(lambda: _discard(domain), f"domain {domain.domid} is left, paused"):
        line.push_back(reader.unused)
        side.has_guest()
        line.say(READY)
        line.hear(GRANT)
        side.hear()
    with undoing.on_failure(lambda: _refuse(domain, line), f"domain {domain.domid} is left"):
        _run(domain, wanted.paused)
    with suppress(OSError):  # the guest runs, whether or not the report reaches the source
        line.say(REPORT + RUNS)
    return domain


def _run(domain: BuiltDomain, paused: bool) -> None:
    name = domain._name
    if name is not None:
        domain.set_name(name.removesuffix(_INCOMING))
    if not paused:
        domain.unpause()


def _refuse(domain: BuiltDomain, line: Connection) -> None:
    """The guest runs again on the other host, which hears this only once it cannot run here."""
    _discard(domain)
    with suppress(OSError):
        line.say(REPORT + FAILED + GRANT)


def _discard(domain: BuiltDomain) -> None:
    domain.xen.store.renew()  # the step may have failed because the connection ended
    with suppress(errors.DomainNotFound, errors.DomainGone):
        domain.destroy()
