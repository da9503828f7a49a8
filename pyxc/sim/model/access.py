# SPDX-License-Identifier: MIT
"""What the hypervisor can reach of a client's memory, and how it says no."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from pyxc.abi.errno import XenErrno


class Refusal(Exception):
    """The hypervisor refuses a call; `errno` is its reason, in Xen's numbering."""

    def __init__(self, errno: XenErrno) -> None:
        super().__init__(errno.name)
        self.errno = errno


class ClientMemory:
    """The hypercall-safe memory of one client while one hypercall lasts.

    Everything outside the given (address, size) regions is out of reach: a guest handle that points elsewhere
    or beyond the end of its region is an EFAULT, as it is on hardware.
    """

    def __init__(self, regions: Iterable[tuple[int, int]]) -> None:
        self._regions = list(regions)

    def view(self, address: int, size: int) -> memoryview:
        """Writable bytes at an address. Refusal (EFAULT) unless one region holds them all."""
        if size == 0:
            return memoryview(bytearray())
        for start, length in self._regions:
            if start <= address and address + size <= start + length:
                return memoryview((ctypes.c_char * size).from_address(address)).cast("B")
        raise Refusal(XenErrno.EFAULT)

    def room(self, address: int) -> int:
        """How many bytes can be reached from an address on."""
        return sum(
            start + length - address for start, length in self._regions if 0 <= address - start < length
        )

    def fill(self, address: int, size: int, data: bytes | bytearray) -> None:
        """Write `size` bytes: data, and zeros behind it. Refusal (EFAULT) after as many as can be reached."""
        reached = min(size, self.room(address))
        if reached:
            view = self.view(address, reached)
            head = data[:reached]
            view[: len(head)] = head
            view[len(head) :] = bytes(reached - len(head))
        if reached < size:
            raise Refusal(XenErrno.EFAULT)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.view(address, size))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        if data:
            self.view(address, len(data))[:] = data


class CopiedMemory(ClientMemory):
    """The same for a client that sent a copy of one region, and gets it back changed."""

    def __init__(self, start: int, content: bytes) -> None:
        self.content = bytearray(content)
        self._start = start
        super().__init__([(start, len(content))] if content else [])

    def view(self, address: int, size: int) -> memoryview:
        if self.room(address) < size:
            raise Refusal(XenErrno.EFAULT)
        offset = address - self._start
        return memoryview(self.content)[offset : offset + size] if size else memoryview(bytearray())
