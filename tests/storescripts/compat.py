# SPDX-License-Identifier: MIT
"""Calls of xen.lowlevel.xs, with success and with mistakes.

run(module), with Xen's own module or pyxc's, answers what came of them, and leaves nothing behind.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from types import ModuleType
from typing import Any

from storescripts import Outcomes

TOP = "/pyxc-test"
ABSENT = 0x7000
A_SECOND = 10.0


def run(module: ModuleType) -> Outcomes:
    script = Script(module)
    script.xs.rm("", TOP)
    try:
        for part in (module_itself, nodes, arguments, permissions, watches, transactions, domains):
            part(script)
    finally:
        script.xs.rm("", TOP)
    closing(script)
    return script.outcomes


class Script:
    """Makes calls and keeps what came of them."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.xs: Any = module.xs()
        self.outcomes: Outcomes = {}

    def call(self, what: str, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """One call: what it answers, or the error's kind, with arguments where it is the module's own."""
        answer = None
        try:
            answer = method(*arguments, **named)
            outcome = repr(answer)
        except self.module.Error as error:
            outcome = f"Error{error.args}"
        except Exception as error:
            outcome = type(error).__name__
        assert what not in self.outcomes
        self.outcomes[what] = outcome
        return answer


def module_itself(script: Script) -> None:
    module = script.module
    methods = sorted(name for name in dir(module.xs) if not name.startswith("_"))
    script.outcomes["methods"] = " ".join(methods)
    script.outcomes["Error"] = repr([base.__name__ for base in module.Error.__mro__[1:]])
    script.call("readonly writes", module.xs(readonly=1).write, "", f"{TOP}/ro", "1")
    script.call("readonly by place", module.xs(1).read, "", f"{TOP}/ro")


def nodes(script: Script) -> None:
    xs, call = script.xs, script.call
    call("write", xs.write, "", f"{TOP}/a/b", "text")
    call("write bytes", xs.write, "", f"{TOP}/a/c", b"\0\xff")
    call("write unicode", xs.write, "", f"{TOP}/a/d", "\xfc")
    call("read", xs.read, "", f"{TOP}/a/b")
    call("read bytes", xs.read, "", f"{TOP}/a/c")
    call("read unicode", xs.read, "", f"{TOP}/a/d")
    call("read nothing", xs.read, "", f"{TOP}/nothing")
    call("read a bad path", xs.read, "", f"{TOP}/no thing")
    call("read a relative path", xs.read, "", "name")
    call("write too much", xs.write, "", f"{TOP}/a/b", "x" * 5000)
    call("write to a bad path", xs.write, "", f"{TOP}/", "1")
    call("ls", xs.ls, "", f"{TOP}/a")
    call("ls nothing", xs.ls, "", f"{TOP}/nothing")
    call("ls without children", xs.ls, "", f"{TOP}/a/b")
    for number in range(300):
        xs.mkdir("", f"{TOP}/many/a-name-of-some-length-{number}")
    call("ls many", xs.ls, "", f"{TOP}/many")
    call("mkdir", xs.mkdir, "", f"{TOP}/m")
    call("mkdir again", xs.mkdir, "", f"{TOP}/m")
    call("rm", xs.rm, "", f"{TOP}/m")
    call("rm again", xs.rm, "", f"{TOP}/m")
    call("rm below nothing", xs.rm, "", f"{TOP}/m/m/m")
    call("rm a bad path", xs.rm, "", "//")


def arguments(script: Script) -> None:
    xs, call = script.xs, script.call
    path = f"{TOP}/a/b"
    call("path of bytes", xs.read, "", path.encode())
    call("transaction of bytes", xs.read, b"", path)
    call("transaction of int", xs.read, 0, path)
    call("transaction of None", xs.read, None, path)
    call("path with NUL", xs.read, "", f"{TOP}\0")
    call("path by name", xs.read, "", path=path)
    call("no path", xs.read, path)
    call("too many", xs.read, "", path, "")
    for value in (bytearray(b"1"), memoryview(b"1"), 1, None):
        call(f"value of {type(value).__name__}", xs.write, "", path, value)
    for transaction in ("0", "0x0", "zz", "x1", " 0", "7fffffff", "0x7FFFFFFF"):
        call(f"transaction {transaction!r}", xs.read, transaction, path)


def permissions(script: Script) -> None:
    xs, call = script.xs, script.call
    xs.mkdir("", f"{TOP}/p")
    cases: dict[str, Any] = {
        "owner": [{"dom": 0}],
        "all": [{"dom": 0, "read": 1}],
        "write": [{"dom": 0, "write": True}],
        "others": [{"dom": 0}, {"dom": 0, "read": 5, "write": -1}, {"dom": 0, "write": 1}],
        "absent owner": [{"dom": ABSENT}],
        "absent reader": [{"dom": ABSENT, "read": 1}],
        "negative": [{"dom": -1}],
        "empty": [],
        "tuple": ({"dom": 0},),
        "without dom": [{"read": 1}],
        "with more": [{"dom": 0, "execute": 1}],
        "dom of str": [{"dom": "0"}],
    }
    for name, value in cases.items():
        call(f"set permissions {name}", xs.set_permissions, "", f"{TOP}/p", value)
        call(f"permissions {name}", xs.get_permissions, "", f"{TOP}/p")
    call("set permissions of nothing", xs.set_permissions, "", f"{TOP}/nothing", [{"dom": 0}])
    call("permissions of nothing", xs.get_permissions, "", f"{TOP}/nothing")


def watches(script: Script) -> None:
    xs, call = script.xs, script.call
    token: dict[str, int] = {}

    def event(what: str) -> None:
        found = call(what, xs.read_watch)
        script.outcomes[f"{what}: token"] = found is not None and found[1] is token

    call("no event", xs.check_watch)
    call("watch", xs.watch, f"{TOP}/w", token)
    event("event when set")
    call("watch again", xs.watch, f"{TOP}/w", token)
    call("watch a bad path", xs.watch, f"{TOP}/w/", token)
    call("watch a path of bytes", xs.watch, b"/w", token)
    xs.write("", f"{TOP}/w/x", "1")
    script.outcomes["fileno"] = bool(select.select([xs.fileno()], [], [], A_SECOND)[0])
    event("event of a change")
    call("watch with another token", xs.watch, f"{TOP}/w", None)
    call("event of another token", xs.read_watch)
    call("unwatch another token", xs.unwatch, f"{TOP}/w", None)
    call("unwatch", xs.unwatch, f"{TOP}/w", token)
    call("unwatch again", xs.unwatch, f"{TOP}/w", token)
    xs.write("", f"{TOP}/w/x", "2")
    call("no event any more", xs.check_watch)
    call("special watch", xs.watch, "@releaseDomain", "token")
    call("special event", xs.read_watch)
    call("special unwatch", xs.unwatch, "@releaseDomain", "token")


def transactions(script: Script) -> None:
    xs, call = script.xs, script.call
    xs.write("", f"{TOP}/t", "old")
    first = xs.transaction_start()
    script.outcomes["transaction"] = repr(type(first))
    call("read in it", xs.read, first, f"{TOP}/t")
    call("write in it", xs.write, first, f"{TOP}/t", "new")
    call("read outside", xs.read, "", f"{TOP}/t")
    call("commit", xs.transaction_end, first)
    call("read after it", xs.read, "", f"{TOP}/t")
    call("commit again", xs.transaction_end, first)
    second = xs.transaction_start()
    xs.read(second, f"{TOP}/t")
    xs.write("", f"{TOP}/t", "other")
    call("commit with a conflict", xs.transaction_end, second)
    call("abort", xs.transaction_end, xs.transaction_start(), 1)
    call("abort by name", xs.transaction_end, transaction=xs.transaction_start(), abort=True)
    call("end of none", xs.transaction_end, "")
    call("end of an unknown one", xs.transaction_end, "7fffffff")
    call("end without argument", xs.transaction_end)


def domains(script: Script) -> None:
    xs, call = script.xs, script.call
    call("path", xs.get_domain_path, 3)
    call("path of a negative id", xs.get_domain_path, -3)
    call("path of a large id", xs.get_domain_path, 1 << 40)
    call("path of str", xs.get_domain_path, "3")
    call("path of float", xs.get_domain_path, 3.0)
    call("introduce port 0", xs.introduce_domain, ABSENT, 1, 0)
    call("introduce absent", xs.introduce_domain, ABSENT, 1, 1)
    call("introduce nothing", xs.introduce_domain)
    for name in ("release_domain", "resume_domain"):
        call(f"{name} absent", getattr(xs, name), ABSENT)
        call(f"{name} 0", getattr(xs, name), 0)
    call("target absent", xs.set_target, 0, ABSENT)


def closing(script: Script) -> None:
    xs, call = script.xs, script.call
    call("close", xs.close)
    call("close again", xs.close)
    call("read when closed", xs.read, "", TOP)
    call("watch when closed", xs.watch, TOP, "token")
    call("unwatch when closed", xs.unwatch, TOP, "token")
    call("check_watch when closed", xs.check_watch)
    call("read_watch when closed", xs.read_watch)
    call("fileno when closed", xs.fileno)
    call("transaction when closed", xs.transaction_start)
    call("path when closed", xs.get_domain_path, 0)
