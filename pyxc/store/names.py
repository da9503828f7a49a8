# SPDX-License-Identifier: MIT
"""Names of domains and of cpu pools."""

from __future__ import annotations

import errno
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pyxc.errors import StoreError
from pyxc.store import channel
from pyxc.store.channel import Channel
from pyxc.store.client import StoreClient
from pyxc.store.nodes import if_there
from pyxc.store.session import TIMEOUT_S
from pyxc.store.wire import Kind

if TYPE_CHECKING:
    from uuid import UUID

_GLANCE_S = 1.0
"""The timeout for a name that is only displayed."""
_RETRY_S = 5.0
"""How long not to wait again for a xenstored that did not reply in time, unless it does meanwhile."""
_BROKEN = (errno.ECONNRESET, errno.EPROTO)


def readable(name: str | None) -> str | None:
    """A printable name: bytes that are not UTF-8 as \\xff."""
    return None if name is None else name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _text(value: bytes | StoreError | None) -> str | None:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else None


def _of(uuid: UUID | bytes, name: str | None, vm: str | None) -> str | None:
    """The name of a domain, if the path of its configuration is that of its UUID, or unknown."""
    digits = (uuid if isinstance(uuid, bytes) else uuid.bytes).hex()
    return name if vm is None or vm.lower().replace("-", "").endswith(digits) else None


class Names:
    """Names of the domains and cpu pools of a target. Threads: safe to share.

    A name for display is None, with a warning, if xenstore is not available; the next lookup tries again. A
    lookup that selects a domain uses `strictly`: then this is a StoreError, because a name that cannot be
    read is not a name that no domain has.
    """

    _silent: dict[str, float] = {}
    """Targets whose xenstored did not reply in time, and until when not to wait for it again."""

    def __init__(
        self, connect: Callable[[], Channel] = channel.connect, target: str = "", use: bool = True
    ) -> None:
        self.use = use
        self._connect = connect
        self._target = target
        self._store: StoreClient | None = None
        self._warned = False

    def __repr__(self) -> str:
        return f"<Names of {self._target or 'this host'}>"

    def domain_name(
        self, domid: int, uuid: UUID | bytes | None = None, *, strictly: bool = False
    ) -> str | None:
        """The name of the domain with an id, None if it has none.

        With `uuid`, or its bytes, a name of another domain with the same id does not count: if
        /local/domain/ID/vm exists, it must end in this UUID. Bytes that are not UTF-8 are surrogates
        (surrogateescape), so that different names remain different.
        """
        read = self._certain if strictly else self._shown
        (name,) = read([f"/local/domain/{domid}/name"])
        if name is None or uuid is None:
            return name
        (vm,) = read([f"/local/domain/{domid}/vm"])
        return _of(uuid, name, vm)

    def domain_names(self, domains: Iterable[tuple[int, UUID | bytes]]) -> list[str | None]:
        """Names for display of domains with their ids and UUIDs; faster than one after the other."""
        known = list(domains)
        texts = self._shown(
            [f"/local/domain/{domid}/{node}" for domid, _ in known for node in ("name", "vm")]
        )
        return [_of(uuid, name, vm) for (_, uuid), name, vm in zip(known, texts[::2], texts[1::2])]

    def pool_name(self, pool_id: int, *, strictly: bool = False) -> str | None:
        """The same for a cpu pool. The first pool has a default name."""
        read = self._certain if strictly else self._shown
        (name,) = read([f"/local/pool/{pool_id}/name"])
        return "Pool-0" if name is None and pool_id == 0 else name

    def _certain(self, paths: Sequence[str]) -> list[str | None]:
        """Values that decide something. StoreError for one that cannot be read."""
        values = self._ask(paths, TIMEOUT_S)
        for value in values:
            if isinstance(value, StoreError):
                raise value
        return [_text(value) for value in values]

    def _shown(self, paths: Sequence[str]) -> list[str | None]:
        """Values that are only displayed: None for one that cannot be read."""
        values: list[bytes | StoreError | None] = [None] * len(paths)
        try:
            if self._may_ask():
                values = self._ask(paths, _GLANCE_S)
        except StoreError as error:
            self._complain(error)
        refused = next((value for value in values if isinstance(value, StoreError)), None)
        if refused is not None:
            self._complain(refused)
        return [_text(value) for value in values]

    def _may_ask(self) -> bool:
        """Whether to look up a name that is only displayed."""
        if not self.use:
            return False
        quiet_until = Names._silent.get(self._target, 0.0)
        return time.monotonic() >= quiet_until or (self._store is not None and self._store.settled())

    def _ask(self, paths: Sequence[str], timeout: float) -> list[bytes | StoreError | None]:
        """Read nodes; through a new connection if the old one has ended, as after a restart of xenstored."""
        if not self.use:
            raise StoreError(errno.EOPNOTSUPP, "this handle does not look up names in xenstore (names=False)")
        store = self._store
        try:
            values = self._read(paths, timeout)
        except StoreError as error:
            if store is None or error.errno not in _BROKEN:
                raise
            store.renew()
            values = self._read(paths, timeout)
        Names._silent.pop(self._target, None)
        if not any(isinstance(value, StoreError) for value in values):
            self._warned = False
        return values

    def _read(self, paths: Sequence[str], timeout: float) -> list[bytes | StoreError | None]:
        store = self._store
        if store is None:
            store = self._store = StoreClient(self._connect, readonly=True)
        return [if_there(found) for found in store.request_each(Kind.READ, paths, timeout=timeout)]

    def _complain(self, error: StoreError) -> None:
        """Warn once until xenstore is available again, but not for a recording, which has no xenstore."""
        if error.errno == errno.ETIMEDOUT:
            Names._silent[self._target] = time.monotonic() + _RETRY_S
        if error.errno != errno.EOPNOTSUPP and not self._warned:
            self._warned = True
            warnings.warn(f"domains are shown without names: {error.strerror}", RuntimeWarning, stacklevel=5)

    def close(self) -> None:
        """Close the connection, if any; the next lookup opens another one."""
        if self._store is not None:
            self._store.close()
            self._store = None
