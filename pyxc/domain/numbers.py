# SPDX-License-Identifier: MIT
"""Sequences of frame numbers with further attributes."""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from typing import overload


class Numbers(Sequence[int]):
    """An immutable sequence of frame numbers; attributes have further facts, such as their source."""

    __slots__: tuple[str, ...] = ()

    @abstractmethod
    def _listed(self) -> array[int]:
        """The numbers."""

    def __len__(self) -> int:
        return len(self._listed())

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> array[int]: ...
    def __getitem__(self, index: int | slice) -> int | array[int]:
        return self._listed()[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._listed())

    def _repr_html_(self) -> str:
        from pyxc.call import notebook

        facts = {name: getattr(self, name) for name in self._compared()}
        plain = [(name, value) for name, value in facts.items() if isinstance(value, int | str)]
        return notebook.table((type(self).__name__, f"{len(self)} frames"), plain)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._compared())

    def _compared(self) -> Iterator[str]:
        return (name for name in self.__slots__ if not name.startswith("_"))
