# SPDX-License-Identifier: MIT
"""Requests about nodes: read, list, write, make, remove, permissions."""

from __future__ import annotations

import errno
import re

from pyxc.sim.xenstored.request import OK, Refused, Request, answers
from pyxc.sim.xenstored.tree import Node, Permissions, child_of, parent_of
from pyxc.store.permission import Access, Permission
from pyxc.store.wire import PAYLOAD_MOST, Kind, join

_PERMISSION = re.compile(r"([nrwb])\s*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))")
_U32 = 2**32 - 1
_OWN = Access.READ | Access.WRITE


@answers(Kind.READ)
def read(request: Request) -> bytes:
    return request.find(request.path(request.only()), Access.READ).value


@answers(Kind.DIRECTORY)
def directory(request: Request) -> bytes:
    return _children(request, request.only())


@answers(Kind.DIRECTORY_PART)
def directory_part(request: Request) -> bytes:
    """Whole names from an offset on, as many as fit; one more NUL after the last of all."""
    if request.payload.count(b"\0") != 2:
        raise Refused(errno.EINVAL)
    text, offset = request.strings(2)
    names = _children(request, text)[max(0, request.number(offset)) :]
    generation = str(request.find(request.path(text), Access.READ).generation).encode() + b"\0"
    room = PAYLOAD_MOST - len(generation) - 1
    if len(names) <= room:
        return generation + names + b"\0"
    return generation + names[: names.rfind(b"\0", 0, room) + 1]


def _children(request: Request, text: str) -> bytes:
    node = request.find(request.path(text), Access.READ)
    return join(name.encode("latin-1") for name in node.children)


@answers(Kind.WRITE)
def write(request: Request) -> bytes:
    text = request.strings(1)[0]
    path, value = request.path(text), request.payload[len(text) + 1 :]
    node = request.find_or_none(path, Access.WRITE)
    if node is None:
        _create(request, path, value)
    else:
        _put(request, path, node._replace(value=value))
    request.fire(path)
    return OK


@answers(Kind.MKDIR)
def mkdir(request: Request) -> bytes:
    path = request.path(request.only())
    if request.find_or_none(path, Access.WRITE) is None:
        _create(request, path, b"")
        request.fire(path)
    return OK


def _create(request: Request, path: str, value: bytes) -> None:
    """A node and its missing parents, with the permissions of what is above; a guest owns its own."""
    missing = [path]
    while (top := request.view.get(parent_of(missing[-1]))) is None:
        missing.append(parent_of(missing[-1]))
    session = request.session
    if request.exceeds("nodes", request.server.tree.owned_by(session.domid) + len(missing)):
        raise Refused(errno.ENOSPC)
    permissions = top.permissions
    if session.guest:
        permissions = (permissions[0]._replace(domid=session.domid), *permissions[1:])
    for new in reversed(missing):
        above = parent_of(new)
        parent = request.view.get(above)
        assert parent is not None
        _put(request, above, parent._replace(children=(*parent.children, new.rpartition("/")[2])))
        _put(request, new, Node(value if new == path else b"", (), permissions))


def _put(request: Request, path: str, node: Node) -> None:
    size = len(node.value) + sum(len(name) + 1 for name in node.children)
    if request.exceeds("node-size", size):
        raise Refused(errno.ENOSPC)
    request.view.put(path, node)


@answers(Kind.RM)
def remove(request: Request) -> bytes:
    path = request.path(request.only())
    node = request.find_or_none(path, Access.WRITE)
    parent = request.view.get(parent_of(path))
    if node is None:
        if parent is None:
            raise Refused(errno.ENOENT)
        return OK
    if path == "/":
        raise Refused(errno.EINVAL)
    _remove(request, path, node, exact=False)
    assert parent is not None
    name = path.rpartition("/")[2]
    request.view.put(
        parent_of(path), parent._replace(children=tuple(kept for kept in parent.children if kept != name))
    )
    return OK


def _remove(request: Request, path: str, node: Node, exact: bool) -> None:
    """What is below goes first; it is news only to those who watch just that."""
    doomed = [(path, node, iter(node.children))]  # a guest can nest nodes deeper than Python calls functions
    while doomed:
        above, removed, children = doomed[-1]
        name = next(children, None)
        if name is None:
            request.fire(above, exact or len(doomed) > 1, removed)
            request.view.delete(above)
            doomed.pop()
            continue
        below = child_of(above, name)
        child = request.view.get(below)
        assert child is not None
        doomed.append((below, child, iter(child.children)))


@answers(Kind.GET_PERMS)
def get_permissions(request: Request) -> bytes:
    node = request.find(request.path(request.only()), Access.READ)
    return join(str(one).encode() for one in node.permissions)


@answers(Kind.SET_PERMS)
def set_permissions(request: Request) -> bytes:
    """Only the owner may, and not give the node away; dom0 may do both. No permission for a missing owner."""
    if request.payload.count(b"\0") < 2:
        raise Refused(errno.EINVAL)
    text, *texts = request.strings(2)
    if request.exceeds("node-permissions", len(texts)):
        raise Refused(errno.ENOSPC)
    permissions = _parse(texts)
    if not request.server.host.exists(permissions[0].domid):
        raise Refused(errno.ENOENT)
    if text.startswith("@"):
        request.server.set_special(request.session, text, permissions)
        return OK
    path = request.path(text)
    node = request.find(path, _OWN)
    if not request.session.owns(node.permissions):
        raise Refused(errno.EACCES)
    if request.session.guest and permissions[0].domid != node.permissions[0].domid:
        raise Refused(errno.EPERM)
    request.view.put(path, node._replace(permissions=permissions))
    request.fire(path, False, node)
    return OK


def _parse(texts: list[str]) -> Permissions:
    """Numbers of any base and sign, as C takes them. Refused (EINVAL)."""
    found = []
    for text in texts:
        match = _PERMISSION.fullmatch(text)
        if match is None:
            raise Refused(errno.EINVAL)
        letter, sign, hexadecimal, octal, decimal = match.groups()
        number = int(hexadecimal or octal or decimal, 16 if hexadecimal else 8 if octal else 10)
        access = Permission.parse(f"{letter}0").access
        found.append(Permission((-number if sign == "-" else number) & _U32, access))
    return tuple(found)
