# SPDX-License-Identifier: MIT
"""Names for addresses, from a kernel's System.map or what `nm` prints."""

from __future__ import annotations

import bisect
import re

from pyxc.cli.status import Failed

_LINE = re.compile(r"([0-9a-fA-F]{8,16}) (\S) (\S+)")
_CODE = "tTwW"
_BYTES_MOST = 1 << 28
_FAR = 1 << 24
"""Behind the last symbol of a kernel its modules begin."""


class Symbols:
    """Symbols by address; only those of code have a name here."""

    def __init__(self, path: str) -> None:
        found: dict[int, str | None] = {}
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            for line in file.read(_BYTES_MOST).splitlines():
                match = _LINE.match(line)
                if match:
                    name = match[3] if match[2] in _CODE else None
                    found[int(match[1], 16)] = found.get(int(match[1], 16)) or name
        if not any(found.values()):
            raise Failed(f"{path} has no symbols: expected a System.map, or the output of nm")
        self._addresses = sorted(found)
        self._names = [found[address] for address in self._addresses]

    def name(self, address: int) -> str | None:
        """As "schedule+0x1a"; None outside the code of the kernel."""
        index = bisect.bisect_right(self._addresses, address) - 1
        if index < 0 or address - self._addresses[index] >= _FAR:
            return None
        name = self._names[index]
        return name and f"{name}+{address - self._addresses[index]:#x}"
