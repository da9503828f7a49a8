# SPDX-License-Identifier: MIT
"""The hypervisor's file system."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hosts import Boot, Host

from pyxc import errors
from pyxc.abi.hypfs import Encoding, Type
from pyxc.sim.model.hypfs import Leaf


def test_a_tree_is_walked_directories_first(host: Host) -> None:
    paths = [entry.path for entry in host.xen.hypfs.walk()]
    wanted = ["/buildinfo", "/buildinfo/version", "/buildinfo/version/major"]
    assert [path for path in paths if path in wanted] == wanted
    assert [entry.path for entry in host.xen.hypfs.entries()] == ["/buildinfo", "/cpupool", "/params"]
    inside = host.xen.hypfs.entries("/buildinfo/version/")
    assert [entry.name for entry in inside] == ["extra", "major", "minor"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/buildinfo/version/major", 4),
        ("/params/gnttab_max_frames", "64"),
        ("/params/global-pages", False),
        ("/buildinfo/config", "CONFIG_X86_64=y\n"),
    ],
)
def test_a_value_has_the_type_of_its_entry(host: Host, path: str, value: object) -> None:
    assert host.xen.hypfs.read(path) == value
    assert type(host.xen.hypfs.read(path)) is type(value)


@pytest.mark.parametrize(
    ("leaf", "value"),
    [
        (Leaf(Type.INT, b"\xfe\xff", room=2), -2),
        (Leaf(Type.UINT, b"\xfe\xff\0\0\0\0\0\0", room=8), 65534),
        (Leaf(Type.BLOB, b"a\0b", room=3), b"a\0b"),
        (Leaf(Type.BOOL, b"\1", room=1), True),
    ],
)
def test_every_type_is_read_and_written_back(host: Host, leaf: Leaf, value: Any) -> None:
    host.truth.hypfs["new"] = leaf
    before = leaf.data
    assert host.xen.hypfs.read("/new") == value
    leaf.data = bytes(len(before))
    host.xen.hypfs.write("/new", value)
    assert leaf.data == before


def test_what_is_written_is_there(host: Host) -> None:
    assert host.xen.hypfs.entry("/params/loglvl").writable
    host.xen.hypfs.write("/params/loglvl", "none/none")
    assert host.xen.hypfs.read("/params/loglvl") == "none/none"
    host.xen.hypfs.write("/params/global-pages", True)
    assert host.xen.hypfs.read("/params/global-pages") is True


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ("/params/loglvl", 7, TypeError),
        ("/params/loglvl", "a\0b", ValueError),
        ("/params/global-pages", 1, TypeError),
        ("/buildinfo/version/major", True, TypeError),
        ("/buildinfo/version/major", -1, ValueError),
        ("/buildinfo/version/major", 2**32, ValueError),
        ("/params", b"", TypeError),
    ],
)
def test_a_value_of_another_kind_is_refused(
    host: Host, path: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        host.xen.hypfs.write(path, value)


@pytest.mark.parametrize("path", ["", "params", "/k\u00e4se", "/a\0b", "/" + "a" * 1024])
def test_what_can_be_no_path_is_refused_before_the_hypercall(host: Host, path: str) -> None:
    before = host.link.hypercalls
    with pytest.raises(ValueError):
        host.xen.hypfs.read(path)
    assert host.link.hypercalls == before


@pytest.mark.parametrize(
    ("call", "number"),
    [
        (lambda tree: tree.read("/nope"), errno.ENOENT),
        (lambda tree: tree.read("/params"), errno.EISDIR),
        (lambda tree: tree.entries("/params/loglvl"), errno.ENOTDIR),
        (lambda tree: tree.write("/buildinfo/version/major", 5), errno.EACCES),
        (lambda tree: tree.write("/params/loglvl", "x" * 16), errno.ENOSPC),
    ],
)
def test_refusals_name_their_reason(host: Host, call: Any, number: int) -> None:
    with pytest.raises(errors.HypercallError) as refused:
        call(host.xen.hypfs)
    assert refused.value.errno == number


def test_contents_that_are_longer_than_the_first_room(host: Host) -> None:
    host.truth.hypfs["long"] = Leaf(Type.BLOB, bytes(range(256)) * 1024)
    assert host.xen.hypfs.read("/long") == bytes(range(256)) * 1024


def test_a_type_that_nobody_knows_is_an_error_of_the_hypervisor(host: Host) -> None:
    host.truth.hypfs["odd"] = Leaf(99, b"")  # type: ignore[arg-type]
    with pytest.raises(errors.DecodeError, match="99"):
        host.xen.hypfs.entries()


@pytest.mark.parametrize("cut", [1, 20])
def test_packed_contents_that_are_broken(host: Host, cut: int) -> None:
    config = host.truth.hypfs["buildinfo"]["config"]  # type: ignore[index,call-overload]
    config.data = config.data[:-cut] if cut == 1 else b"x" * cut
    with pytest.raises(errors.DecodeError, match="/buildinfo/config"):
        host.xen.hypfs.read("/buildinfo/config")


def test_an_entry_says_what_it_is(host: Host) -> None:
    config = host.xen.hypfs.entry("/buildinfo/config")
    assert (config.name, config.type, config.encoding) == ("config", Type.STRING, Encoding.GZIP)
    assert not config.writable


def test_releases_before_4_14_have_none(boot: Boot) -> None:
    xen = boot("4.10").xen
    for ask in (lambda: xen.hypfs.version, lambda: xen.hypfs.read("/params"), lambda: list(xen.hypfs.walk())):
        with pytest.raises(errors.Unsupported):
            ask()


def test_the_version_of_its_interface(host: Host) -> None:
    assert host.xen.hypfs.version == 1
