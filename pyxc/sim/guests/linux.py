# SPDX-License-Identifier: MIT
"""What Linux does in a guest of a simulated host, as far as a toolstack can see it."""

from __future__ import annotations

from pyxc.sim.guests.scripted import ScriptedGuest


def start(guest: ScriptedGuest) -> None:
    """Obey requests, balloon memory, unplug vcpus, use disks and networks, and echo on the console."""
    guest.obey()
    guest.balloon()
    guest.plug()
    guest.use_all()
    if guest.read("console/ring-ref") is not None:
        guest.print(f"{guest.read('name')} login: ")
        guest.echo()
