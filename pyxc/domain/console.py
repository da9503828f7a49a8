# SPDX-License-Identifier: MIT
"""A guest's console: reading its output and typing its input."""

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
"""How often to check a ring without an event channel."""
_ALIVE_S = 0.5
"""How often to check whether the domain still runs."""
_NAMED_S = 5.0
"""How long xenconsoled may take from serving a new guest to naming its terminal in xenstore."""
_UNREAD_MOST = 1 << 16
_SHOWN = 200


class Place(NamedTuple):
    """Where the ring of a console is: a frame (mfn of a PV domain, else gfn), and the guest's port."""

    frame: int
    port: int


class Console:
    """The console of a PV or PVH guest, or of an HVM guest with Xen drivers: `domain.console`.

    It is opened on first use, and closed by close() or at the end of a `with` statement. If xenconsoled
    serves the guest, it uses xenconsoled's terminal, which xenstore names; otherwise this process maps the
    ring of the guest and serves it itself, without missing output if it is opened before the guest starts.
    `way` chooses one of the two. The output of a guest that has shut down can be read until the domain is
    destroyed.

    Iteration, also with `async for`, yields output until the domain has shut down. `copy` is a function that
    is called with all output, such as RotatingLog.write. Output may contain control characters for the
    terminal: see pyxc.cli.terminal. An open console keeps a destroyed domain from disappearing. Threads: one
    at a time.

    Example:

    >>> with web.console as console:
    ...     console.expect(b"login: ", timeout=60)[0]
    ...     console.write(b"root\\n")
    b'login: '
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
        """Where its ring is. GuestUnable if that is unknown."""
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
        return errors.GuestUnable(f"domain {self._domain.domid} has no known console")

    def _node(self, name: str) -> str:
        value = self._domain.xen.store.read(f"/local/domain/{self._domain.domid}/console/{name}")
        return (value or b"").decode("ascii", "replace")

    def open(self) -> Console:
        """Open it now, for example before the guest starts, so that no output is missed.

        OSError EBUSY if another process serves it, and names no terminal in xenstore within 5 seconds.
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
        if self._way is None and self._served(self.place.port):
            hint = (
                "another process serves this console; pyxc console --last (way='ring') reads what it leaves"
            )
            operation = event_channel.STATUS.full_name
            raise errors.from_errno(errno.EBUSY, operation, self._domain.domid, hint=hint)
        return Ring(self._domain, *self.place)

    def _terminal_path(self) -> str:
        """xenconsoled's terminal; if xenconsoled has ended, that may now belong to another program."""
        deadline = time.monotonic() + _NAMED_S
        while self._served(self.place.port):
            path = self._node("tty")
            if path or time.monotonic() > deadline:
                return path
            time.sleep(_LOOK_S)
        return ""

    def _served(self, port: int) -> bool:
        """Whether a program in dom0 has bound the guest's port."""
        try:
            status = Channels(self._domain).status(port)
        except errors.HypercallError:
            return False
        return status.status is Status.INTERDOMAIN and status.remote_domid == self._domain.xen.own_domid

    def last(self) -> bytes:
        """The last output of the guest, already read or not: up to 2048 bytes that its ring still has.

        Nothing is opened or changed: this also works on a read-only handle, and while xenconsoled runs.
        """
        return last(self._domain, self.place.frame)

    def read(self, timeout: float | None = None) -> bytes:
        """The new output of the guest, as soon as there is any.

        b"" if there is none within `timeout` seconds (0: check once), or if the domain has shut down and
        there is no more. DecodeError if the ring is malformed.
        """
        if not self._unread:
            self._fill(timeout)
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def _fill(self, timeout: float | None) -> bool:
        """Read until there is new output; False if there is none in time, or can be no more."""
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
        """Whether the domain has shut down or gone, checked twice a second: then there is no more output."""
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
        """Type something. GuestSilent if the guest does not read it within `timeout` seconds."""
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
        """Type as much as there is space for; returns the number of bytes."""
        return self._opened().write(data)

    def fileno(self) -> int | None:
        """A descriptor to wait on with select() before read(0); None: poll read(0)."""
        return self._opened().fileno()

    def expect(self, pattern: bytes | str | re.Pattern[bytes], timeout: float = 30.0) -> re.Match[bytes]:
        """Read until a regular expression matches; returns the match. Output after it can still be read.

        GuestSilent if it does not match within `timeout` seconds, or before the domain ends; then no output
        is lost: read() returns it.
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
        who = f"domain {self._domain.domid}"
        return f"{who} did not print {wanted.pattern!r} {when}; its last output was {shown!r}"

    def __iter__(self) -> Iterator[bytes]:
        """The output, until the domain has shut down."""
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
        """Close it; unread output remains in the ring. May be called again."""
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
