# SPDX-License-Identifier: MIT
"""A tiny view of xenstore, enough to find out what domains are called."""

from __future__ import annotations


class Store:
    """Nodes by path, like those that a toolstack writes. Threads: reading needs no lock."""

    def __init__(self) -> None:
        self._nodes: dict[str, bytes] = {}

    def read(self, path: str) -> bytes | None:
        """The value of a node, b"" for one that only has children, None for none."""
        if path in self._nodes:
            return self._nodes[path]
        return b"" if self.list(path) else None

    def list(self, path: str) -> list[str] | None:
        """The names of a node's children in order, None when there is no such node."""
        prefix = path.rstrip("/") + "/"
        found = {node[len(prefix) :].split("/")[0] for node in self._nodes if node.startswith(prefix)}
        if not found and path not in self._nodes:
            return None
        return sorted(found)

    def introduce(self, domid: int, name: str, uuid: str) -> None:
        """What the toolstack writes for a new domain."""
        home, vm = f"/local/domain/{domid}", f"/vm/{uuid}"
        nodes = {
            home: "",
            f"{home}/name": name,
            f"{home}/domid": str(domid),
            f"{home}/vm": vm,
            f"{vm}/name": name,
            f"{vm}/uuid": uuid,
        }
        self._nodes.update({path: value.encode() for path, value in nodes.items()})

    def forget(self, domid: int) -> None:
        """Remove what there is of a domain."""
        home = f"/local/domain/{domid}"
        vm = self._nodes.get(f"{home}/vm", b"").decode() or home
        self._nodes = {
            path: value
            for path, value in self._nodes.items()
            if not any(path == gone or path.startswith(gone + "/") for gone in (home, vm))
        }
