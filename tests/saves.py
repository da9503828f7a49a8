# SPDX-License-Identifier: MIT
"""Guests of simulated hosts that are saved."""

from __future__ import annotations

import io
from typing import Any

from hosts import Host

import pyxc
from pyxc import sim
from pyxc.guest import stream

DB1 = 2
"""A PVH guest of every simulated host."""
OTHER_UUID = "11111111-2222-4333-8444-555555555555"


def obedient(host: Host) -> tuple[pyxc.Domain, sim.ScriptedGuest]:
    guest = host.truth.script(DB1)
    guest.obey()
    return host.xen.domains[DB1], guest


def small(host: Host) -> pyxc.Domain:
    """A PVH guest of 2 MiB, which runs and knows nothing of xenstore."""
    made = host.xen.domains.build(sim.kernel("pvh"), memory_kb=2048, uuid=OTHER_UUID)
    made.unpause()
    return made


def events(data: bytes) -> list[stream.Event]:
    reader = stream.Reader(strict=True)
    found = [
        event._replace(data=memoryview(bytes(event.data))) if isinstance(event, stream.Pages) else event
        for event in reader.feed(data)
    ]
    reader.close()
    return found


def saved(domain: pyxc.Domain, **options: Any) -> bytes:
    file = io.BytesIO()
    domain.save(file, **{"suspend": "force", **options})
    return file.getvalue()


def running(host: Host, domain: pyxc.Domain) -> bool:
    """Whether it runs, and nothing of a save is left."""
    truth = host.truth.domains[domain.domid]
    return not truth.stopped and truth.dirty is None and host.xen.link.maps == []
