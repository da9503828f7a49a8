# SPDX-License-Identifier: MIT
"""Lists of xl and its neighbours, in their formats, and the options that xl has."""

from __future__ import annotations

import time

import pytest

from pyxc import Trigger, connect

WEB1 = "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"


def rows(outcome):
    assert (outcome.status, outcome.err) == (0, "")
    return outcome.out.splitlines()


def test_vm_list(pyxc, host):
    header, _, web, *_ = rows(pyxc("vm-list"))
    assert header == "UUID                                  ID    name"
    assert web == f"{WEB1}  1    {'web1':30}"
    assert pyxc("vm-list", "--json").json["domains"][1] == {"domid": 1, "name": "web1", "uuid": WEB1}


def test_sharing(pyxc, host):
    header, web = rows(pyxc("sharing", "web1"))
    assert header == "Name                                        ID   Mem Shared"
    assert web == f"{'web1':40}     1    64      0"
    assert pyxc("sharing", "web1", "--json").json["domains"][0]["shared_memory_kb"] == 0


def test_uptime(pyxc, host, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    host.store.write(f"/vm/{WEB1}/start_time", str(1_800_000_000 - 2 * 86400 - 3 * 3600 - 245.5))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "uptime").write_text("86461.25 1.0\n")
    host.kernel_files = str(tmp_path)
    header, dom0, web, db, _ = rows(pyxc("uptime"))
    assert header == f"{'Name':33} {'ID':>4} Uptime"
    assert dom0 == f"{'Domain-0':33}    0 1 day,  0:01:01"
    assert web == f"{'web1':33}    1 2 days,  3:04:05"
    assert db.endswith("unknown")
    (short,) = rows(pyxc("uptime", "-s", "1"))
    assert short.endswith(" up 2 days,  3:04, web1 (1)")
    assert pyxc("uptime", "1", "2", "--json").json["domains"][0]["uptime_s"] == 183845


@pytest.mark.parametrize("start", ["", "soon", "nan", "1e999", "9" * 400])
def test_a_start_time_that_is_none(pyxc, host, start):
    host.store.write(f"/vm/{WEB1}/start_time", start)
    outcome = pyxc("uptime", "web1")
    assert outcome.status == 0
    assert "web1" in outcome.out


def test_lsevtchn(pyxc, host):
    lines = rows(pyxc("lsevtchn", "web1"))
    assert lines[0] == "   1: VCPU 0: Interdomain (Connected) - Remote Domain 0, Port 5"
    assert pyxc("lsevtchn", "web1", "--json").json["channels"][0]["status"] == "interdomain"


def test_list_with_more_columns(pyxc, host):
    plain = rows(pyxc("list"))
    header, dom0, *_ = rows(pyxc("list", "-Z", "-c", "-n"))
    assert header == plain[0] + "   Security Label         Cpupool NODE Affinity"
    assert dom0.endswith(f"{'-':>16}{'Pool-0':>16} all")
    assert pyxc("list", "-l").json["domains"][1]["name"] == "web1"


def test_list_with_labels(pyxc, guarded):
    header, dom0, *_ = rows(pyxc("list", "-Z"))
    assert header.endswith("Time(s)   Security Label")
    assert dom0.endswith(" system_u:system_r:dom0_t")
    assert rows(pyxc("list", "-v", "-Z"))[0] == rows(pyxc("list", "-v"))[0]


def test_info_with_numa(pyxc, host):
    lines = rows(pyxc("info", "-n"))
    start = lines.index("cpu_topology           :")
    assert lines[start + 1 : start + 3] == [
        "cpu:    core    socket     node",
        "  0:       0        0        0",
    ]
    nodes = lines.index("numa_info              :")
    assert lines[nodes + 1] == "node:    memsize    memfree    distances"
    assert lines[nodes + 2].split() == ["0:", "2047", "615", "10"]
    assert nodes < lines.index(next(line for line in lines if line.startswith("xen_major")))
    assert pyxc("info", "-n", "--json").json["numa_nodes"][0]["distances"] == [10]


def test_channels(pyxc, host):
    place = "/local/domain/1/device/console/1"
    for key, value in {"name": "agent", "backend-id": "0", "state": "4", "port": "9", "ring-ref": "12",
                       "connection": "pty", "tty": "/dev/pts/3"}.items():  # fmt: skip
        host.store.write(f"{place}/{key}", value)
    header, line = rows(pyxc("channel-list", "web1"))
    assert header == "Idx BE state evt-ch ring-ref connection"
    assert line == "1   0  4     9            12 pty        /dev/pts/3"
    assert pyxc("channel-list", "web1", "--json").json["channels"][0]["name"] == "agent"


def test_pci(pyxc, host, tmp_path):
    place = "/local/domain/0/backend/pci/1/0"
    for key, value in {
        "num_devs": "2",
        "dev-0": "0000:03:00.0",
        "vdevfn-0": "32",
        "dev-1": "rubbish",
    }.items():
        host.store.write(f"{place}/{key}", value)
    assert rows(pyxc("pci-list", "web1")) == ["Vdev Device", "04.0 0000:03:00.0"]
    driver = tmp_path / "sys/bus/pci/drivers/pciback"
    for name in ("0000:03:00.0", "0000:04:00.1", "new_slot"):
        (driver / name).mkdir(parents=True)
    host.kernel_files = str(tmp_path)
    assert rows(pyxc("pci-assignable-list")) == ["0000:04:00.1"]


@pytest.mark.parametrize("count", ["-1", "99999999999", "x", "4294967295"])
def test_pci_devices_of_a_hostile_store(pyxc, host, count):
    host.store.write("/local/domain/0/backend/pci/1/0/num_devs", count)
    assert rows(pyxc("pci-list", "web1")) == []


def test_pools_in_xls_syntax(pyxc, host):
    pyxc("cpupool-cpu-remove", "0", "1")
    assert pyxc("cpupool-create", 'name="fast"', 'sched="credit"', 'cpus=["1"]').out == "1\n"
    found = pyxc("cpupool-list", "fast", "--json").json["pools"][0]
    assert (found["scheduler"], found["cpus"]) == ("credit", [1])
    for wrong in ("name", "colour=red", "sched=fair", "name="):
        assert pyxc("cpupool-create", wrong).status == 2


def test_a_pool_for_each_node(pyxc, host):
    assert pyxc("cpupool-numa-split").status == 0
    assert rows(pyxc("cpupool-list"))[1].startswith("Pool-node0 ")
    pyxc("cpupool-create")
    assert "there are cpu pools already" in pyxc("cpupool-numa-split").err


def test_pinning_by_force(pyxc, host):
    assert pyxc("vcpu-pin", "-f", "web1", "0", "1").status == 0
    assert pyxc("--target", "sim:xen-4.4", "vcpu-pin", "-f", "web1", "0", "1").status in (0, 6)
    assert sorted(connect(host.connect()).domains["web1"].vcpu(0).affinity().hard) == [1]


def test_a_button(pyxc, host):
    assert pyxc("button-press", "db1", "power").status == 0
    assert host.domains[2].triggered == [(Trigger.POWER, 0)]
    assert pyxc("button-press", "db1", "reset").status == 2


def test_parameters(pyxc, host):
    assert pyxc("set-parameters", "gnttab_max_frames=3", "x").status == 2
    assert pyxc("set-parameters", "loglvl=none guest_loglvl=all").status in (0, 1)
    assert "loglvl" in pyxc("hypfs", "ls", "/params").out


def test_a_dump_without_a_name(pyxc, host, tmp_path, monkeypatch):
    monkeypatch.setattr("pyxc.cli.commands.dump._DUMPS", str(tmp_path / "dump"))
    host.store.write("/local/domain/3/name", "../../etc/x y")
    outcome = pyxc("dump-core", "3", "--json", "--provenance", "none")
    assert outcome.status == 0
    (file,) = (tmp_path / "dump").iterdir()
    assert outcome.json["file"] == str(file)
    assert file.name.startswith("_.._etc_x_y-3-")


def test_nodes_that_exist(pyxc, host):
    store = ("--target", "sim:", "store")
    assert pyxc(*store, "exists", "/local", "/tool").status == 0
    assert pyxc(*store, "exists", "/local", "/nosuch").status == 1


def test_permissions(pyxc, host):
    store = ("--target", "sim:", "store")
    for path in ("/local/domain/1/data", "/local/domain/1/data/a"):
        host.store.write(path, "x")
    assert pyxc(*store, "chmod", "-r", "/local/domain/1/data", "n0", "r2").status == 0
    for path in ("/local/domain/1/data", "/local/domain/1/data/a"):
        assert [str(one) for one in connect(host.connect()).store.permissions(path)] == ["n0", "r2"]
    assert pyxc(*store, "chmod", "-u", "/local/domain/1/data", "r0").status == 0
    assert [str(one) for one in connect(host.connect()).store.permissions("/local")] == ["r0"]
    assert pyxc(*store, "chmod", "/nosuch", "n0").status == 1
    assert pyxc(*store, "chmod", "/tool", "x0").status == 2


def test_a_guest_that_does_not_suspend(pyxc, host):
    assert pyxc("suspend", "web1", "--timeout", "0.01").status == 1


def test_a_plan_for_a_device(pyxc, host, tmp_path):
    pci = tmp_path / "sys/bus/pci"
    (pci / "devices/0000:03:00.0").mkdir(parents=True)
    for driver in ("pciback", "e1000e"):
        (pci / "drivers" / driver).mkdir(parents=True)
    (pci / "devices/0000:03:00.0/driver").symlink_to(pci / "drivers/e1000e")
    host.kernel_files = str(tmp_path)
    planned = pyxc("pci-assignable-add", "--dry-run", "03:00.0").out.splitlines()
    assert planned == [
        f"echo 0000:03:00.0 > {pci}/drivers/{file}"
        for file in ("e1000e/unbind", "pciback/new_slot", "pciback/bind")
    ]
    assert pyxc("pci-assignable-remove", "--dry-run", "03:00.0").out == ""
    assert pyxc("pci-assignable-add", "3.0").status == 2
    assert pyxc("pci-assignable-add", "05:00.0").status == 1
    (pci / "drivers/pciback/0000:03:00.0").mkdir()
    host.store.write("/libxl/pci/0000-03-00-0/name", "card")
    assert rows(pyxc("pci-assignable-list", "-n")) == ["0000:03:00.0 card"]
