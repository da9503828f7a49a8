# SPDX-License-Identifier: MIT
"""Names of domains and of cpu pools."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable

from pyxc.errors import StoreError
from pyxc.store import channel
from pyxc.store.channel import Channel
from pyxc.store.client import StoreClient

_PATIENCE_S = 1.0
_NOBODY = (errno.ETIMEDOUT, errno.ENODEV, errno.ECONNRESET, errno.EPERM)


class Names:
    """Names of the domains and cpu pools of a target. Threads: may be used by many.

    `wanted`: whether xenstore is to be asked at all.
    Where nothing answers it says so once, and knows no names from then on. Where there is no xenstore at all,
    as with a recording, it has nothing to say.
    """

    _silent: set[str] = set()
    """Targets whose xenstored took a request and never answered: no other handle waits for it again."""

    def __init__(
        self, connect: Callable[[], Channel] = channel.connect, target: str = "", use: bool = True
    ) -> None:
        self._connect = connect
        self._target = target
        self.wanted = self._use = use
        self._store: StoreClient | None = None

    def domain_name(self, domid: int) -> str | None:
        """A domain's name in xenstore, None when it has none or nothing answers there."""
        return self._read(f"/local/domain/{domid}/name")

    def pool_name(self, pool_id: int) -> str | None:
        """The same of a cpu pool. The first one has a name even where nobody gave it one."""
        name = self._read(f"/local/pool/{pool_id}/name")
        return "Pool-0" if name is None and pool_id == 0 else name

    def _read(self, path: str) -> str | None:
        if not self._use or self._target in Names._silent:
            return None
        if self._store is None:
            self._store = StoreClient(self._connect, readonly=True, timeout=_PATIENCE_S)
        try:
            name = self._store.read(path)
        except StoreError as error:
            if error.errno in _NOBODY:
                self._give_up(error)
            elif error.errno != errno.EOPNOTSUPP:
                raise
            return None
        return None if name is None else name.decode(errors="replace")

    def _give_up(self, error: StoreError) -> None:
        self._use = False
        if error.errno == errno.ETIMEDOUT:
            Names._silent.add(self._target)
        self.close()
        warnings.warn(f"domains show without names: {error.strerror}", RuntimeWarning, stacklevel=5)

    def close(self) -> None:
        """End the connection, if any; the next question makes another one."""
        if self._store is not None:
            self._store.close()
            self._store = None
