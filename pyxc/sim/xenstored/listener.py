# SPDX-License-Identifier: MIT
"""A simulated xenstored for other processes: on a socket, as the real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from types import TracebackType

from pyxc.sim.xenstored.server import Xenstored

_MOST = 65_536


class Listener:
    """Serves clients in dom0 on a path, from a thread of its own, until it is closed.

    Where the environment's XENSTORED_PATH is that path pyxc comes here, and so does libxenstore with all
    programs that use it.
    """

    def __init__(self, xenstored: Xenstored, path: str | os.PathLike[str]) -> None:
        self._xenstored = xenstored
        self._path = os.fspath(path)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pyxc-xenstored", daemon=True)
        self._thread.start()
        start = asyncio.start_unix_server(self._serve, self._path)
        try:
            self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        except BaseException:
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
        """End it and the sessions that came this way; the path is removed. May be called again."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result()
        self._end_thread()
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
