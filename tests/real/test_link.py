# SPDX-License-Identifier: MIT
"""Opening the device, and everything that its link offers."""

from __future__ import annotations

import errno
import os
from array import array
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import pyxc
from pyxc.abi import memory
from pyxc.link import privcmd

GRANT_TABLE = int(memory.Resource.GRANT_TABLE)


def test_says_what_it_is(xen: pyxc.Xen) -> None:
    assert repr(xen.link).startswith("<PrivcmdLink /dev/xen/privcmd")
    assert ("64-bit gate" in repr(xen.link)) == xen.link.gated
    assert xen.link.byteorder == "little"


def test_closed_handle_is_refused() -> None:
    xen = pyxc.open(names=False)
    xen.close()
    xen.close()
    with pytest.raises(ValueError, match="closed"):
        xen.physinfo()


def test_closing_twice_leaves_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    pyxc.open(names=False).close()
    assert os.listdir("/proc/self/fd") == before


def test_devices_are_not_inherited() -> None:
    with pyxc.open(names=False):
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
        devices = [number for number in numbers if _target(number).startswith("/dev/xen/")]
        assert devices
        assert not any(os.get_inheritable(number) for number in devices)


def _target(number: int) -> str:
    """What a descriptor of this process is open on; nothing for the one that listed them."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""


@pytest.mark.needs_xen(4, 12)
def test_grant_table_of_an_empty_domain(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    assert xen.link.resource_size(pv.domid, GRANT_TABLE, 0) >= 1
    entry = b"\x01\x00\x00\x00\x34\x12\x00\x00"
    with (
        xen.link.map_resource(pv.domid, GRANT_TABLE, 0, 0, 1, writable=True) as table,
        memoryview(table) as view,
    ):
        before = bytes(view)
        view[64:72] = entry
    with xen.link.map_resource(pv.domid, GRANT_TABLE, 0, 0, 1) as table:
        assert bytes(table) == before[:64] + entry + before[72:]


@pytest.mark.needs_xen(4, 12)
def test_resources_that_are_not_there(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    with pytest.raises(OSError) as caught:
        xen.link.map_resource(pv.domid, 77, 0, 0, 1)
    assert caught.value.errno == (errno.EINVAL if xen.interface.xen >= (4, 20) else errno.EOPNOTSUPP)
    with pytest.raises(OSError) as caught:
        xen.link.map_resource(0x7000, GRANT_TABLE, 0, 0, 1)
    assert caught.value.errno == errno.ESRCH


def test_frames_of_a_domain_that_is_not_there(xen: pyxc.Xen) -> None:
    with pytest.raises(OSError) as caught, xen.link.map_frames(0x7000, array("Q", [1])) as mapped:
        bytes(mapped)
    assert caught.value.errno == errno.ESRCH


def test_no_permission() -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(pyxc.NotXenError, match="run as root") as caught:
            pyxc.open()
    finally:
        os.seteuid(0)
    assert caught.value.errno == errno.EACCES
    assert caught.value.filename == "/dev/xen/privcmd"


def _open_at(monkeypatch: pytest.MonkeyPatch, path: Path | str) -> pyxc.NotXenError:
    monkeypatch.setattr(privcmd._core, "Privcmd", partial(privcmd._core.Privcmd, str(path)))
    with pytest.raises(pyxc.NotXenError) as caught:
        pyxc.open()
    return caught.value


def test_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = _open_at(monkeypatch, tmp_path / "privcmd")
    assert "not a Xen dom0" in str(error)
    assert error.errno == errno.ENOENT


def test_device_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    error = _open_at(monkeypatch, tmp_path)
    assert "cannot open" in str(error)
    assert error.errno == errno.EISDIR


def test_device_that_is_not_privcmd(monkeypatch: pytest.MonkeyPatch) -> None:
    error = _open_at(monkeypatch, "/dev/null")
    assert error.errno == errno.ENOTTY


class _Refusing:
    """A device on which the first hypercall fails: what dom0 does not show."""

    def __init__(self, number: int) -> None:
        self.probe_errno = number

    def close(self) -> None:
        self.probe_errno = 0


@pytest.mark.parametrize(
    ("number", "capabilities", "said"),
    [
        (errno.EPERM, "control_d\n", "restricts privcmd"),
        (errno.EPERM, "\n", "not dom0"),
        (errno.EACCES, None, "not dom0"),
        (errno.EIO, "control_d\n", "does not respond"),
    ],
)
def test_refused_hypercalls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, capabilities: str | None, said: str
) -> None:
    file = tmp_path / "capabilities"
    if capabilities is not None:
        file.write_text(capabilities)
    monkeypatch.setattr(privcmd, "CAPABILITIES", str(file))
    monkeypatch.setattr(privcmd, "_core", SimpleNamespace(Privcmd=lambda gate: _Refusing(number)))
    with pytest.raises(pyxc.NotXenError, match=said) as caught:
        pyxc.open()
    assert caught.value.errno == number
