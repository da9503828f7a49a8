# SPDX-License-Identifier: MIT
"""`store`: xenstore's nodes, in the manner of the xenstore-* programs."""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import number
from pyxc.cli.parser import Parser, Program
from pyxc.cli.session import Attempt, name_of, opened, shown
from pyxc.cli.status import Failed, Status, UsageError
from pyxc.opening import chosen

_FRAME = len(' = "..."')
_FILE_WIDTH, _PERMISSIONS_COLUMN = 80, 60
_NAMED = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r", 0x5C: "\\\\"}
_ESCAPES = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)


def add(program: Program) -> None:
    program.add_group("store", "show, change and watch the nodes of xenstore")
    tree = program.add("store ls", show_tree, "show trees of nodes, as xenstore-ls does")
    tree.add_argument("paths", metavar="PATH", nargs="*", help="/ without")
    tree.add_argument("-f", "--flat", action="store_true", help="show whole paths and whole values")
    tree.add_argument("-p", "--permissions", action="store_true", help="also show permissions")
    names = program.add("store list", list_names, "list the names below nodes")
    _add_prefix(names)
    _add_paths(names)
    values = program.add("store read", read_values, "show the values of nodes")
    _add_prefix(values)
    _add_paths(values)
    change = program.add("store write", write_values, "set the values of nodes, all or none")
    change.add_argument("pairs", metavar="PATH VALUE", nargs="+", help="\\n, \\t, \\xHH and \\OOO are bytes")
    remove = program.add("store rm", remove_nodes, "remove nodes with everything below them")
    remove.add_argument("-t", "--tidy", action="store_true", help="also remove empty nodes above them")
    _add_paths(remove)
    exists = program.add("store exists", test_nodes, "report by the exit status whether nodes exist")
    _add_paths(exists)
    modes = program.add("store chmod", change_permissions, "set the permissions of a node")
    modes.add_argument("-r", "--recurse", action="store_true", help="also of all nodes below it")
    modes.add_argument("-u", "--upto", action="store_true", help="also of all nodes above it")
    modes.add_argument("path", metavar="PATH", help="as /local/domain/0/name")
    modes.add_argument("permissions", metavar="PERMISSION", nargs="+", help="n, r, w or b and a domid, as r1")
    watch = program.add("store watch", watch_nodes, "print the paths of changes until interrupted")
    watch.add_argument("-n", "--number", type=number, metavar="N", help="end after N events")
    watch.add_argument("-d", "--depth", type=number, metavar="N", help="count so many levels below PATH only")
    _add_paths(watch)
    _add_limits(program)


def _add_limits(program: Program) -> None:
    features = program.add("store features", show_features, "show what xenstored can do, or lets a domain do")
    features.add_argument("domid", metavar="DOMID", nargs="?", type=number, help="a domain; this one without")
    control = program.add("store control", send_command, "send a command to xenstored")
    control.add_argument("words", metavar="COMMAND", nargs="+", help="such as help, which lists them")
    quota = program.add("store quota", quotas, "show or set the quotas of a domain, or of new domains")
    quota.add_argument("-d", "--domid", metavar="DOMID", type=number, help="a domain (default: new domains)")
    quota.add_argument("name", metavar="NAME", nargs="?", help="one thing, as nodes or watches; all without")
    quota.add_argument("value", metavar="VALUE", nargs="?", type=number, help="the new value; 0: no limit")
    top = program.add("store top", show_usage, "show which domains use most of xenstore")
    top.add_argument("-n", "--number", type=number, metavar="N", help="the first N domains only")


def _add_prefix(parser: Parser) -> None:
    parser.add_argument("-p", "--prefix", action="store_true", help="print the path before each result")


def _add_paths(parser: Parser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="as /local/domain/0/name")


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator[pyxc.StoreClient]:
    """The real xenstore needs no hypervisor, unless it is recorded; any other belongs to one."""
    if chosen(args.target) is None and args.record is None:
        with pyxc.open_store(readonly=args.read_only) as store:
            yield store
    else:
        with opened(args) as xen:
            yield xen.store


def show_tree(args: argparse.Namespace) -> int:
    paths = args.paths or ["/"]
    with _opened(args) as store:
        if args.json:
            found = [node for path in paths for node in _nodes_json(store, path, args.permissions)]
            output.report(args.json, nodes=found)
            return 0
        width = shutil.get_terminal_size().columns - 2 if sys.stdout.isatty() else _FILE_WIDTH
        for path in paths:
            for below, depth in _walk(store, path):
                _print_node(store, below, depth, None if args.flat else width, args.permissions)
    return 0


def _walk(store: pyxc.StoreClient, top: str) -> Iterator[tuple[str, int]]:
    """Every node below a node, with its depth, parents first. Failed if there is no such node."""
    names = store.list(top)
    if names is None:
        raise Failed(f"{top}: no such node")
    levels = [(top, iter(names))]  # a guest can nest nodes deeper than Python calls functions
    while levels:
        above, below = levels[-1]
        name = next(below, None)
        if name is None:
            levels.pop()
            continue
        path = f"{'' if above == '/' else above}/{name}"
        yield path, len(levels) - 1
        levels.append((path, iter(store.list(path) or [])))


def _nodes_json(store: pyxc.StoreClient, top: str, with_permissions: bool) -> Iterator[dict[str, Any]]:
    for path, _ in _walk(store, top):
        value = store.read(path)
        node: dict[str, Any] = {"path": path, "value": None if value is None else _text(value)}
        if with_permissions:
            node["permissions"] = [str(one) for one in store.permissions(path) or ()]
        yield node


def _print_node(
    store: pyxc.StoreClient, path: str, depth: int, width: int | None, with_permissions: bool
) -> None:
    """One line; in `width` columns, where that is not None, and with permissions behind a dotted line."""
    value = store.read(path)
    if value is None:
        return
    line = path
    if width is not None:
        line = " " * depth + _cut(path.rpartition("/")[2], width - _FRAME - depth)
    if width is not None and len(line) + len(value) + _FRAME > width:
        line += f' = "{_cut(escaped(value), width - _FRAME - len(line))}\\..."'
    else:
        line += f' = "{escaped(value)}"'
        if with_permissions:
            line += " " + _dots(len(line) + 1, 0 if width is None else min(_PERMISSIONS_COLUMN, width))
    if with_permissions:
        line += f"  ({','.join(str(one) for one in store.permissions(path) or ())})"
    output.lines([line])


def _dots(start: int, end: int) -> str:
    return "".join(" ."[column % 2] for column in range(start, end))


def _cut(text: str, width: int) -> str:
    """As much as fits; everything if there is no space at all, as in the original."""
    return text if width < 0 else text[:width]


def list_names(args: argparse.Namespace) -> int:
    def prefixed(path: str, names: list[str]) -> list[str]:
        return [f"{path.rstrip('/')}/{name}" for name in names]

    return _each(args, pyxc.Transaction.list, "names", prefixed)


def read_values(args: argparse.Namespace) -> int:
    def found(nodes: pyxc.Transaction, path: str) -> str | None:
        value = nodes.read(path)
        return None if value is None else (_text if args.json else escaped)(value)

    return _each(args, found, "value", lambda path, value: f"{path}: {value}")


def _each(
    args: argparse.Namespace,
    question: Callable[[pyxc.Transaction, str], Any],
    key: str,
    prefixed: Callable[[str, Any], Any],
) -> int:
    """Ask the same of all paths, at one moment, and print what there is."""
    with _opened(args) as store:
        answers = store.transact(lambda tx: {path: question(tx, path) for path in args.paths})

    def answer(path: str) -> tuple[str, Any]:
        if answers[path] is None:
            raise Failed(f"{path}: no such node")
        return path, answers[path]

    attempt = Attempt(args.paths, answer)
    if args.json:
        nodes = [{"path": path, key: found} for path, found in attempt.results]
        output.report(args.json, nodes=nodes, failed=attempt.failures)
        return attempt.status
    for path, found in attempt.results:
        shown = prefixed(path, found) if args.prefix else found
        output.lines([shown] if isinstance(shown, str) else shown)
    return attempt.status


def write_values(args: argparse.Namespace) -> int:
    if len(args.pairs) % 2:
        raise UsageError(f"{args.pairs[-1]} has no value")
    values = list(zip(args.pairs[::2], map(unescaped, args.pairs[1::2])))

    def write(tx: pyxc.Transaction) -> None:
        for path, value in values:
            tx.write(path, value)

    with _opened(args) as store:
        store.transact(write)
    return _done(args, [path for path, _ in values])


def remove_nodes(args: argparse.Namespace) -> int:
    def remove(tx: pyxc.Transaction) -> None:
        for path in args.paths:
            tx.remove(path)
            while args.tidy and (path := path.rpartition("/")[0]) and _is_empty(tx, path):
                tx.remove(path)

    with _opened(args) as store:
        store.transact(remove)
    return _done(args, args.paths)


def test_nodes(args: argparse.Namespace) -> int:
    with _opened(args) as store:
        found = [{"path": path, "exists": store.read(path) is not None} for path in args.paths]
    if args.json:
        output.report(args.json, nodes=found)
    return Status.OK if all(one["exists"] for one in found) else Status.FAILED


def change_permissions(args: argparse.Namespace) -> int:
    """All or none."""
    wanted = args.permissions
    for word in wanted:
        if not re.fullmatch(r"[nrwb][0-9]{1,5}", word):
            raise UsageError(f"{word!r} is not a permission: expected n, r, w or b and a domid, as r1")
    with _opened(args) as store:
        paths = [args.path]
        if args.upto:
            parts = args.path.split("/")
            paths += ["/".join(parts[:count]) for count in range(2, len(parts))]
        if args.recurse:
            paths += [path for path, _ in _walk(store, args.path)]

        def change(tx: pyxc.Transaction) -> None:
            for path in paths:
                if tx.permissions(path) is None:
                    raise Failed(f"{path}: no such node")
                tx.set_permissions(path, wanted)

        store.transact(change)
    return _done(args, paths)


def _is_empty(nodes: pyxc.Transaction, path: str) -> bool:
    return nodes.read(path) == b"" and not nodes.list(path)


def _done(args: argparse.Namespace, paths: list[str]) -> int:
    if args.json:
        output.report(args.json, done=paths)
    return 0


def watch_nodes(args: argparse.Namespace) -> int:
    if args.json and args.number is None:
        raise UsageError("--json needs --number: it prints one object at the end")
    with _opened(args) as store, store.watch(*args.paths, depth=args.depth) as watch:
        events = itertools.islice(watch, args.number)
        if args.json:
            output.report(
                args.json, events=[{"path": event.path, "watched": event.token} for event in events]
            )
            return 0
        for event in events:
            output.lines([event.path])
            output.flush()
    return 0


def show_features(args: argparse.Namespace) -> int:
    with _opened(args) as store:
        features = store.features(args.domid)
    names = [str(feature.name).lower() for feature in features]
    if args.json:
        output.report(args.json, domid=args.domid, features=names)
    else:
        output.lines(names)
    return 0


def send_command(args: argparse.Namespace) -> int:
    with _opened(args) as store:
        reply = store.control(*args.words)
    if args.json:
        output.report(args.json, command=args.words, reply=reply)
    elif reply:
        output.lines(reply.removesuffix("\n").split("\n"))
    return 0


def quotas(args: argparse.Namespace) -> int:
    with _opened(args) as store:
        if args.value is not None:
            store.set_quota(args.name, args.value, args.domid)
            return _done(args, [args.name])
        found = store.quotas(args.domid)
    if args.name is not None and args.name not in found:
        raise Failed(f"{args.name}: no such quota; there are {', '.join(found)}")
    wanted = {name: value for name, value in found.items() if args.name in (None, name)}
    if args.json:
        output.report(args.json, domid=args.domid, quotas=wanted)
    else:
        output.lines(f"{name:<18}: {value}" for name, value in wanted.items())
    return 0


def show_usage(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        names = {info.domid: name_of(xen, info) for info in xen.domains.infos()}
        used, counted = _usage(xen.store, sorted(names))
    most = sorted(used.items(), key=lambda found: found[1]["nodes"] or 0, reverse=True)[: args.number]
    if args.json:
        domains = [{"domid": domid, "name": names.get(domid), **one} for domid, one in most]
        output.report(args.json, domains=domains)
        return 0
    header, rows = f"{'Name':40} {'ID':>5}  Nodes Watches Transactions Requests Memory(B)", []
    for domid, one in most:
        cells = zip(one.values(), (6, 7, 12, 8, 9))
        numbers = " ".join(f"{'-' if count is None else count:>{width}}" for count, width in cells)
        rows.append((f"{output.padded(shown(names.get(domid)), 40)} {domid:>5} {numbers}", ""))
    output.table(args.color, header, rows)
    if not counted:
        output.remark("this xenstored does not count: these are the owners of all nodes")
    return 0


def _usage(store: pyxc.StoreClient, domids: list[int]) -> tuple[dict[int, dict[str, int | None]], bool]:
    """What domains have, and whether xenstored counted it; if not, nodes are counted by their owners."""
    found = dict(zip(domids, store.usages(domids)))
    counted = {domid: one for domid, one in found.items() if not isinstance(one, pyxc.StoreError)}
    if counted:
        return {domid: one._asdict() for domid, one in counted.items()}, True
    owners = Counter(
        permissions[0].domid for path, _ in _walk(store, "/") if (permissions := store.permissions(path))
    )
    return {domid: pyxc.StoreUsage(count, *[None] * 4)._asdict() for domid, count in owners.items()}, False


def escaped(value: bytes) -> str:
    """A value as xenstore's programs print it: printable ASCII, and the rest as \\n, \\xHH and the like."""
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x5C
        else _NAMED.get(byte) or (f"\\{byte:03o}" if byte < 8 else f"\\x{byte:02x}")
        for byte in value
    )  # fmt: skip


def unescaped(text: str) -> bytes:
    """The value that a text means in that notation; what is not ASCII is UTF-8."""

    def meaning(match: re.Match[bytes]) -> bytes:
        hexadecimal, octal, other = match.groups()
        if other is not None:
            return _ESCAPES.get(other, other)
        return bytes([int(hexadecimal or octal, 16 if hexadecimal else 8) & 0xFF])

    return _ESCAPE.sub(meaning, text.encode("utf-8", "surrogateescape"))


def _text(value: bytes) -> str:
    """A value in JSON."""
    return value.decode("utf-8", "backslashreplace")
