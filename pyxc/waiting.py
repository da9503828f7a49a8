# SPDX-License-Identifier: MIT
"""Waiting until a descriptor can be read, in a thread and in an event loop."""

from __future__ import annotations

import math
import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def until_readable(descriptor: int | None, seconds: float | None) -> None:
    """Return when it is readable or after `seconds` (None: no limit); without a descriptor just sleep."""
    if descriptor is None:
        time.sleep(seconds or 0)
        return
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll(None if seconds is None else math.ceil(max(0, seconds) * 1000))


async def until_readable_async(descriptor: int | None, seconds: float | None) -> None:
    """The same, while the event loop does other things. One coroutine may wait on a descriptor at a time."""
    import asyncio  # a large module, which programs without an event loop do not need

    if descriptor is None:
        await asyncio.sleep(seconds or 0)
        return
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(descriptor, _settle, readable)
    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(readable, seconds)
    finally:
        loop.remove_reader(descriptor)


def _settle(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
