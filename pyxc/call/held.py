# SPDX-License-Identifier: MIT
"""One operation, issued repeatedly with the same memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pyxc import answers
from pyxc.call.plan import Address, Plan
from pyxc.call.reply import Reply, Trace
from pyxc.link import Link


class HeldCall:
    """An operation with memory that outlives each call, to be used in a `with`; see Caller.held().

    `refuse` creates the exception for an errno. `view` is the buffer. Threads: one at a time.
    """

    view: memoryview

    def __init__(
        self,
        link: Link,
        plan: Plan,
        domid: int | None,
        buffer: str,
        size: int,
        refuse: Callable[[int], Exception],
        trace: Trace | None,
    ) -> None:
        self._link = link
        self._plan = plan
        self._domid = domid
        self._buffer = buffer
        self._refuse = refuse
        self._trace = trace
        self._start = (plan.size + 63) & ~63
        self._arena = link.pool.take(self._start + size)

    def __enter__(self) -> HeldCall:
        self.view = self._arena.view[self._start :]
        self._given = {self._buffer: Address(self._arena.address + self._start)}
        words = (self._plan.before, self._arena.address, self._plan.after)
        self._words = [word for word in words if word >= 0]
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(BufferError):  # only memory that no view reaches can be used again
            self.view.release()
        self._arena.release()

    def items(self, filled: str, size: int, most: int, fields: Mapping[str, Any]) -> memoryview:
        """Issue it; the items of a list of at most `most`, where they were written."""
        found = answers.number(filled, self(**fields).field(filled), most)
        return self.view[: found * size]

    def __call__(self, **fields: Any) -> Reply:
        """Issue it. HypercallError if the hypervisor refuses."""
        plan = self._plan
        values = plan.begin(self._domid, fields)
        plan.fill(values, {**fields, **self._given})
        request, tries = plan.request(values), 0
        while True:
            self._arena.view[: plan.size] = request
            started = time.perf_counter()
            result = self._link.hypercall(plan.number, *self._words)
            answer = bytes(self._arena.view[: plan.size])
            if self._trace:
                elapsed = time.perf_counter() - started
                self._trace(plan.operation, fields, result, plan.body(answer), elapsed)
            tries += 1
            if result >= 0:
                return Reply(result, answer, plan.layout, {})
            if not plan.again(-result, tries):
                raise self._refuse(-result)
