# SPDX-License-Identifier: MIT
"""Everything that a link has opened besides privcmd, so that a restriction covers it all."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Protocol, TypeVar
from weakref import ref

from pyxc.errors import NotXenError, StoreError
from pyxc.link import EventDevice
from pyxc.store.channel import Channel

T = TypeVar("T")


class Cuttable(Channel, Protocol):
    """A connection to xenstore that can be ended for all its users."""

    def cut(self) -> None:
        """End it: its users find the end of the data."""


class Restrictable(EventDevice, Protocol):
    """An event channel device that knows the domain to which it is restricted, if any."""

    only: int | None


class Doors:
    """Event channel devices and connections to xenstore of one link.

    `only` is the only domain of a restricted link, which opens nothing more.
    """

    def __init__(self) -> None:
        self.only: int | None = None
        # Not sets: they hold few at a time, most handles open none, and to make a set takes longer.
        self._events: list[ref[Restrictable]] = []
        self._stores: list[ref[Cuttable]] = []

    def restrict(self, domid: int) -> None:
        """Let the kernel restrict event channels, close those that it cannot restrict, and end xenstore's.

        (The kernel's grant devices are open only during a call.)
        """
        self.only = domid
        for channel in _alive(self._stores):
            channel.cut()
        for device in _alive(self._events):
            with suppress(OSError, ValueError):
                if device.only != domid and device.request("restrict_domid", domid) < 0:
                    device.close()

    def events(self, device: Restrictable) -> None:
        """A device was opened."""
        self._events.append(ref(device, self._events.remove))

    def store(self, channel: Cuttable) -> None:
        """A connection was opened."""
        self._stores.append(ref(channel, self._stores.remove))

    def check_events(self) -> None:
        """NotXenError if nothing may be opened."""
        if self.only is not None:
            raise NotXenError(errno.EPERM, self._refusal)

    def check_store(self) -> None:
        """StoreError if nothing may be opened."""
        if self.only is not None:
            raise StoreError(errno.EPERM, self._refusal)

    def check_grants(self) -> None:
        """OSError if nothing may be opened."""
        if self.only is not None:
            raise OSError(errno.EPERM, self._refusal)

    @property
    def _refusal(self) -> str:
        return f"this handle is restricted to domain {self.only}: it cannot open more devices"


def _alive(references: list[ref[T]]) -> list[T]:
    return [found for one in list(references) if (found := one()) is not None]
