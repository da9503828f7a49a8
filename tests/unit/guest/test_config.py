# SPDX-License-Identifier: MIT
"""xl's configuration files: what they may say, and how what they may not say is reported."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from pyxc import TscMode, VnumaRange, errors
from pyxc.guest import config_syntax, config_vnuma
from pyxc.guest.config import Actions, GuestConfig
from pyxc.guest.config_devices import Disk, Vif, vdev_number

FULL = """\
# A web server
name = "web"; type = 'pvh'
uuid = "11111111-2222-3333-4444-555555555555"
kernel = "/boot/vmlinuz"
ramdisk = '/boot/initrd.img'
root = "/dev/xvda1"
extra = "ro"
extra += " quiet"
memory = 512
maxmem = 0x400
vcpus = 02              # octal, as xl reads it
maxvcpus = "4"
cpus = [ "0-1",
         '^0,1', # of vcpu 1
       ]
pool = "Pool-0"
cpu_weight = 512
cap = 50
tsc_mode = "native"
on_crash = 'coredump-restart'
on_poweroff = "preserve"
disk = [ 'phy:/dev/vg/web,xvda,w', "/srv/web.img,raw,xvdb,r" ]
vif = ['mac=00:16:3E:01:02:03,bridge=br1', '']
"""


def settings(text: str) -> dict[str, config_syntax.Value]:
    return {key: setting.value for key, setting in config_syntax.parse(text).items()}


def test_a_whole_file() -> None:
    config = GuestConfig.parse(FULL, ["memory=256", "name=web2"])
    assert config == GuestConfig(
        name="web2",
        kernel="/boot/vmlinuz",
        kind="pvh",
        uuid=UUID("11111111-2222-3333-4444-555555555555"),
        ramdisk="/boot/initrd.img",
        command_line="root=/dev/xvda1 ro quiet",
        memory_kb=256 << 10,
        max_memory_kb=1024 << 10,
        vcpus=2,
        max_vcpus=4,
        cpus=("0-1", "^0,1"),
        pool="Pool-0",
        weight=512,
        cap=50,
        tsc_mode=TscMode.NEVER_EMULATE,
        actions=Actions(poweroff="preserve", crash="coredump-restart"),
        disks=(Disk("/dev/vg/web", "xvda", 51712, True), Disk("/srv/web.img", "xvdb", 51728, False)),
        vifs=(Vif("00:16:3e:01:02:03", "br1"), Vif()),
    )


def test_what_is_not_said_is_as_in_xl() -> None:
    config = GuestConfig.parse('name="a"\nkernel="/k"')
    assert (config.memory_kb, config.max_memory_kb) == (32 << 10, 32 << 10)
    assert (config.vcpus, config.max_vcpus) == (1, 1)
    assert config.actions == Actions("destroy", "restart", "destroy", "destroy")
    config = GuestConfig.parse('name="a"\nkernel="/k"\nmaxmem=64\nmaxvcpus=3\ncmdline="c"\nextra="e"')
    assert (config.memory_kb, config.vcpus, config.command_line) == (64 << 10, 3, "c")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", "1"),
        ("a = 'x'", "x"),
        ("a='it\\'s'", "it's"),
        ('a="\\x41\\102\\n\\t\\\\"', "AB\n\t\\"),
        ("a='#no comment;'", "#no comment;"),
        ("a=[]", []),
        ("a=[1,'b',[\"c\",],\n\n]", ["1", "b", ["c"]]),
        ("a='x'\na='y'", "y"),
        ("a='x'\na+='y'", "xy"),
        ("a+=['x']\na+=['y']", ["x", "y"]),
        ("a=1;;\n;\n", "1"),
        ("a=1 # end", "1"),
        ("a='é'", "é"),
    ],
)
def test_the_language(text: str, value: config_syntax.Value) -> None:
    assert settings(text) == {"a": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=1\nb=x", ":2: 'x' stands where a value"),
        ("A=1", ":1: 'A=1' cannot be read"),
        ("a 1", ":1: = is expected after a"),
        ("\n\na=", ":3: the end of the line stands"),
        ("a='x", ':1: "\'x" cannot be read'),
        ("a='x\ny'", ':1: "\'x" cannot be read'),
        ("a=1 2", ":1: '2' after the value of a"),
        ("a=[1 2]", ":1: '2' in a list"),
        ("a=[1,\n2\n", ":3: '' in a list"),
        ("=1", ":1: '=' stands where a key"),
        ("a='\\q'", r":1: \\q is no escape"),
        ("a=1\na+=[1]", ":2: a is a list and a string"),
        ("a=" + "[" * 9 + "]" * 9, "nested more than 8"),
        ("a='" + "x" * (1 << 20) + "'", "no configuration"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        config_syntax.parse(text)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("vnc = 1", "test.cfg:3: vnc is not supported"),
        ("memroy = 1", "test.cfg:3: memroy is not supported; did you mean 'memory'?"),
        ("bootloader='pygrub'", "test.cfg:3: bootloader is not supported: name the kernel itself"),
        ("type='hvm'", "test.cfg:3: type: 'hvm' guests are not supported"),
        ("builder='hvm'", "test.cfg:3: builder: 'hvm'"),
        ("memory='lots'", "test.cfg:3: memory must be a number"),
        ("memory=09", "test.cfg:3: memory is 09, which is not octal"),
        ("memory=0", "test.cfg:3: memory must be from 1"),
        ("memory=[1]", "test.cfg:3: memory must be a number"),
        ("memory=2\nmaxmem=1", "test.cfg: memory is above maxmem"),
        ("vcpus=2\nmaxvcpus=1", "test.cfg: vcpus is above maxvcpus"),
        ("on_crash='explode'", "test.cfg:3: on_crash: 'explode' is not supported: expected one of destroy"),
        ("disk='x'", "test.cfg:3: disk must be a list of strings"),
        ("disk=[['x']]", "test.cfg:3: disk must be a list of strings"),
        ("disk=['qcow2:/a,xvda,w']", "test.cfg:3: disk .*qcow2: is not supported"),
        ("vif=['model=e1000']", "test.cfg:3: vif .*model=e1000 is not supported"),
        ("vnuma=[]", "test.cfg:3: vnuma: expected a list of 1 to 32 nodes"),
        ("vnuma=['pnode=0']", "test.cfg:3: vnuma: expected a list for each node"),
        ("vnuma=[['pnode=0','size=8']]", "test.cfg:3: vnuma: a node has no vcpus"),
        ("vnuma=[['pnode=0','size=8','vcpus=1']]", "test.cfg:3: vnuma: each vcpu, from 0 on"),
        ("vnuma=[['pnode=0','size=8','vcpus=0','vdistances=10,20']]", "one distance for each of the 1 nodes"),
        ("vnuma=[['pnode=x','size=8','vcpus=0']]", "test.cfg:3: vnuma: 'x' is not a number up to 63"),
        ("vnuma=[['pnode=0','size=8','vcpus=0','a=1']]", "test.cfg:3: vnuma: 'a=1' is not supported"),
        ("vnuma=[['pnode=0','size=8','vcpus=0']]", "test.cfg: vnuma needs type"),
        ("type='pv'\nmemory=9\nvnuma=[['pnode=0','size=8','vcpus=0']]", "test.cfg: memory or vcpus are not"),
        ("uuid='1'", "test.cfg:3: uuid: '1' is not a UUID"),
        ("name='12'", "test.cfg:3: name: '12' cannot be a name"),
        ("kernel='a\\x00b'", "test.cfg:3: kernel must be a string"),
        ("name=''", "test.cfg:3: name: '' cannot be a name"),
        ("kernel=''", "test.cfg: kernel is not given"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(more: str, message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        GuestConfig.parse(f'name="a"\nkernel="/k"\n{more}', name="test.cfg")


def test_virtual_nodes() -> None:
    text = "vnuma = [['pnode=0', 'size=3000', 'vcpus=0,2-3'], ['pnode=1', 'size=2000', 'vcpus=1']]"
    config = GuestConfig.parse(f'name="a"\nkernel="/k"\ntype="pvh"\n{text}')
    assert (config.memory_kb, config.max_vcpus) == (5000 << 10, 4)
    found = config_vnuma.topology(config.vnuma, "pvh")
    assert found is not None
    assert (found.distances, found.physical_nodes) == (((10, 20), (20, 10)), (0, 1))
    assert found.vcpu_nodes == (0, 1, 0, 0)
    hole = (0xFC000 << 12, 1 << 32)
    assert found.ranges == (
        VnumaRange(0, 3000 << 20, 0),
        VnumaRange(3000 << 20, hole[0], 1),
        VnumaRange(hole[1], hole[1] + (5000 << 20) - hole[0], 1),
    )
    plain = config_vnuma.topology(config.vnuma, "pv")
    assert plain is not None
    assert plain.ranges == (VnumaRange(0, 3000 << 20, 0), VnumaRange(3000 << 20, 5000 << 20, 1))


def test_overrides() -> None:
    base = 'name="a"\nkernel="/k"\nextra="x"'
    more = ["extra+=' y'", "disk=['/d,,xvda']", "kernel = /other/kernel-1.2", "cap=0x10", "cpus=0-3,^1"]
    config = GuestConfig.parse(base, more)
    assert (config.command_line, config.kernel, config.cap) == ("x y", "/other/kernel-1.2", 16)
    assert config.cpus == ("0-3,^1",)
    assert GuestConfig.parse(base, ["cmdline=console=hvc0 quiet"]).command_line == "console=hvc0 quiet"
    assert config.disks == (Disk("/d", "xvda", 51712, True),)
    with pytest.raises(errors.ConfigError, match=r"argument 'colour=red': colour is not supported"):
        GuestConfig.parse(base, ["colour=red"])
    with pytest.raises(errors.ConfigError, match="argument 'quiet': = is expected"):
        GuestConfig.parse(base, ["quiet"])


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "web.cfg"
    path.write_text(FULL)
    assert GuestConfig.read(path).name == "web"
    path.write_bytes(b"name='\xff'")
    with pytest.raises(errors.ConfigError, match="not text in UTF-8"):
        GuestConfig.read(path)


@pytest.mark.parametrize(
    ("text", "disk"),
    [
        ("/a", None),
        ("phy:/dev/a,xvda,w", ("/dev/a", "xvda", True)),
        ("file:/a.img,xvda1,r", ("/a.img", "xvda1", False)),
        ("/a,raw,hda,rw", ("/a", "hda", True)),
        ("/a,,xvdb", ("/a", "xvdb", True)),
        ("format=raw, vdev=xvdc, access=ro, target=/with,comma", ("/with,comma", "xvdc", False)),
        ("vdev=xvda,target=/a", ("/a", "xvda", True)),
        ("/a,raw,xvda,rw,backendtype=phy,discard", None),
        ("/a,raw,xvda,rw,backendtype=phy,no-discard", ("/a", "xvda", True)),
        ("/a,qcow2,xvda,rw", None),
        ("/a,raw,xvda,w!", None),
        ("/a,raw,xvda,rw,more", None),
        ("relative,raw,xvda,rw", None),
        ("/a,raw,xvda,devtype=cdrom", None),
        ("/a,raw,nvme0,rw", None),
        ("nbd:/a,xvda,w", None),
        ("", None),
    ],
)
def test_disks(text: str, disk: tuple[str, str, bool] | None) -> None:
    if disk is None:
        with pytest.raises(errors.ConfigError):
            Disk.parse(text)
    else:
        target, vdev, writable = disk
        assert Disk.parse(text) == Disk(target, vdev, vdev_number(vdev), writable)


@pytest.mark.parametrize(
    ("vdev", "number"),
    [
        ("xvda", 202 << 8), ("xvdb3", 202 << 8 | 16 | 3), ("xvdp15", 202 << 8 | 255),
        ("xvdq", 1 << 28 | 16 << 8), ("xvdaa", 1 << 28 | 26 << 8), ("d0", 202 << 8), ("d1p2", 202 << 8 | 18),
        ("hda", 3 << 8), ("hdb", 3 << 8 | 64), ("hdc1", 22 << 8 | 1), ("sda", 8 << 8), ("sdb1", 8 << 8 | 17),
        ("/dev/xvda", 202 << 8),
    ],
)  # fmt: skip
def test_numbers_of_disks(vdev: str, number: int) -> None:
    assert vdev_number(vdev) == number


@pytest.mark.parametrize("vdev", ["xvd", "hde", "sdz", "sda16", "d99999p999", "xvda999", "../x", ""])
def test_disks_that_no_guest_has(vdev: str) -> None:
    with pytest.raises(errors.ConfigError):
        vdev_number(vdev)


@pytest.mark.parametrize(
    "text", ["mac=1", "mac=01:16:3e:00:00:00", "bridge=a b", "script=/x", "bridge=", "x", "vifname=a/b"]
)
def test_vifs_that_are_wrong(text: str) -> None:
    with pytest.raises(errors.ConfigError):
        Vif.parse(text)
