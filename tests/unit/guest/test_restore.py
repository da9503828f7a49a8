# SPDX-License-Identifier: MIT
"""Guests restored on simulated hosts: what they have again, and what is refused."""

from __future__ import annotations

import errno
import io
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hosts import Host
from saves import DB1, OTHER_UUID, events, obedient, running, saved, small

from pyxc import DecodeError, sim
from pyxc.abi import cpu_policy
from pyxc.abi.errno import XenErrno
from pyxc.errors import HypercallError, Unsupported
from pyxc.guest import stream
from pyxc.guest.config import GuestConfig
from pyxc.guest.launch import launch
from pyxc.host.cpu_policy import CpuidLeaf


def unexpected(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What restore must refuse, by what it is."""
    yield "cut off in its memory", data[: len(data) // 2]
    yield "cut off at its end", data[:-8]
    yield "nothing", b""
    yield "something else", b"\x7fELF" + bytes(1 << 16)


def test_what_is_not_a_guest_leaves_nothing(host: Host) -> None:
    web = small(host)
    data = saved(web)
    web.destroy()
    before = [(info.domid, info.tot_pages) for info in host.xen.domains.infos()]
    for what, broken in unexpected(data):
        with pytest.raises(DecodeError):
            host.xen.restore(io.BytesIO(broken))
        assert [(info.domid, info.tot_pages) for info in host.xen.domains.infos()] == before, what
    assert host.xen.link.maps == []


def rewritten(data: bytes, change: Callable[[stream.Event], stream.Event | None]) -> bytes:
    writer = stream.Writer()
    changed = [other for event in events(data) if (other := change(event)) is not None]
    return b"".join(bytes(piece) for event in changed for piece in writer.encode(event))


CONFIGS = [
    (b'{"c_info": []}', "c_info of the guest's configuration is a list"),
    (b'{"c_info": {"name": 7}}', "name of the guest's configuration is a int"),
    (b'{"c_info": {"uuid": "x"}}', "'x' is not a UUID"),
    (b'{"c_info": {"name": "17"}}', "cannot be a name"),
    (b'{"b_info": {"max_vcpus": 0}}', "max_vcpus of the guest's configuration is 0"),
    (b'{"b_info": {"avail_vcpus": 3}}', "avail_vcpus of the guest's configuration is 3"),
    (b'{"b_info": {"avail_vcpus": [0, -1]}}', r"avail_vcpus of the guest's configuration is \[0, -1\]"),
    (b'{"b_info": {"max_memkb": true}}', "max_memkb of the guest's configuration is True"),
    (b'{"b_info": {"max_memkb": 99999999999999999999}}', "expected 1 to 1099511627776"),
]


@pytest.mark.parametrize(("config", "message"), CONFIGS)
def test_configurations_of_strangers(host: Host, config: bytes, message: str) -> None:
    web = small(host)

    def change(event: stream.Event) -> stream.Event:
        return event._replace(config=config + b"\0") if isinstance(event, stream.XlHeader) else event

    with pytest.raises(DecodeError, match=message):
        host.xen.restore(io.BytesIO(rewritten(saved(web), change)))


def test_pages_that_no_guest_of_its_size_has(host: Host) -> None:
    """Each costs memory here, before Xen could refuse it."""
    far = array("Q", [place << 12 for place in range(1 << 8, 1 << 10)])
    found = events(saved(small(host)))
    first = next(place for place, event in enumerate(found) if isinstance(event, stream.PageData))
    found.insert(first, stream.PageData(far, bytes([0xE]) * len(far)))
    writer = stream.Writer()
    there = b"".join(bytes(piece) for event in found for piece in writer.encode(event))
    before = set(host.xen.domains)
    with pytest.raises(DecodeError, match="a page at gfn 0x3ff000, too high for its memory"):
        host.xen.restore(io.BytesIO(there), uuid=OTHER_UUID.replace("1", "4"))
    assert set(host.xen.domains) == before


def test_it_sees_the_cpus_that_it_saw(host: Host) -> None:
    web = small(host)
    data = saved(web)
    seen = web.cpu_policy()
    again = host.xen.restore(io.BytesIO(data), uuid=OTHER_UUID.replace("1", "4"))
    assert again.cpu_policy() == seen
    host.link.fail(cpu_policy.SET_DOMAIN_CPU_POLICY, XenErrno.EINVAL)
    with pytest.raises(HypercallError) as refused:
        host.xen.restore(io.BytesIO(data), uuid=OTHER_UUID.replace("1", "6"))
    assert "cannot show" in refused.value.__notes__[0]


def test_features_that_the_host_lacks_are_named_before_anything_is_done(host: Host) -> None:
    data = saved(small(host))

    def of_a_newer_cpu(leaf: CpuidLeaf) -> CpuidLeaf:
        return leaf._replace(b=leaf.b | 1 << 5 | 1 << 16) if leaf.leaf == 7 else leaf

    def newer(event: stream.Event) -> stream.Event:
        if isinstance(event, stream.CpuidPolicy):
            return stream.CpuidPolicy(tuple(map(of_a_newer_cpu, event.leaves)))
        return event

    there = rewritten(data, newer)
    before = set(host.xen.domains)
    for restore in (host.xen.restore, host.xen.template):
        with pytest.raises(Unsupported, match="cpu features that this host lacks: avx2, avx512f"):
            restore(io.BytesIO(there))
    assert set(host.xen.domains) == before


def test_it_has_its_name_again(host: Host) -> None:
    db1, _ = obedient(host)
    data = saved(db1, suspend="ask")
    with pytest.raises(ValueError, match="already has the name db1"):
        host.xen.restore(io.BytesIO(data), uuid=OTHER_UUID)
    other = host.xen.restore(io.BytesIO(data), uuid=OTHER_UUID, name="db2")
    assert host.xen.domains["db2"] == other
    other.destroy()
    db1.destroy()
    host.xen.store.remove(f"/local/domain/{DB1}")
    again = host.xen.restore(io.BytesIO(data))
    guest = host.truth.script(again.domid)
    guest.obey()
    assert host.xen.domains["db1"] == again
    again.save(io.BytesIO(), resume=True)
    assert running(host, again)


def test_what_was_asked_of_it_since_its_creation_is_kept(host: Host) -> None:
    """Its memory and vcpus, and how much it may have again."""
    config = GuestConfig(
        "shop", sim.kernel("pvh"), vcpus=3, max_vcpus=3, memory_kb=16384, max_memory_kb=16384
    )
    shop = launch(host.xen, config)
    guest = host.truth.script(shop.domid)
    guest.obey()
    guest.balloon()
    shop.unpause()
    shop.ask.set_vcpus(2)
    shop.ask.set_memory(8192, timeout=60)
    data = saved(shop, suspend="ask")
    shop.destroy()
    again = host.xen.restore(io.BytesIO(data))
    read = host.xen.store.read
    home = f"/local/domain/{again.domid}"
    offered = [read(f"{home}/cpu/{index}/availability") for index in range(3)]
    assert offered == [b"online", b"online", b"offline"]
    assert (read(f"{home}/memory/target"), read(f"{home}/memory/static-max")) == (b"8192", b"16384")
    again.ask.set_memory(16384)


def test_xl_leaves_out_what_is_the_default(host: Host) -> None:
    config = b'{"c_info": {"type": "pvh", "name": "web7"}, "b_info": {"max_memkb": 16384}}'

    def change(event: stream.Event) -> stream.Event:
        return event._replace(config=config + b"\0") if isinstance(event, stream.XlHeader) else event

    again = host.xen.restore(io.BytesIO(rewritten(saved(small(host)), change)))
    assert (again.info().nr_vcpus, again.name) == (1, "web7")


def test_a_stream_of_libxc_alone(host: Host) -> None:
    web = small(host)
    outer = (stream.XlHeader, stream.LibxlHeader, stream.LibxcContext, stream.LibxlEnd)
    data = rewritten(saved(web), lambda event: None if isinstance(event, outer) else event)
    with pytest.raises(ValueError, match="vcpus and memory_kb are required"):
        host.xen.restore(io.BytesIO(data))
    again = host.xen.restore(io.BytesIO(data), vcpus=1, memory_kb=4096)
    assert (again.info().tot_pages, again.info().nr_vcpus) == (521, 1)
    with pytest.raises(HypercallError) as refused:
        host.xen.restore(io.BytesIO(data), vcpus=1, memory_kb=4)
    assert refused.value.errno == errno.ENOMEM
    with pytest.raises(HypercallError) as refused:
        host.xen.restore(io.BytesIO(data), vcpus=1, memory_kb=64 << 20)
    assert refused.value.errno == errno.ENOMEM


def test_hostile_parameters(host: Host) -> None:
    data = saved(small(host))
    for params, message in (
        (((1, 0x7777),), "STORE_PFN is 0x7777, and the guest has no memory there"),
        (((13, 0),), r"do not go with one: \[13\]"),
    ):

        def change(event: stream.Event, params: Any = params) -> stream.Event:
            return stream.HvmParams(params) if isinstance(event, stream.HvmParams) else event

        with pytest.raises(DecodeError, match=message):
            host.xen.restore(io.BytesIO(rewritten(data, change)), uuid=OTHER_UUID.replace("1", "4"))


def test_a_device_model_is_needed(host: Host) -> None:
    extra = stream.EmulatorContext(stream.Emulator.QEMU_UPSTREAM, 0, 0)

    writer = stream.Writer()
    every = [*events(saved(small(host)))[:-1], extra, stream.LibxlEnd()]
    broken = b"".join(bytes(piece) for event in every for piece in writer.encode(event))
    with pytest.raises(Unsupported, match="device model"):
        host.xen.restore(io.BytesIO(broken), uuid=OTHER_UUID.replace("1", "4"))


class Failing(io.BytesIO):
    """A file that fails after some bytes, in a function that still has a view of what it was to fill."""

    def readinto(self, buffer: Any, /) -> int:
        octets = memoryview(buffer).cast("B")
        if self.tell() > 1 << 20:
            raise OSError(errno.EIO, "the disk is gone")
        return super().readinto(octets)


def test_a_file_that_fails_while_pages_are_read(host: Host) -> None:
    web = small(host)
    data = saved(web)
    web.destroy()
    before = [info.domid for info in host.xen.domains.infos()]
    with pytest.raises(OSError, match="the disk is gone"):
        host.xen.restore(Failing(data))
    assert host.xen.link.maps == []
    assert [info.domid for info in host.xen.domains.infos()] == before


@pytest.mark.parametrize("end", [1 << 20, (1 << 20) + 5000])
def test_a_stream_that_ends_within_its_pages(host: Host, end: int) -> None:
    web = small(host)
    data = saved(web)
    web.destroy()
    with pytest.raises(DecodeError, match=f"ends at byte {end}, inside libxc PAGE_DATA"):
        host.xen.restore(io.BytesIO(data[:end]))
    assert host.xen.link.maps == []


def test_its_nodes_are_there_before_its_memory(host: Host) -> None:
    """A guest that moves is down while they are written at the end."""
    db1, _ = obedient(host)
    file = io.BytesIO(saved(db1, suspend="ask"))
    db1.destroy()
    names: list[bytes | None] = []

    def note(done: int, total: int) -> None:
        newest = max(info.domid for info in host.xen.domains.infos())
        names.append(host.xen.store.read(f"/local/domain/{newest}/name"))

    again = host.xen.restore(file, name="db2", progress=note)
    assert names[0] == b"db2"
    assert host.xen.store.read(f"/local/domain/{again.domid}/store/ring-ref") == b"%d" % again.store_frame


def test_progress_of_a_restore(host: Host) -> None:
    data, told = saved(small(host)), []
    host.xen.restore(
        io.BytesIO(data), uuid=OTHER_UUID.replace("1", "5"), progress=lambda *done: told.append(done)
    )
    assert told[-1][0] == 521
    assert array("Q", [done for done, _ in told]) == array("Q", sorted(done for done, _ in told))
