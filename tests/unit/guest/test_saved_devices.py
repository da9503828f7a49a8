# SPDX-License-Identifier: MIT
"""Disks and network interfaces of guests that are saved and restored."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hosts import Boot, Host
from saves import OTHER_UUID, events, saved

import pyxc
from pyxc import DecodeError, errors, sim
from pyxc.guest import saved_devices, stream
from pyxc.guest.config import GuestConfig
from pyxc.guest.config_devices import Disk, Vif
from pyxc.guest.devices import Devices, State
from pyxc.guest.launch import launch

DISK = Disk.parse("phy:/dev/vg/shop,xvda,w")
READ_ONLY = Disk.parse("/srv/data.img,raw,xvdb,r")
VIF = Vif.parse("mac=00:16:3e:01:02:03,bridge=xenbr1,vifname=shop0")


def shop(host: Host, **options: Any) -> pyxc.Domain:
    host.truth.serve_devices()
    config = GuestConfig("shop", sim.kernel("pvh"), memory_kb=8192, max_memory_kb=8192, **options)
    made = launch(host.xen, config)
    made.unpause()
    return made


def attached(domain: pyxc.Domain) -> list[tuple[Any, ...]]:
    return [(device.kind, device.number, device.target, device.mac) for device in Devices(domain)]


def test_it_has_them_again(boot: Boot) -> None:
    here, there = boot(), boot()
    made = shop(here, disks=(DISK, READ_ONLY), vifs=(VIF,))
    data = saved(made)
    there.truth.serve_devices()
    again = there.xen.restore(io.BytesIO(data))
    assert attached(again) == attached(made)
    assert len(attached(again)) == 3
    back = f"/local/domain/0/backend/vbd/{again.domid}"
    read = there.xen.store.read
    assert [read(f"{back}/{number}/mode") for number in (51712, 51728)] == [b"w", b"r"]
    vif = f"/local/domain/0/backend/vif/{again.domid}/0"
    assert (read(f"{vif}/bridge"), read(f"{vif}/vifname")) == (b"xenbr1", b"shop0")
    there.truth.script(again.domid).use("vbd", 51712)
    assert Devices(again).list("vbd")[0].state is State.CONNECTED
    again.destroy()
    assert read(back) is None


def test_without_them(host: Host) -> None:
    made = shop(host, disks=(DISK,))
    data = saved(made)
    made.destroy()
    assert attached(host.xen.restore(io.BytesIO(data), devices=False)) == []


def test_a_disk_that_another_guest_uses(host: Host) -> None:
    """Its own copy, for example: both would write to it."""
    made = shop(host, disks=(DISK,))
    data = saved(made, resume=True)
    before = set(host.xen.domains)
    copy = {"uuid": OTHER_UUID, "name": "shop2"}
    with pytest.raises(
        ValueError, match="uses the disk /dev/vg/shop, too: restore this guest without its devices"
    ):
        host.xen.restore(io.BytesIO(data), **copy)
    assert set(host.xen.domains) == before
    assert attached(host.xen.restore(io.BytesIO(data), devices=False, **copy)) == []


def test_both_may_read(host: Host) -> None:
    data = saved(shop(host, disks=(READ_ONLY,)), resume=True)
    again = host.xen.restore(io.BytesIO(data), uuid=OTHER_UUID, name="shop2")
    assert [number for _, number, *_ in attached(again)] == [51728]


def test_no_driver_there(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing: a guest without its disk is not what was saved."""
    data, there = saved(shop(boot(), disks=(DISK,))), boot()
    before = set(there.xen.domains)
    monkeypatch.setattr(Devices.attach_disk, "__defaults__", (0.01,))
    with pytest.raises(TimeoutError, match="is xen-blkback loaded") as refused:
        there.xen.restore(io.BytesIO(data))
    assert "--no-devices" in refused.value.__notes__[0]
    assert set(there.xen.domains) == before
    assert "shop" not in there.xen.domains


def test_a_disk_that_qemu_serves_another_guest(host: Host) -> None:
    """As xl has it do for image files."""
    data = saved(shop(host, disks=(READ_ONLY,)), resume=True)
    back = "/local/domain/0/backend/qdisk/1/51712"
    host.xen.store.write(f"{back}/params", "aio:/srv/data.img")
    host.xen.store.write(f"{back}/mode", "w")
    with pytest.raises(ValueError, match="domain 1 uses the disk /srv/data.img"):
        host.xen.restore(io.BytesIO(data), uuid=OTHER_UUID, name="shop2")


OF_XL = {
    "disks": [
        {"pdev_path": "/dev/vg/web", "vdev": "xvda", "backend": "phy", "format": "raw", "readwrite": 1},
        {"vdev": "hdc", "format": "empty", "is_cdrom": 1},
    ],
    "nics": [{"devid": 0, "mac": "00:16:3e:00:00:01", "bridge": "xenbr0", "nictype": "vif"}],
}


def test_as_libxl_says_it() -> None:
    found = saved_devices.decode(OF_XL)
    assert found.disks == (Disk("/dev/vg/web", "xvda", 51712, True),)
    assert found.vifs == (Vif("00:16:3e:00:00:01", "xenbr0", None),)
    assert found.others == ()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"disks": [{"pdev_path": "/x", "vdev": "xvda", "format": "qcow2"}]},
            "format 'qcow2' is not supported",
        ),
        ({"disks": [{"pdev_path": "/x", "vdev": "sdz99"}]}, "beyond the disks"),
        ({"disks": [{"pdev_path": "../x", "vdev": "xvda"}]}, "not an absolute path"),
        ({"disks": [{"pdev_path": 7, "vdev": "xvda"}]}, "no name or no target"),
        ({"disks": [{"pdev_path": "/x", "vdev": "xvda", "backend_domid": 3}]}, "backend_domid 3"),
        ({"disks": [{"pdev_path": "/x", "vdev": "xvda", "script": "block-drbd"}]}, "script 'block-drbd'"),
        ({"nics": [{"mac": "x,bridge=y"}]}, "not the names of one"),
        ({"nics": [{"mac": "01:00:00:00:00:00"}]}, "is not a unicast address"),
        ({"nics": [{"nictype": "vif_ioemu"}]}, "nictype 'vif_ioemu'"),
        ({"p9s": [{"tag": "share"}]}, "p9s"),
    ],
)
def test_what_cannot_be_attached(host: Host, config: dict[str, Any], message: str) -> None:
    found = saved_devices.decode(config)
    assert (found.disks, found.vifs) == ((), ())
    (text,) = found.others
    assert message in text
    data = of_stranger(saved(shop(host)), config)
    with pytest.raises(errors.Unsupported, match="--no-devices"):
        host.xen.restore(io.BytesIO(data), uuid=OTHER_UUID, name="shop2")
    host.xen.restore(io.BytesIO(data), uuid=OTHER_UUID, name="shop2", devices=False)


@pytest.mark.parametrize("value", [7, {"vdev": "xvda"}, ["xvda"], [{}] * 257])
def test_what_is_no_list_of_devices(value: Any) -> None:
    with pytest.raises(DecodeError, match="disks of the guest's configuration is not a list"):
        saved_devices.decode({"disks": value})


def of_stranger(data: bytes, devices: dict[str, Any]) -> bytes:
    writer = stream.Writer()
    return b"".join(
        bytes(piece)
        for event in events(data)
        for piece in writer.encode(_with(event, devices) if isinstance(event, stream.XlHeader) else event)
    )


def _with(header: stream.XlHeader, devices: dict[str, Any]) -> stream.XlHeader:
    config = {**(header.settings() or {}), **devices}
    return header._replace(config=json.dumps(config).encode() + b"\0")
