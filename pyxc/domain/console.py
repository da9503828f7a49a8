# SPDX-License-Identifier: MIT
"""A guest's console: what it prints is read, and what it reads is typed."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Literal, NamedTuple

from pyxc import errors
from pyxc.abi import event_channel
from pyxc.abi.event_channel import Status
from pyxc.abi.hvm import HvmParam
from pyxc.domain.channels import Channels
from pyxc.domain.console_pty import Terminal
from pyxc.domain.console_ring import Ring, last
from pyxc.domain.hvm_params import HvmParams
from pyxc.domain.identity import Identity
from pyxc.waiting import until_readable, until_readable_async

Way = Literal["ring", "pty"]
_LOOK_S = 0.05
"""How often a ring is looked at that nothing rings for."""
_ALIVE_S = 0.5
"""How often to look whether the domain still runs."""
_UNREAD_MOST = 1 << 16
_SHOWN = 200


class Place(NamedTuple):
    """Where the ring of a console is: a frame as the domain's kind names it, and the guest's port."""

    frame: int
    port: int


class Console:
    """The console of a PV or PVH guest, or of an HVM guest with drivers for Xen: `domain.console`.

    It opens when it is first used, until close() or the end of a `with`. Where xenconsoled serves the guest,
    it goes through xenconsoled's terminal, which xenstore names; else this process maps the ring of the guest
    and serves it itself, from the first byte on where that is done before the guest starts. `way` chooses one
    of the two. What the guest printed before it shut down can be read until the domain is destroyed.

    Iterating, also with `async for`, gives what is printed until the domain has shut down. `copy` is called
    with all that is read, as RotatingLog.write. What a guest prints is hostile to a terminal: see
    pyxc.cli.terminal. Threads: one at a time. Open it keeps a destroyed domain from going away.

    >>> with web.console as console:
    ...     console.expect(b"login: ", timeout=60)
    ...     console.write(b"root\\n")
    """

    def __init__(self, domain: Identity, place: Place | None = None, way: Way | None = None) -> None:
        self._domain = domain
        self._place = place
        self._way = way
        self._line: Ring | Terminal | None = None
        self._unread = bytearray()
        self._looked = 0.0
        self.copy: Callable[[bytes], object] | None = None

    @property
    def place(self) -> Place:
        """Where its ring is. GuestUnable for a domain of which that is not known."""
        if self._place is None:
            self._place = self._from_params() if self._domain.info().is_hvm else self._from_store()
        return self._place

    def _from_params(self) -> Place:
        params = HvmParams(self._domain)
        frame = params.read(HvmParam.CONSOLE_PFN)
        if not frame:
            raise self._without()
        return Place(frame, params.read(HvmParam.CONSOLE_EVTCHN))

    def _from_store(self) -> Place:
        frame, port = (self._node(name) for name in ("ring-ref", "port"))
        if not (frame.isdigit() and port.isdigit()) or len(frame) > 16 or len(port) > 8:
            raise self._without()
        return Place(int(frame), int(port))

    def _without(self) -> errors.GuestUnable:
        return errors.GuestUnable(f"domain {self._domain.domid} has no console that is known")

    def _node(self, name: str) -> str:
        value = self._domain.xen.store.read(f"/local/domain/{self._domain.domid}/console/{name}")
        return (value or b"").decode("ascii", "replace")

    def open(self) -> Console:
        """Attach to it now, as before the guest starts, so that nothing is missed.

        OSError EBUSY where another process serves it without a terminal in xenstore.
        """
        self._opened()
        return self

    def _opened(self) -> Ring | Terminal:
        if self._line is None:
            self._line = self._attached()
        return self._line

    def _attached(self) -> Ring | Terminal:
        if self._way != "ring":
            path = self._terminal_path()
            if path:
                return Terminal(path)
        if self._way == "pty":
            raise errors.GuestUnable(f"xenconsoled does not serve domain {self._domain.domid}")
        place = self.place
        if self._way is None and self._served(place.port):
            hint = "another process serves this console; way=\"ring\" takes what it leaves"
            operation = event_channel.STATUS.full_name
            raise errors.from_errno(errno.EBUSY, operation, self._domain.domid, hint=hint)
        return Ring(self._domain, *place)

    def _terminal_path(self) -> str:
        """The terminal of xenconsoled; that of one that has ended may be another program's by now."""
        return self._node("tty") if self._served(self.place.port) else ""

    def _served(self, port: int) -> bool:
        """Whether somebody in dom0 has bound the guest's port."""
        try:
            status = Channels(self._domain).status(port)
        except errors.HypercallError:
            return False
        return status.status is Status.INTERDOMAIN and status.remote_domid == self._domain.xen.own_domid

    def last(self) -> bytes:
        """The last that the guest printed, read by anybody or not: up to 2048 bytes that its ring still has.

        Nothing is attached or changed: it also works on a read-only handle, and beside xenconsoled.
        """
        return last(self._domain, self.place.frame)

    def read(self, timeout: float | None = None) -> bytes:
        """What the guest has printed since, as soon as there is anything.

        b"" when there was nothing for `timeout` seconds (0: look once), and when nothing comes any more since
        the domain has shut down. DecodeError when the ring makes no sense.
        """
        if not self._unread:
            self._fill(timeout)
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def _fill(self, timeout: float | None) -> bool:
        """Read until something has come; False where nothing did, or will any more."""
        line = self._opened()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            ended = self.ended()
            if self._take(line):
                return True
            left = _ALIVE_S if deadline is None else deadline - time.monotonic()
            if ended or left <= 0:
                return False
            descriptor = line.fileno()
            until_readable(descriptor, min(left, _LOOK_S if descriptor is None else _ALIVE_S))

    def _take(self, line: Ring | Terminal) -> bool:
        line.hush()
        data = line.read()
        if data and self.copy is not None:
            self.copy(data)
        self._unread += data
        return bool(data)

    def ended(self) -> bool:
        """Whether the domain has shut down or gone, looked at twice a second: what it printed then is all."""
        if time.monotonic() - self._looked < _ALIVE_S:
            return False
        try:
            info = self._domain.info()
        except (errors.DomainNotFound, errors.DomainGone):
            return True
        if info.shutdown_reason is not None or info.dying:
            return True
        self._looked = time.monotonic()
        return False

    def write(self, data: bytes | str, timeout: float = 10.0) -> None:
        """Type something. GuestSilent when the guest does not take it within `timeout` seconds."""
        left = memoryview(data.encode() if isinstance(data, str) else data)
        deadline = time.monotonic() + timeout
        while left:
            left = left[self.write_some(bytes(left)) :]
            if left and time.monotonic() >= deadline:
                who = f"the guest of domain {self._domain.domid}"
                raise errors.GuestSilent(f"{who} left {len(left)} bytes unread for {timeout:g} s")
            if left:
                time.sleep(_LOOK_S)

    def write_some(self, data: bytes) -> int:
        """Type as much as the guest takes now; returns how many bytes that was."""
        return self._opened().write(data)

    def fileno(self) -> int | None:
        """What to wait on with select and the like before read(0); None: look from time to time."""
        return self._opened().fileno()

    def expect(self, pattern: bytes | str | re.Pattern[bytes], timeout: float = 30.0) -> re.Match[bytes]:
        """Read until a regular expression matches; returns the match. What comes after it stays to be read.

        GuestSilent when it does not come within `timeout` seconds, or the domain ends before; nothing is lost
        then: read() returns it.
        """
        text = pattern.encode() if isinstance(pattern, str) else pattern
        wanted = text if isinstance(text, re.Pattern) else re.compile(text)
        deadline = time.monotonic() + timeout
        while (found := wanted.search(bytes(self._unread))) is None:
            del self._unread[:-_UNREAD_MOST]
            left = deadline - time.monotonic()
            if left < 0 or not self._fill(left):
                raise errors.GuestSilent(self._missed(wanted, timeout))
        del self._unread[: found.end()]
        return found

    def _missed(self, wanted: re.Pattern[bytes], timeout: float) -> str:
        when = "before it ended" if self.ended() else f"within {timeout:g} s"
        shown = bytes(self._unread[-_SHOWN:])
        return f"domain {self._domain.domid} did not print {wanted.pattern!r} {when}; the last was {shown!r}"

    def __iter__(self) -> Iterator[bytes]:
        """What is printed, until the domain has shut down."""
        while data := self.read():
            yield data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The same in asyncio: `async for data in console:`. In one task at a time."""
        while True:
            ended = self.ended()
            data = self.read(timeout=0)
            if data:
                yield data
            elif ended:
                return
            else:
                descriptor = self.fileno()
                await until_readable_async(descriptor, _LOOK_S if descriptor is None else _ALIVE_S)

    def close(self) -> None:
        """Detach from it; what was not read stays with the guest. May be called again."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def __enter__(self) -> Console:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Console of domain {self._domain.domid}, {'open' if self._line else 'not open'}>"
