# SPDX-License-Identifier: MIT
"""A simulated host that a file keeps from one program to the next."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import pytest

import pyxc
from pyxc import sim
from pyxc.cli import main
from pyxc.sim import kept


@pytest.fixture
def target(tmp_path):
    return f"sim:xen-4.17@{tmp_path}/host"


def test_what_one_program_does_the_next_one_finds(target):
    with pyxc.open(target) as xen:
        xen.domains["web1"].pause()
        xen.domains["db1"].destroy()
        frame = xen.domains["build"].memory.frames()[-1]
        xen.domains["build"].memory.write(frame, b"kept")
        xen.store.write("/tool/x", "5")
        made = xen.domains.create(hvm=True, hap=True).domid
    with pyxc.open(target) as xen:
        assert xen.domains["web1"].info().paused
        assert sorted(xen.domains) == [0, 1, 3, made]
        assert xen.store.read("/tool/x") == b"5"
        assert xen.domains["build"].memory.read(frame, size=4) == b"kept"


@pytest.mark.parametrize("name", sorted(sim.PROFILES))
def test_every_host_can_be_kept(tmp_path, name):
    if name == "sim:ppc64-64g":
        pytest.skip("a large one of the same kind")
    target = f"{name}@{tmp_path}/host"
    with pyxc.open(target) as xen:
        before = xen.domains.infos()
        xen.domains["web1"].pause()
    with pyxc.open(target) as xen:
        after = xen.domains.infos()
        assert xen.link.target == target
    assert [info.domid for info in after] == [info.domid for info in before]
    assert after[1].paused


def test_devices_still_have_their_drivers(target, tmp_path, capsys):
    assert main(["--target", target, "block-attach", "web1", "phy:/dev/a,xvdb,w"]) == 0
    assert main(["--target", target, "block-list", "web1"]) == 0
    assert "51728" in capsys.readouterr().out


def test_guests_are_linux_ones(target, tmp_path, capsys):
    def pyxc(*words):
        assert main(["--target", target, *words]) == 0
        return capsys.readouterr().out

    (tmp_path / "kernel").write_bytes(sim.kernel("pvh"))
    (tmp_path / "shop.cfg").write_text(f"name='shop'; kernel='{tmp_path}/kernel'; memory=64; vcpus=2")
    pyxc("create", str(tmp_path / "shop.cfg"))
    assert "shop login: " in pyxc("console", "--last", "shop")
    pyxc("vcpu-set", "shop", "1")
    pyxc("mem-set", "--wait", "shop", "32")
    assert " 32     1 " in pyxc("list", "shop")
    pyxc("block-attach", "shop", "phy:/dev/a,xvdb,w")
    pyxc("block-detach", "shop", "xvdb")
    pyxc("save", "shop", str(tmp_path / "shop.save"))
    pyxc("restore", str(tmp_path / "shop.save"))
    assert "has been shut down, reason code 1" in pyxc("reboot", "--wait", "shop")


def test_a_command_that_fails_is_kept_too(target):
    assert main(["--target", target, "pause", "web1", "nosuch"]) == 7
    with pyxc.open(target) as xen:
        assert xen.domains["web1"].info().paused


def test_the_default_profile_takes_any_host(tmp_path):
    with pyxc.open(f"sim:xen-4.4@{tmp_path}/host"):
        pass
    with pyxc.open(f"sim:@{tmp_path}/host") as xen:
        assert xen.version[:2] == (4, 4)
    with pytest.raises(ValueError, match="another profile"):
        pyxc.open(f"sim:xen-4.10@{tmp_path}/host")


def test_programs_have_it_one_after_the_other(target):
    pause = [sys.executable, "-m", "pyxc", "--target", target, "pause", "web1"]
    running = [subprocess.Popen(pause) for _ in range(4)]
    assert [process.wait(120) for process in running] == [0] * 4
    with pyxc.open(target) as xen:
        for _ in range(4):
            assert xen.domains["web1"].info().paused
            xen.domains["web1"].unpause()
        assert not xen.domains["web1"].info().paused


def test_nothing_but_the_file_is_left(target, tmp_path):
    with pyxc.open(target):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["host"]
    assert (tmp_path / "host").stat().st_mode & 0o777 == 0o600


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/pyxc-evil",)


class Sly:
    def __reduce__(self):
        return getattr, (sim.Hypervisor, "__init__")


@pytest.mark.parametrize(
    "data",
    [b"no host", kept._MAGIC, kept._MAGIC + pickle.dumps(Evil()), kept._MAGIC + pickle.dumps(Sly()),
     kept._MAGIC + pickle.dumps(5), kept._MAGIC + b"\x80\x05cpyxc.sim.kept\nos.system\n."],
)  # fmt: skip
def test_a_file_that_is_no_host(tmp_path, data):
    (tmp_path / "host").write_bytes(data)
    (tmp_path / "host").chmod(0o600)
    with pytest.raises(ValueError, match="host"):
        pyxc.open(f"sim:@{tmp_path}/host")
    assert (tmp_path / "host").read_bytes() == data
    assert not os.path.exists("/tmp/pyxc-evil")


def test_a_file_that_others_can_write(tmp_path):
    (tmp_path / "host").touch()
    (tmp_path / "host").chmod(0o666)
    with pytest.raises(PermissionError, match="others"):
        pyxc.open(f"sim:@{tmp_path}/host")


def test_targets_that_are_refused(tmp_path):
    with pytest.raises(ValueError, match="names no file"):
        pyxc.open("sim:@")
    with pytest.raises(ValueError, match="use open"):
        pyxc.open_store(f"sim:@{tmp_path}/host")
    with pytest.raises(ValueError, match="not a simulated hypervisor"):
        pyxc.open(f"sim:xen-9@{tmp_path}/host")
