# SPDX-License-Identifier: MIT
"""Each request of xenstore's protocol, with success and with the mistakes that there are.

run(xen) answers what came of it, and leaves nothing behind.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from pyxc import Domain, Xen
from pyxc.abi import event_channel
from pyxc.errors import StoreError
from pyxc.store import Kind, StoreClient, Watch
from storescripts import Outcomes

TOP = "/pyxc-test"
ABSENT = 0x7000
PV_UUID = "11111111-2222-4333-8444-555555555503"
PATIENCE_S = 10.0


def run(xen: Xen) -> Outcomes:
    """The whole script, with xen's own client and a second one."""
    with StoreClient(xen.link.connect_store) as other:
        script = Script(xen.store, other)
        try:
            for part in (nodes, permissions, transactions, watches, raw_requests):
                script.store.remove(TOP)
                part(script)
            domain = xen.domains.create(uuid=PV_UUID)
            try:
                domains(script, domain)
            finally:
                if domain.exists():
                    domain.destroy()
        finally:
            script.store.remove(TOP)
    return script.outcomes


UNRECORDED = {Kind.GET_FEATURE, Kind.SET_FEATURE, Kind.GET_QUOTA, Kind.SET_QUOTA}
"""Requests that xenstored has since Xen 4.22, which the lab does not have."""


class Script:
    """Does steps and keeps what came of them."""

    def __init__(self, store: StoreClient, other: StoreClient) -> None:
        self.store = store
        self.other = other
        self.outcomes: Outcomes = {}

    def step(self, what: str, action: Callable[[], Any]) -> Any:
        """One call: its value, or its errno by name."""
        value = None
        try:
            value = action()
            outcome = _shown(value)
        except StoreError as error:
            outcome = f"{errno.errorcode[error.errno or 0]} from {error.operation}"
        assert what not in self.outcomes
        self.outcomes[what] = outcome
        return value

    def ask(self, what: str, kind: Kind, payload: bytes, transaction: int = 0) -> None:
        """One request with a payload that no method makes."""
        self.step(what, lambda: self.store.request(kind, None, tail=payload, transaction=transaction))

    def news(self, what: str, watch: Watch, wait: bool = False) -> None:
        """Events up to now: those that come before that of a new watch. `wait` for the first one."""
        found = [list(watch.get(PATIENCE_S) or ())] if wait else []
        marker = f"{TOP}-marker"
        watch.add(marker, marker)
        while (event := watch.get(PATIENCE_S)) is not None and event.token != marker:
            found.append(list(event))
        watch.remove(marker, marker)
        self.outcomes[what] = found


def _shown(value: Any) -> Any:
    """As JSON can hold it."""
    if isinstance(value, bytes):
        return repr(value)
    return [str(one) for one in value] if isinstance(value, tuple) else value


def nodes(script: Script) -> None:
    store, step = script.store, script.step
    step("read nothing", lambda: store.read(f"{TOP}/a"))
    step("list nothing", lambda: store.list(f"{TOP}/a"))
    step("remove nothing", lambda: store.remove(f"{TOP}-absent"))
    step("remove below nothing", lambda: store.remove(f"{TOP}/a/b/c"))
    step("write", lambda: store.write(f"{TOP}/a/b", b"1\0\xff"))
    step("read", lambda: store.read(f"{TOP}/a/b"))
    step("read a parent", lambda: store.read(f"{TOP}/a"))
    step("write again", lambda: store.write(f"{TOP}/a/b", b""))
    step("read empty", lambda: store.read(f"{TOP}/a/b"))
    step("mkdir", lambda: store.mkdir(f"{TOP}/c/d"))
    step("mkdir again", lambda: store.mkdir(f"{TOP}/c"))
    step("list", lambda: store.list(TOP))
    step("list without children", lambda: store.list(f"{TOP}/c/d"))
    step("longest value", lambda: store.write(f"{TOP}/long", bytes(4096 - len(f"{TOP}/long") - 1)))
    step("read longest value", lambda: len(store.read(f"{TOP}/long") or b""))
    step("longest path", lambda: store.mkdir(f"{TOP}/{'p' * (2048 - len(TOP) - 1)}"))
    step("path too long", lambda: store.mkdir(f"{TOP}/{'q' * (2048 - len(TOP))}"))
    for number in range(500):
        store.mkdir(f"{TOP}/many/a-name-of-some-length-{number}")
    step("list of many", lambda: store.list(f"{TOP}/many"))
    step("remove", lambda: store.remove(f"{TOP}/a"))
    step("removed", lambda: store.read(f"{TOP}/a/b"))
    step("remove the root", lambda: store.remove("/"))
    step("own name", lambda: store.read("name"))


def permissions(script: Script) -> None:
    store, step = script.store, script.step
    step("permissions of nothing", lambda: store.permissions(f"{TOP}/a"))
    step("set permissions of nothing", lambda: store.set_permissions(f"{TOP}/a", ["n0"]))
    store.mkdir(f"{TOP}/a")
    step("permissions of new", lambda: store.permissions(f"{TOP}/a"))
    step("set permissions", lambda: store.set_permissions(f"{TOP}/a", ["b0", "r0", "w0", "n0"]))
    step("permissions", lambda: store.permissions(f"{TOP}/a"))
    store.mkdir(f"{TOP}/a/b")
    step("inherited permissions", lambda: store.permissions(f"{TOP}/a/b"))
    step("absent owner", lambda: store.set_permissions(f"{TOP}/a", [f"n{ABSENT}"]))
    step("absent reader", lambda: store.set_permissions(f"{TOP}/a", ["n0", f"r{ABSENT}"]))
    step("permissions of an absent reader", lambda: store.permissions(f"{TOP}/a"))
    step("permissions of an event", lambda: store.set_permissions("@releaseDomain", ["n0"]))
    step("permissions of no event", lambda: store.set_permissions("@nonsense", ["n0"]))


def transactions(script: Script) -> None:
    store, other, step = script.store, script.other, script.step
    store.write(f"{TOP}/a", "old")
    first = store.begin()
    step("read in a transaction", lambda: first.read(f"{TOP}/a"))
    step("write in a transaction", lambda: first.write(f"{TOP}/b/c", "1"))
    step("list in a transaction", lambda: first.list(TOP))
    step("list outside of it", lambda: store.list(TOP))
    step("commit", first.commit)
    step("list after commit", lambda: store.list(TOP))
    second = store.begin()
    step("read before a conflict", lambda: second.read(f"{TOP}/a"))
    other.write(f"{TOP}/a", "new")
    step("read again", lambda: second.read(f"{TOP}/a"))
    step("commit with a conflict", second.commit)
    third, fourth = store.begin(), other.begin()
    third.write(f"{TOP}/d", "3")
    fourth.write(f"{TOP}/e", "4")
    step("commit the first of two siblings", third.commit)
    step("commit the second of two siblings", fourth.commit)
    fifth, sixth = store.begin(), other.begin()
    fifth.write(f"{TOP}/b/x", "5")
    sixth.write(f"{TOP}/d", "6")
    step("commit apart", fifth.commit)
    step("commit apart, too", sixth.commit)
    seventh = store.begin()
    step("look for what is not there", lambda: seventh.read(f"{TOP}/f"))
    other.write(f"{TOP}/f", "7")
    step("commit when it came", seventh.commit)
    eighth = store.begin()
    eighth.read(f"{TOP}/f")
    other.remove(f"{TOP}/f")
    step("commit when it went", eighth.commit)
    ninth = store.begin()
    step("remove in a transaction", lambda: ninth.remove(f"{TOP}/b"))
    step("removed in the transaction", lambda: ninth.list(TOP))
    step("abort", ninth.abort)
    step("list after abort", lambda: store.list(TOP))
    step("a transaction of nothing", store.begin().commit)


def watches(script: Script) -> None:
    store, other = script.store, script.other
    with store.watch(TOP) as watch:
        watch.add(f"{TOP}/a/b", "deep")
        script.news("watches when set", watch)
        other.write(f"{TOP}/a/b/c", "1")
        script.news("write below", watch)
        other.write(f"{TOP}", "1")
        script.news("write above", watch)
        other.mkdir(f"{TOP}/a/b")
        script.news("mkdir of what is there", watch)
        other.set_permissions(f"{TOP}/a/b", ["n0", "r0"])
        script.news("set permissions", watch)
        other.remove(f"{TOP}/a")
        script.news("remove above", watch)
        other.remove(f"{TOP}/a")
        script.news("remove what is gone", watch)
        transaction = other.begin()
        transaction.write(f"{TOP}/x", "1")
        transaction.write(f"{TOP}/a/b", "1")
        transaction.mkdir(f"{TOP}/y")
        transaction.remove(f"{TOP}/y")
        script.news("before commit", watch)
        transaction.commit()
        script.news("after commit", watch)
        transaction = other.begin()
        transaction.remove(f"{TOP}/a")
        transaction.commit()
        script.news("remove in a transaction", watch)
        transaction = other.begin()
        transaction.write(f"{TOP}/x", "2")
        transaction.abort()
        script.news("after abort", watch)
    with store.watch("pyxc-test") as watch:
        other.write("/local/domain/0/pyxc-test/a", "1")
        script.news("relative path", watch)
        other.remove("/local/domain/0/pyxc-test")


def raw_requests(script: Script) -> None:
    """None where the path is not just one string: Xen 4.17's xenstored aborts when it gets that."""
    ask = script.ask
    of_one_path = {Kind.DIRECTORY, Kind.READ, Kind.GET_PERMS, Kind.MKDIR, Kind.RM}
    known = set(Kind) - UNRECORDED
    for kind in known - {*of_one_path, Kind.RESET_WATCHES}:
        ask(f"{kind.operation} of nothing", kind, b"")
    for kind in known - {Kind.RESET_WATCHES}:
        ask(f"{kind.operation} of an unknown transaction", kind, b"/\0", transaction=99)
    for path in (b"//a\0", b"/a/\0", b"a b\0", b"\xe4\0", b"@releaseDomain\0", b"\0"):
        ask(f"read of {path!r}", Kind.READ, path)
    top = TOP.encode() + b"\0"
    ask("write without an end", Kind.WRITE, top[:-1])
    for permission in (b"x0\0", b"r\0", b"r0", b"n0\0rubbish\0", b"r0x\0", b"n-1\0", b"n0x0\0"):
        ask(f"permission {permission!r}", Kind.SET_PERMS, top + permission)
    ask("directory_part without offset", Kind.DIRECTORY_PART, b"/\0")
    ask("directory_part of an absent node", Kind.DIRECTORY_PART, TOP.encode() + b"-absent\0" + b"0\0")
    ask("watch without token", Kind.WATCH, top)
    ask("watch with more", Kind.WATCH, top + b"token\0more\0")
    ask("watch of a bad path", Kind.WATCH, b"/a/\0token\0")
    ask("watch", Kind.WATCH, top + b"token\0")
    ask("watch again", Kind.WATCH, top + b"token\0")
    ask("unwatch of another token", Kind.UNWATCH, top + b"other\0")
    ask("unwatch", Kind.UNWATCH, top + b"token\0")
    ask("unwatch again", Kind.UNWATCH, top + b"token\0")
    ask("end of no transaction", Kind.TRANSACTION_END, b"T\0")
    ask("end in another way", Kind.TRANSACTION_END, b"X\0")
    number = script.store.begin().number
    ask("transaction in a transaction", Kind.TRANSACTION_START, b"\0", number)
    ask("end of a transaction in another way", Kind.TRANSACTION_END, b"X\0", number)
    ask("end of a transaction", Kind.TRANSACTION_END, b"F\0", number)
    ask("end of a transaction again", Kind.TRANSACTION_END, b"F\0", number)
    ask("reset", Kind.RESET_WATCHES, b"\0")
    ask("unknown control", Kind.CONTROL, b"nonsense\0")


def domains(script: Script, domain: Domain) -> None:
    store, other, step = script.store, script.other, script.step
    domid = domain.domid
    step("path of an absent domain", lambda: store.domain_path(99))
    step("dom0 is introduced", lambda: store.is_introduced(0))
    step("an absent domain is introduced", lambda: store.is_introduced(ABSENT))
    step("a new domain is introduced", lambda: store.is_introduced(domid))
    for name in ("release", "resume"):
        action = getattr(store, name)
        step(f"{name} of dom0", lambda action=action: action(0))
        step(f"{name} of an absent domain", lambda action=action: action(ABSENT))
        step(f"{name} of what was not introduced", lambda action=action: action(domid))
    step("introduce an absent domain", lambda: store.introduce(ABSENT, 1, 1))
    step("introduce with port 0", lambda: store.introduce(domid, 1, 0))
    domain.set_max_memory(1024)
    (frame,) = domain.memory.populate([0])
    domain.grants.seed(store=frame)
    step("introduce with a port that is closed", lambda: store.introduce(domid, frame, 99))
    reply = domain.xen.call(event_channel.ALLOC_UNBOUND, domid, remote_dom=0)
    port = reply.field("port")
    with other.watch("@introduceDomain", "@releaseDomain") as watch:
        script.news("special watches when set", watch)
        step("introduce", lambda: store.introduce(domid, frame, port))
        script.news("introduced", watch)
        step("an introduced domain is introduced", lambda: store.is_introduced(domid))
        step("introduce again", lambda: store.introduce(domid, frame, port))
        script.news("introduced again", watch)
        step("target", lambda: store.set_target(domid, 0))
        step("absent target", lambda: store.set_target(domid, ABSENT))
        step("absent domain with a target", lambda: store.set_target(ABSENT, domid))
        step("permissions of a domain", lambda: store.set_permissions("@releaseDomain", ["n0", f"r{domid}"]))
        domain.shutdown()
        script.news("shut down", watch, wait=True)
        domain.resume()
        script.news("resumed", watch)
        step("resume", lambda: store.resume(domid))
        domain.shutdown()
        script.news("shut down again", watch, wait=True)
        step("release", lambda: store.release(domid))
        script.news("released", watch)
        step("a released domain is introduced", lambda: store.is_introduced(domid))
        step("introduce once more", lambda: store.introduce(domid, frame, port))
        script.news("introduced once more", watch)
        domain.destroy()
        script.news("destroyed", watch, wait=True)
        step("a destroyed domain is introduced", lambda: store.is_introduced(domid))
