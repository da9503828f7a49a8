# SPDX-License-Identifier: MIT
"""An operation prepared for one interface: its structure, constant fields, and positions of arguments."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Mapping
from typing import Any

from pyxc import arguments
from pyxc.abi.layout import Interface
from pyxc.abi.operation import DM_OP, SYSCTL, Operation
from pyxc.link.exchange import Placement

_BUFFER_MOST = min(1 << 40, sys.maxsize)
_DOMAIN_FIELDS = frozenset(("domid", "domain", "dom", "domain_id"))


_ERESTART = 85
"""Xen's own, which should never reach a caller."""


class Address(int):
    """A value for a guest handle that is passed on unchanged: for raw calls, and for tests of refusals."""


class Plan:
    """An immutable, prepared operation. Threads: safe to share."""

    def __init__(self, asked: Operation, interface: Interface, refused: bool) -> None:
        operation = asked.spoken(interface)
        family = operation.family
        self.asked = asked
        self.interface = interface
        self.operation = operation
        self.refused = refused
        self.wide = operation.wide
        self.by_value = family.by_value
        self.in_buffers = family is DM_OP
        self.layout = operation.at(interface)
        self.number = family.hypercall
        self.before = operation.command if family.command_argument else -1
        self.after = family.extra[0] if family.extra else -1
        self.body_at = len([row for row in family.envelope if row.name])
        self.interface_version = interface.number(family.name)
        numbered = bool(family.envelope) and not family.command_argument
        envelope = {str(family.envelope[0].name): operation.command} if numbered else {}
        number = family.interface if self.interface_version is None else self.interface_version
        if operation.stable:
            number = 0
        if number is not None:
            envelope["interface_version"] = number
        self.zero = self.layout.values({**envelope, **operation.fixed})
        self.domain = next((i for i, name in enumerate(self.layout.names) if name in _DOMAIN_FIELDS), None)
        self.size = self.layout.size
        self.bare = not (self.size or self.wide or self.by_value or self.in_buffers)
        """Whether it is nothing but a number."""
        self.pack = self.layout.codec.pack
        arrays = {*self.layout.arrays, *self.layout.bytewise}
        self._single = frozenset(range(len(self.layout.names))) - arrays

    def begin(self, domid: int | None, fields: Mapping[str, Any]) -> list[Any]:
        """The initial values, with the domain filled in. TypeError for a call without its domain."""
        values = self.zero.copy()
        if self.domain is None:
            return values
        if domid is not None:
            values[self.domain] = domid
        elif self.operation.family is not SYSCTL and self.layout.names[self.domain] not in fields:
            # Zero is dom0. A sysctl has a domid only if it is about a domain.
            raise TypeError(f"{self.operation.full_name} needs the domid of a domain")
        return values

    def fill(self, values: list[Any], fields: Mapping[str, Any]) -> tuple[Placement, ...]:
        """Fill in fields; returns those that are buffers, in the given order."""
        placements = []
        for name, value in fields.items():
            position = self.layout.index.get(name)
            if position is None:
                raise TypeError(f"{self.layout.name} has no field {name!r} in this interface version")
            if name in self.operation.fixed:
                raise TypeError(f"{name} selects {self.layout.name}: it cannot be given")
            if name not in self.layout.handles or isinstance(value, Address):
                values[position] = value if position in self._single else self._array(name, position, value)
            elif value != 0:
                content = value if isinstance(value, bytes) else self.buffer_size(name, value)
                placements.append((self.layout.offsets[name], content))
        return tuple(placements)

    def _array(self, name: str, position: int, value: Any) -> Any:
        """The value for an array field. ValueError for a wrong number of items, or no sequence."""
        try:
            return self.layout.item(position, value)
        except (struct.error, TypeError) as error:
            raise ValueError(f"{self.operation.full_name}: {name} is an array ({error})") from error

    def buffer_size(self, name: str, value: Any) -> int:
        """The number of zero bytes in a handle's buffer. ValueError for a size out of range."""
        return arguments.natural(f"{self.operation.full_name}: the size of {name}", value, _BUFFER_MOST)

    def request(self, values: list[Any]) -> bytes:
        """The structure as bytes; ValueError for a value that does not fit its field."""
        try:
            return self.pack(*values)
        except struct.error as error:
            raise ValueError(
                f"{self.operation.full_name}: a value does not fit its field ({error})"
            ) from error

    def buffer_names(self, fields: Mapping[str, Any]) -> list[str]:
        """Names of the fields that fill() treats as buffers."""
        return [
            name
            for name, value in fields.items()
            if name in self.layout.handles and value != 0 and not isinstance(value, Address)
        ]

    def body(self, answer: bytes) -> dict[str, Any]:
        """The fields after the envelope, by name."""
        fields = self.layout.unpack(answer)
        return {name: fields[name] for name in self.layout.names[self.body_at :]}

    def again(self, number: int, tries: int) -> bool:
        """Whether to repeat the call after an errno, according to the row of the operation."""
        if number != _ERESTART and number not in self.asked.retry_on:
            return False
        limit = self.asked.retry_on.get(number)
        time.sleep(0)
        return limit is None or tries <= limit
