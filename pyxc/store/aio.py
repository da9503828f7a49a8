# SPDX-License-Identifier: MIT
"""Events of xenstore in asyncio; loaded only where `async for` asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pyxc.store.watch import Event, Watch


async def events(watch: Watch) -> AsyncIterator[Event]:
    """Events until the watch or its client is closed. StoreError when the connection ends."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            event = watch.get(timeout=0)
            descriptor = watch.fileno()
        except ValueError:
            return
        if event is not None:
            yield event
        else:
            await _readable(loop, descriptor)


async def _readable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
