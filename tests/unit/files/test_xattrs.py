# SPDX-License-Identifier: MIT
"""Extended attributes of real files, through pyxattr and through Python's own calls."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from attributes import getxattr, listxattr, setxattr

from pyxc import errors
from pyxc.files import xattrs

USER = "user.pyxc.test"
KERNEL_FILE = "/proc/version"
"""On a file system that keeps no attributes, on every machine."""


needs_calls = pytest.mark.skipif(not hasattr(os, "getxattr"), reason="this Python has no calls of its own")


@pytest.fixture(params=["pyxattr", pytest.param("os", marks=needs_calls)])
def file(
    request: pytest.FixtureRequest, attributes_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """An empty file, whose attributes are reached through each of both."""
    xattrs.calls.cache_clear()
    if request.param == "os":
        monkeypatch.setitem(sys.modules, "xattr", None)
    path = attributes_directory / "file"
    path.touch()
    yield path
    xattrs.calls.cache_clear()


def test_what_is_set_is_read_by_others_and_goes_away(file: Path) -> None:
    with xattrs.opened(file) as attributes:
        assert attributes.get(USER) is None
        attributes.set(USER, b"\0any bytes\xff")
        assert getxattr(file, USER) == b"\0any bytes\xff"
        assert attributes.get(USER) == b"\0any bytes\xff"
        assert attributes.remove(USER)
        assert not attributes.remove(USER)
    assert listxattr(file) == []


def test_flags_say_what_must_be_there(file: Path) -> None:
    with xattrs.opened(file) as attributes:
        with pytest.raises(OSError) as caught:
            attributes.set(USER, b"1", xattrs.REPLACE)
        assert caught.value.errno == errno.ENODATA
        attributes.set(USER, b"1", xattrs.CREATE)
        with pytest.raises(FileExistsError):
            attributes.set(USER, b"2", xattrs.CREATE)
        attributes.set(USER, b"3", xattrs.REPLACE)
        assert attributes.get(USER) == b"3"


def test_only_pyxcs_own_are_listed(file: Path) -> None:
    setxattr(file, "user.other", b"1")
    setxattr(file, "user.pyxc.", b"3")
    setxattr(file, "user.pyxc.caf\N{LATIN SMALL LETTER E WITH ACUTE}", b"4")
    with xattrs.opened(file) as attributes:
        attributes.set(USER, b"2")
        assert attributes.own() == {USER: b"2", "user.pyxc.": b"3", "user.pyxc.caf\\xc3\\xa9": b"4"}


def test_no_room_is_told_with_both_names(file: Path) -> None:
    with xattrs.opened(file) as attributes, pytest.raises(OSError) as caught:
        attributes.set(USER, bytes(65537))
    assert caught.value.errno in (errno.E2BIG, errno.ENOSPC)
    assert USER in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_system_without_attributes(file: Path) -> None:
    with xattrs.opened(KERNEL_FILE) as attributes:
        assert attributes.get(USER) is None
        assert attributes.own() == {}
        assert not attributes.remove(USER)
        with pytest.raises(errors.AttributeUnsupported, match="does not support user attributes"):
            attributes.set(USER, b"1")


def test_a_link_is_followed_and_what_is_no_file_is_not_opened(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file.name)
    with xattrs.opened(link) as attributes:
        attributes.set(USER, b"1")
    assert getxattr(file, USER) == b"1"
    fifo = file.with_name("fifo")
    os.mkfifo(fifo)
    for path in (fifo, file.parent, Path("/dev/null")):
        with pytest.raises(ValueError, match="neither a file nor a block device"), xattrs.opened(path):
            pass
    with pytest.raises(FileNotFoundError), xattrs.opened(file.with_name("nothing")):
        pass


@needs_calls
def test_the_other_module_of_the_same_name_is_told_apart(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.ModuleType("xattr")
    other.getxattr = other.setxattr = other.xattr = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xattr", other)
    xattrs.calls.cache_clear()
    with xattrs.opened(file) as attributes:
        with pytest.warns(RuntimeWarning, match="not pyxattr.*install python3-pyxattr"):
            attributes.set(USER, b"1")
        attributes.set(USER, b"2")
    assert getxattr(file, USER) == b"2"


@pytest.mark.parametrize("module", [None, types.ModuleType("xattr")])
def test_without_pyxattr_and_calls_of_python(
    attributes_directory: Path, monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None
) -> None:
    """As on CPython 3.11 for musl."""
    monkeypatch.setitem(sys.modules, "xattr", module)
    monkeypatch.delattr(os, "getxattr", raising=False)
    xattrs.calls.cache_clear()
    file = attributes_directory / "file"
    file.touch()
    with xattrs.opened(file) as attributes, pytest.raises(errors.MissingLibrary, match="pyxattr"):
        attributes.get(USER)


def test_pyxattr_is_what_is_used() -> None:
    module = pytest.importorskip("xattr", reason="pyxattr is not installed")
    assert xattrs.calls().get is module.get


def test_importing_pyxc_imports_no_xattr() -> None:
    code = "import pyxc, sys; sys.exit('xattr' in sys.modules or 'pyxc.files.xattrs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


TRUSTED = """
import sys
from pyxc import errors
from pyxc.files import xattrs
assert not xattrs.sees_trusted()
with xattrs.opened(sys.argv[1]) as attributes:
    for action in (lambda: attributes.get("trusted.pyxc.x"), lambda: attributes.set("trusted.pyxc.x", b"1")):
        try:
            action()
        except errors.AttributeForbidden as error:
            print(error.strerror)
"""


def test_trusted_attributes_are_hidden_without_the_capability(attributes_directory: Path) -> None:
    """The kernel says that there is none; "unknown" must not be taken for "absent"."""
    file = attributes_directory / "file"
    file.touch()
    words = [sys.executable, "-c", TRUSTED, str(file)]
    if xattrs.sees_trusted():
        words = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"trusted.pyxc.x cannot be {what}: this needs CAP_SYS_ADMIN, which the host's root has"
        for what in ("seen", "set")
    ]


def test_what_is_looked_at_is_what_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to the directory puts something else there in between."""
    image, other = tmp_path / "image", tmp_path / "other"
    image.touch()
    wanted = image.stat().st_ino
    os.mkfifo(other)

    def swapped(mode: int) -> bool:
        if other.exists():
            other.rename(image)
        return stat.S_IFMT(mode) == stat.S_IFREG

    monkeypatch.setattr("pyxc.files.xattrs.stat.S_ISREG", swapped)
    with xattrs.opened(image) as attributes:
        assert os.fstat(attributes.fd).st_ino == wanted
