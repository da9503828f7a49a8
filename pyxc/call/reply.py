# SPDX-License-Identifier: MIT
"""What a call returns, and what a trace gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from pyxc import answers
from pyxc.abi.layout import Layout
from pyxc.abi.operation import Operation
from pyxc.call.records import R, Reader

Trace = Callable[[Operation, Mapping[str, Any], int, Mapping[str, Any], float], None]
"""Called for every call: operation, input fields, result, output fields, seconds."""


class Reply(NamedTuple):
    """The hypercall's result, the returned structure as bytes, and the contents of buffers by name."""

    result: int
    answer: bytes
    layout: Layout
    buffers: Mapping[str, bytes]

    def field(self, name: str) -> Any:
        position = self.layout.index[name]
        value = self.layout.codec.unpack(self.answer)[position]
        array = self.layout.arrays.get(position)
        return value if array is None else array.unpack(value)

    def buffer(self, name: str) -> bytes:
        """The contents of a buffer; for an empty buffer Xen got the null handle."""
        return self.buffers.get(name, b"")

    def reported(self, name: str, most: int, least: int = 0) -> int:
        """A field with a reported number or size. DecodeError if it is out of range."""
        return answers.number(name, self.field(name), most, least)

    def __getitem__(self, name: Any) -> Any:
        """A field by its name; with a number or a slice an item of the tuple."""
        return self.field(name) if isinstance(name, str) else tuple.__getitem__(self, name)

    def fields(self) -> dict[str, Any]:
        """All fields by name."""
        return self.layout.unpack(self.answer)

    def __repr__(self) -> str:
        fields = self.fields().items()
        shown = "".join(f", {name}={value!r}" for name, value in fields if value not in (b"", 0))
        return f"<Reply {self.layout.name}: result={self.result}{shown}>"

    def record(self, reader: Reader[R]) -> R:
        """The structure after the envelope as a record."""
        return reader.one(self.answer, self.layout.body)


as_reply: Callable[[tuple[int, bytes, Layout, Mapping[str, bytes]]], Reply] = partial(tuple.__new__, Reply)
"""Reply() of a tuple, in half the time."""
