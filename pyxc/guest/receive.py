# SPDX-License-Identifier: MIT
"""The target of a migration."""

from __future__ import annotations

from contextlib import suppress

from pyxc import errors, undoing
from pyxc.domain.domains import Domains
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

    def give_up() -> None:
        if not side.granted:
            _discard(domain)
        elif _runs(domain):  # the error came after it was let run
            _report(line)
        else:
            _refuse(domain, line)

    with undoing.on_failure(give_up, f"domain {domain.domid} is left"):
        line.push_back(reader.unused)
        side.has_guest()
        line.say(READY)
        from_here = _comes_from_here(domain)
        if not from_here:  # now, while the source prepares: the guest is down until it has its name
            _name(domain)
        line.hear(GRANT)
        side.hear()
        if from_here:
            _name(domain)
        if not wanted.paused:
            domain.unpause()
        _report(line)
    return domain


def _runs(domain: BuiltDomain) -> bool:
    try:
        return not domain.info().paused
    except (errors.DomainNotFound, errors.DomainGone):
        return False


def _report(line: Connection) -> None:
    """The guest runs, whether or not the report reaches the source."""
    with suppress(OSError):
        line.say(REPORT + RUNS)


def _comes_from_here(domain: BuiltDomain) -> bool:
    """Whether the guest moves within this host, where its source has its name until GRANT."""
    infos = Domains(domain.xen).infos()
    return any(info.uuid == domain.uuid and info.domid != domain.domid for info in infos)


def _name(domain: BuiltDomain) -> None:
    name = domain._name
    if name is not None:
        domain.set_name(name.removesuffix(_INCOMING))


def _refuse(domain: BuiltDomain, line: Connection) -> None:
    """The guest runs again on the other host, which hears this only once it cannot run here."""
    _discard(domain)
    with suppress(OSError):
        line.say(REPORT + FAILED + GRANT)


def _discard(domain: BuiltDomain) -> None:
    domain.xen.store.renew()  # the step may have failed because the connection ended
    with suppress(errors.DomainNotFound, errors.DomainGone):
        domain.destroy()
