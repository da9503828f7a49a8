# SPDX-License-Identifier: MIT
"""The nodes of a simulated xenstore, outside and inside a transaction."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.store.permission import Access, Permission

Permissions = tuple[Permission, ...]


class Node(NamedTuple):
    """One node; `generation` is a number that it gets at each change and no other node ever has."""

    value: bytes
    children: tuple[str, ...]
    permissions: Permissions
    generation: int = 0


class Tree:
    """The committed nodes."""

    def __init__(self) -> None:
        self.generation = 0
        self._nodes = {"/": Node(b"", (), (Permission(0, Access.NONE),))}

    def get(self, path: str) -> Node | None:
        return self._nodes.get(path)

    def put(self, path: str, node: Node) -> None:
        self.generation += 1
        self._nodes[path] = node._replace(generation=self.generation)

    def delete(self, path: str) -> None:
        self.generation += 1
        self._nodes.pop(path, None)

    def owned_by(self, domid: int) -> int:
        """How many nodes a domain owns."""
        return sum(node.permissions[0].domid == domid for node in self._nodes.values())


class Change(NamedTuple):
    """An event to be fired: `exact` for those who watch this very path only."""

    path: str
    exact: bool
    before: Permissions | None


class Transaction:
    """Nodes as of their first use, and changes that are not committed yet."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._seen: dict[str, Node | None] = {}
        self._changed: dict[str, Node | None] = {}
        self._events: dict[str, bool] = {}

    def get(self, path: str) -> Node | None:
        if path in self._changed:
            return self._changed[path]
        if path not in self._seen:
            self._seen[path] = self._tree.get(path)
        return self._seen[path]

    def put(self, path: str, node: Node) -> None:
        self._changed[path] = node

    def delete(self, path: str) -> None:
        self._changed[path] = None

    def will_fire(self, path: str, exact: bool) -> None:
        """An event for when it is committed; one that is for more watches replaces one for fewer."""
        self._events[path] = exact and self._events.get(path, True)

    def conflicts(self) -> bool:
        """Whether anything that it has read has changed since."""
        return any(self._tree.get(path) != node for path, node in self._seen.items())

    def commit(self) -> list[Change]:
        """Commit the changes; returns their events, in the order of first use."""
        for path, node in self._changed.items():
            if node is None:
                self._tree.delete(path)
            else:
                self._tree.put(path, node)
        return [
            Change(path, self._events[path], None if node is None else node.permissions)
            for path, node in self._seen.items()
            if path in self._events
        ]


View = Tree | Transaction


def parent_of(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def child_of(path: str, name: str) -> str:
    return f"{'' if path == '/' else path}/{name}"


def is_below(path: str, top: str) -> bool:
    """Whether a path is another one or below it."""
    return top in ("/", path) or path.startswith(f"{top}/")
