# SPDX-License-Identifier: MIT
"""A simulated xenstored for other processes: on a socket, as the real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable
from types import TracebackType

from pyxc.sim.xenstored.server import Xenstored

_MOST = 65_536


class Listener:
    """Serves clients in dom0 on a path, in its own thread, until it is closed.

    Where the environment's XENSTORED_PATH is that path pyxc comes here, and so does libxenstore with all
    programs that use it. Only the user that made it may connect. OSError EADDRINUSE where anything is at the
    path but a socket without a listener.
    """

    def __init__(self, xenstored: Xenstored, path: str | os.PathLike[str]) -> None:
        self._xenstored = xenstored
        self._path = os.fspath(path)
        listening = _bound(self._path)
        self._inode = os.stat(self._path).st_ino
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pyxc-xenstored", daemon=True)
        self._thread.start()
        start = asyncio.start_unix_server(self._serve, sock=listening)
        try:
            self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        except BaseException:
            listening.close()
            self._end_thread()
            raise

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = self._xenstored.attach(
            0,
            lambda data: self._call(writer.write, data),
            lambda: self._call(writer.close),
        )
        try:
            while data := await reader.read(_MOST):
                with self._xenstored.lock:
                    self._xenstored.feed(session, data)
        except ConnectionError:
            pass
        finally:
            self._xenstored.disconnect(session)
            self._tasks.discard(task)
            writer.close()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """In the listener's thread, from any; not once that has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """End it and the sessions that came this way; the path is removed if it is still its own.

        May be called again.
        """
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result()
        self._end_thread()
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)

    async def _end_all(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _bound(path: str) -> socket.socket:
    """A socket at a path, only for this user, whatever the umask."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listening.fileno(), 0o600)
        if _is_left_over(path):
            os.unlink(path)
        listening.bind(path)
    except BaseException:
        listening.close()
        raise
    return listening


def _is_left_over(path: str) -> bool:
    """Whether there is a socket without a listener."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.setblocking(False)
            trial.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
