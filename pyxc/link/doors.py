# SPDX-License-Identifier: MIT
"""What a link has opened besides privcmd: so that a restriction is one of everything."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from pyxc.errors import NotXenError, StoreError
from pyxc.link import EventDevice
from pyxc.store.channel import Channel


class Cuttable(Channel, Protocol):
    """A connection to xenstore that can be ended for whoever uses it."""

    def cut(self) -> None:
        """They find that nothing comes any more."""


class Restrictable(EventDevice, Protocol):
    """An event channel device that knows to which domain it is restricted, if to any."""

    only: int | None


class Doors:
    """Event channel devices and connections to xenstore of one link.

    `only` is the domain that is left once the link is restricted: nothing is opened any more.
    """

    def __init__(self) -> None:
        self.only: int | None = None
        self._events: WeakSet[Restrictable] = WeakSet()
        self._stores: WeakSet[Cuttable] = WeakSet()

    def restrict(self, domid: int) -> None:
        """Restrict event channels, which the kernel does; close those that it does not; end xenstore's.

        (The kernel's grant devices are opened for each call alone.)
        """
        self.only = domid
        for channel in list(self._stores):
            channel.cut()
        for device in list(self._events):
            with suppress(OSError, ValueError):
                if device.only != domid and device.request("restrict_domid", domid) < 0:
                    device.close()

    def events(self, device: Restrictable) -> None:
        """A device was opened."""
        self._events.add(device)

    def store(self, channel: Cuttable) -> None:
        """A connection was opened."""
        self._stores.add(channel)

    def check_events(self) -> None:
        """NotXenError where nothing may be opened."""
        if self.only is not None:
            raise NotXenError(errno.EPERM, self._refusal)

    def check_store(self) -> None:
        """StoreError where nothing may be opened."""
        if self.only is not None:
            raise StoreError(errno.EPERM, self._refusal)

    def check_grants(self) -> None:
        """OSError where nothing may be opened."""
        if self.only is not None:
            raise OSError(errno.EPERM, self._refusal)

    @property
    def _refusal(self) -> str:
        return f"this handle is restricted to domain {self.only}: it cannot open more devices"
