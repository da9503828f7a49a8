# SPDX-License-Identifier: MIT
"""What domains have of what xenstored limits."""

from __future__ import annotations

import errno
import re
from functools import lru_cache
from typing import NamedTuple

from pyxc.errors import StoreError

_REPLIES_MOST = 2048
_COUNT = re.compile(r"^([a-z-]+) *: +([0-9]{1,10})(?: |$)", re.MULTILINE)


class StoreUsage(NamedTuple):
    """What a domain has of what xenstored limits; None for what this xenstored does not count.

    `outstanding` is the number of requests that are not done, or whose replies it has not taken; the other
    numbers need no words. `memory` is in bytes.

    Example:

    >>> xen.store.usage(1)
    StoreUsage(nodes=6, watches=1, transactions=0, outstanding=None, memory=None)
    """

    nodes: int
    watches: int | None
    transactions: int | None
    outstanding: int | None
    memory: int | None

    @classmethod
    @lru_cache(_REPLIES_MOST)  # most domains use the same from one scrape of metrics to the next
    def parse(cls, text: str) -> StoreUsage:
        """From lines such as "nodes : 21", or "nodes : 21 (max 40)" since Xen 4.18."""
        found = {name: int(count) for name, count in _COUNT.findall(text)}
        if "nodes" not in found:
            raise StoreError(errno.EPROTO, f"the reply counts no nodes: {text[:40]!r}", "control")
        return cls(found["nodes"], *map(found.get, cls._fields[1:]))
