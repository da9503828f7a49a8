# SPDX-License-Identifier: MIT
"""Disks and network interfaces of guests, on the command line."""

from __future__ import annotations

import pytest


@pytest.fixture
def served(host):
    host.serve_devices()
    return host


def test_a_disk(pyxc, served):
    assert pyxc("block-attach", "web1", "phy:/dev/vg/data,xvdb,w") == (0, "", "")
    served.script(1).use("vbd", 51728)
    assert pyxc("block-list", "web1", "db1").out.splitlines() == [
        "Vdev  BE  handle state evt-ch ring-ref BE-path",
        "51728 0   1      4     9      8        /local/domain/0/backend/vbd/1/51728",
    ]
    assert pyxc("block-detach", "web1", "xvdb") == (0, "", "")
    assert len(pyxc("block-list", "web1").out.splitlines()) == 1
    assert pyxc("block-detach", "web1", "xvdb").status == 1


def test_a_disk_that_the_guest_keeps(pyxc, served):
    pyxc("block-attach", "web1", "/srv/a.img", "raw", "xvda")
    served.script(1).use("vbd", 51712, stubborn=True)
    outcome = pyxc("block-detach", "--timeout", "0.05", "web1", "51712")
    assert outcome.status == 1
    assert "has not let go of vbd 51712" in outcome.err
    assert pyxc("block-detach", "--force", "web1", "51712").status == 0


def test_a_network_interface(pyxc, served):
    assert pyxc("network-attach", "web1", "mac=00:16:3E:0A:0B:0C", "bridge=br1").status == 0
    shown = pyxc("network-list", "web1", "--json").json["devices"]
    assert [(one["mac"], one["number"], one["state"]) for one in shown] == [
        ("00:16:3e:0a:0b:0c", 0, "initialising")
    ]
    row = pyxc("network-list", "web1").out.splitlines()[1].split()
    assert row[:4] == ["0", "0", "00:16:3e:0a:0b:0c", "0"]
    served.script(1).use("vif", 0)
    assert pyxc("network-detach", "web1", "00:16:3e:0a:0b:0c").status == 0
    assert pyxc("network-detach", "web1", "00:16:3e:0a:0b:0c").status == 1


def test_what_is_not_supported(pyxc, served):
    assert pyxc("block-attach", "web1", "qcow2:/a,xvda,w").status == 1
    assert pyxc("network-attach", "web1", "script=/x").status == 1
    assert pyxc("block-list", "nobody").status == 5


def test_a_guest_is_created_with_devices(pyxc, served, guest_config):
    assert pyxc("create", "-q", guest_config, "disk=['phy:/dev/a,xvda,w']", "vif=['']").status == 0
    assert len(pyxc("block-list", "shop").out.splitlines()) == 2
    assert pyxc("destroy", "shop").status == 0
    assert served.store.tree.get("/local/domain/0/backend/vbd/4") is None
