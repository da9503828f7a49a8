# SPDX-License-Identifier: MIT
"""The source of a migration: its guest moves to another host, and never runs on both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from pyxc import errors, undoing
from pyxc.abi.sched import ShutdownReason
from pyxc.domain import naming
from pyxc.domain.identity import Identity
from pyxc.domain.resume import continue_here
from pyxc.guest import save
from pyxc.guest.connection import Connection
from pyxc.guest.connection import Ends as Ends
from pyxc.guest.handshake import BANNER, GRANT, READY, REPORT, Source, Step

AWAY = "--migratedaway"
"""The end of the name of a guest that has moved away."""


class Migrated(NamedTuple):
    """The statistics of a migration; see Saved. The guest did not run for `downtime_s`."""

    pages: int
    rounds: int
    sent_bytes: int
    downtime_s: float
    total_s: float


def migrate(domain: Identity, ends: Ends, wanted: save.Wanted, timeout: float) -> Migrated:
    """See Domain.migrate()."""
    save.check(domain, wanted)
    side, line = Source(), Connection(ends)
    before = domain.info().shutdown_reason is ShutdownReason.SUSPEND
    began = time.monotonic()
    name = save.name_of(domain)

    if name is not None:
        away = naming.check(name + AWAY)
        naming.check_free(domain.xen, domain.xen.store, away, domain.domid)

    def stay() -> None:
        if side.broken() is Step.RUN and not before:
            continue_here(domain, True if wanted.suspend == "ask" else None)

    def take_back_name() -> None:
        if side.broken() is Step.RUN and name is not None:
            domain.xen.store.renew()  # the step may have failed because the connection ended
            _rename(domain, name)

    here = f"domain {domain.domid}"
    with (
        undoing.on_failure(take_back_name, f"{here} is left with the name {name}{AWAY}"),
        undoing.on_failure(stay, f"{here} is left suspended"),  # first, because xenstored may not answer
        line.patient(),
        ExitStack() as after,
    ):
        side.hear(line.hear(BANNER))
        line.timeout = timeout
        told = save.save(domain, line, wanted, after)
        stopped = time.monotonic() - told.downtime_s
        side.sent_guest()
        if name is not None:  # while the other side finishes
            _rename(domain, name + AWAY)
        side.hear(line.hear(READY))
        with _in_doubt(domain, side):
            side.grant()
            try:
                line.say(GRANT)
            except OSError:
                side.not_granted()
                raise
            moved = side.hear(line.hear(REPORT, 1)) is Step.END
            if not moved:
                side.hear(line.hear(GRANT))
        if not moved:
            raise errors.GuestUnable(f"the other host could not let the guest of domain {domain.domid} run")
        now = time.monotonic()
        with suppress(errors.Error):  # what is left here will be destroyed
            after.close()
    return Migrated(told.pages, told.rounds, told.sent_bytes, now - stopped, now - began)


@contextmanager
def _in_doubt(domain: Identity, side: Source) -> Iterator[None]:
    """MigrationInDoubt if it is unknown whether the guest runs on the other side."""
    try:
        yield
    except Exception as error:
        if not side.granted:
            raise
        raise errors.MigrationInDoubt(
            f"domain {domain.domid} remains suspended here because it may run on the other host; "
            f"check there, and then resume or destroy it: {error}"
        ) from error
    except BaseException as interrupt:
        if side.granted:
            interrupt.add_note(
                f"domain {domain.domid} remains suspended here because it may run on the other host"
            )
        raise


def _rename(domain: Identity, name: str) -> None:
    """Rename the domain, unless it has that name."""
    if domain.xen.names.domain_name(domain.domid, domain.uuid) != name:
        naming.write(domain, name)
        domain._name = name
