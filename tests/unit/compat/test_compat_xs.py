# SPDX-License-Identifier: MIT
"""xen.lowlevel.xs without Xen's own: how programs come to it, and what recordings do not show."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyxc.compat import target, xs

A_SECOND = 10.0
PROGRAM = """
import sys
import xen.lowlevel
from xen.lowlevel.xs import Error, xs as Xs
first, second = xen.lowlevel.xs.xs(), Xs()
first.write("", "/test", " ".join(sys.argv[1:]))
print(second.read("", "/test").decode(), first.read("", "/local/domain/1/name"))
try:
    first.read("", "//")
except RuntimeError as error:
    print(error.args, error.errno, isinstance(error, Error))
"""


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fresh simulated host for all handles of a test."""
    monkeypatch.setenv("PYXC_TARGET", "sim:xen-4.17")
    target.host.cache_clear()
    yield
    target.host.cache_clear()


@pytest.mark.parametrize("access", ["yes", [1], 1.0, None])
def test_what_a_domain_may_do_is_said_by_ints(access: object) -> None:
    store = xs.xs()
    store.write("", "/test", "x")
    for name in ("read", "write", "dom"):
        with pytest.raises(TypeError):
            store.set_permissions("", "/test", [{"dom": 0, name: access}])
    with pytest.raises(OverflowError):
        store.set_permissions("", "/test", [{"dom": 0, "read": 2**31}])
    assert store.get_permissions("", "/test") == [{"dom": 0, "read": 0, "write": 0}]
    store.set_permissions("", "/test", [{"dom": 1, "read": True, "write": 7}])
    assert store.get_permissions("", "/test")[1:] == [{"dom": 1, "read": 1, "write": 2}]


@pytest.mark.parametrize("page", ["1", 1.0, None, b"1"])
def test_the_page_of_a_domain_is_an_int(page: object) -> None:
    with pytest.raises(TypeError):
        xs.xs().introduce_domain(1, page, 1)
    with pytest.raises(OverflowError):
        xs.xs().introduce_domain(1, 2**64, 1)


def test_an_error_has_its_number() -> None:
    with pytest.raises(RuntimeError) as caught:
        xs.xs().get_permissions("", "/nothing")
    assert isinstance(caught.value, xs.Error)
    assert caught.value.errno == caught.value.args[0] == 2
    assert xs.Error().errno is None


def test_without_xenstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYXC_TARGET")
    monkeypatch.setenv("XENSTORED_PATH", "/nowhere")
    with pytest.raises(xs.Error) as caught:
        xs.xs()
    assert caught.value.args == (2, "No such file or directory")


def test_read_watch_waits_for_another_thread() -> None:
    handle, token = xs.xs(), object()
    handle.watch("/test", token)
    assert handle.read_watch() == ("/test", token)
    timer = threading.Timer(0.05, xs.xs().write, ("", "/test/a", "1"))
    timer.start()
    path, found = handle.read_watch()
    timer.join()
    assert path == "/test/a"
    assert found is token
    handle.close()


def test_a_program_runs_without_a_change(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "pyxc.compat", "run", str(program), "one", "two"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "one two b'web1'\n(22, 'Invalid argument') 22 True\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "usage: "),
        (["run"], "usage: "),
        (["walk", "x"], "usage: "),
        (["run", "nothing"], "no such program: nothing"),
    ],
)
def test_what_cannot_be_run(words: list[str], complaint: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyxc.compat", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert complaint in done.stderr
