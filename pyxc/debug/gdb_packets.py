# SPDX-License-Identifier: MIT
"""The packets of GDB's remote protocol (GDB manual, appendix E): no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from pyxc import errors

MOST = 1 << 14
"""Bytes of a packet's content, either way; reported to GDB."""
INTERRUPT = b"\x03"
ACK, NACK = b"+", b"-"
_ESCAPE = 0x7D
_SPECIAL = b"#$}*"


def packet(content: bytes) -> bytes:
    """A packet to send, with its checksum."""
    return b"$%s#%02x" % (content, sum(content) & 0xFF)


def escaped(data: bytes) -> bytes:
    """Binary data for a packet."""
    return b"".join(bytes((_ESCAPE, byte ^ 0x20)) if byte in _SPECIAL else bytes((byte,)) for byte in data)


def unescaped(data: bytes) -> bytes:
    """The binary data of a packet."""
    found, escape = bytearray(), False
    for byte in data:
        if byte == _ESCAPE and not escape:
            escape = True
        else:
            found.append(byte ^ 0x20 if escape else byte)
            escape = False
    return bytes(found)


class Packets:
    """What a debugger sent: the contents of its packets, INTERRUPT for Ctrl-C, NACK for a damaged packet.

    DecodeError for a packet that is too long.
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The complete packets so far."""
        self._data += data
        while (found := self._next()) is not None:
            yield found

    def _next(self) -> bytes | None:
        while self._data and self._data[0] not in b"$\x03":
            del self._data[0]  # acknowledgements
        if not self._data:
            return None
        if self._data[0] == INTERRUPT[0]:
            del self._data[0]
            return INTERRUPT
        stop = self._data.find(b"#")
        if stop < 0 or len(self._data) < stop + 3:
            if len(self._data) > MOST + 4:
                raise errors.DecodeError(f"the debugger sent a packet of more than {MOST} bytes")
            return None
        content, check = bytes(self._data[1:stop]), bytes(self._data[stop + 1 : stop + 3])
        del self._data[: stop + 3]
        return content if check.lower() == b"%02x" % (sum(content) & 0xFF) else NACK
