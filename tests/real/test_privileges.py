# SPDX-License-Identifier: MIT
"""Processes that give up what they do not need: root, or all domains but one."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import struct
from array import array
from collections.abc import Callable

import pytest

import pyxc
from pyxc import ShutdownReason, errors
from pyxc._core import IOCTL, device_ioctl

NOBODY = 65534


def _in_child(action: Callable[[], object]) -> object:
    """What `action` answers in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            result: object = action()
        except BaseException as error:
            result = repr(error)
        with open(writer, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        result = pickle.load(pipe)
    assert os.waitpid(child, 0)[1] == 0
    return result


def _drop_root() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def test_what_is_open_works_without_root(pv: pyxc.Domain) -> None:
    (frame,) = pv.memory.populate([0])

    def work() -> object:
        with pyxc.open(names=False) as xen, xen.events() as channels:
            _drop_root()
            far = channels.bind_unbound(0)
            near = channels.bind_interdomain(0, far)
            heard = channels.wait(10)
            domain = xen.domains[pv.domid]
            domain.memory.write(frame, b"by nobody")
            many = len(xen.vcpus())
            return os.getresuid(), heard == near, domain.memory.read(frame, size=9), many > 2

    assert _in_child(work) == ((NOBODY,) * 3, True, b"by nobody", True)


def test_nothing_can_be_opened_without_root() -> None:
    def work() -> object:
        with pyxc.open(names=False) as xen:
            _drop_root()
            found = []
            for use in (pyxc.open, xen.events, xen.domains[0].grants.lend):
                try:
                    use()
                except pyxc.NotXenError as error:
                    found.append((error.errno, "run as root" in str(error)))
            return found

    assert _in_child(work) == [(errno.EACCES, True)] * 3


def test_a_restricted_handle_has_one_domain(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    pvh.memory.populate([0x10])
    (other,) = pv.memory.populate([0])
    with pyxc.open(names=False) as xen:
        mine, others = xen.domains[pvh.domid], xen.domains[pv.domid]
        xen.restrict(mine.domid)
        mine.memory.write(0x10, b"still mine")
        assert mine.memory.read(0x10, size=10) == b"still mine"
        for use in (
            xen.domains.infos,
            mine.info,
            lambda: others.memory.read(other),
            lambda: xen.dm_op("remote_shutdown", others.domid, reason=0),
        ):
            with pytest.raises(errors.PermissionDenied, match=f"restricted to domain {pvh.domid}"):
                use()
        with pytest.raises(errors.HypercallError) as caught:
            xen.restrict(others.domid)
        assert caught.value.errno == errno.EINVAL


def test_a_restricted_handle_without_root_serves_a_device_model(pvh: pyxc.Domain) -> None:
    def work() -> object:
        with pyxc.open(names=False) as xen:
            xen.restrict(pvh.domid)
            _drop_root()
            xen.dm_op("remote_shutdown", pvh.domid, reason=int(ShutdownReason.CRASH))
            return "done"

    assert _in_child(work) == "done"
    assert pvh.info().shutdown_reason is ShutdownReason.CRASH


def test_the_memory_that_the_kernel_checks(xen: pyxc.Xen, pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    """What the library refuses by itself the kernel refuses as well."""
    (other,) = pv.memory.populate([0])
    with pyxc.open(names=False) as own:
        own.link.restrict(pvh.domid)
        assert own.link.hypercall(17, 0) == -errno.EPERM
        frames = array("Q", [other])
        for use in (
            lambda: own.link.map_frames(pv.domid, frames),
            lambda: own.link.map_resource(pv.domid, 1, 0, 0, 1),
        ):
            with pytest.raises(OSError) as caught:
                use()
            assert caught.value.errno == errno.EPERM
        assert own.link.dm_op(pv.domid, [bytes(32)])[0] == -errno.EPERM


def test_a_restricted_process_without_root_finds_every_door_shut(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    """On the real devices, with everything open that a handle can have: by the library, and by the kernel."""
    pvh.memory.populate([0x10])
    (other,) = pv.memory.populate([0])
    pvh.memory.write(0x10, b"mine")

    def work() -> object:
        inherited = _ways_to_xenstore()
        with pyxc.open() as xen, xen.events() as channels:
            with contextlib.suppress(RuntimeWarning, pyxc.StoreError):  # there may be no xenstored
                xen.names.domain_name(0)
            with contextlib.suppress(pyxc.StoreError):
                xen.store.read("/local/domain/0/name")
            mine, others = xen.domains[pvh.domid], xen.domains[pv.domid]
            ways = _ways_to_xenstore() - inherited
            xen.restrict(pvh.domid)
            _drop_root()
            frames = array("Q", [other])
            doors: dict[str, Callable[[], object]] = {
                "list": xen.domains.infos,
                "info": mine.info,
                "pause": others.pause,
                "destroy": others.destroy,
                "memory": lambda: others.memory.read(other),
                "frames": lambda: xen.link.map_frames(pv.domid, frames),
                "dom0": lambda: xen.link.map_frames(0x7FF0, frames),
                "grant table": lambda: xen.link.map_resource(pv.domid, 1, 0, 0, 1, True),
                "its size": lambda: xen.link.resource_size(pv.domid, 1, 0),
                "grant": lambda: others.grants.map(1),
                "lend": lambda: xen.link.lend_pages(pv.domid, 1),
                "xenstore": lambda: xen.store.write("/local/domain/0/name", "taken"),
                "port": lambda: channels.bind_unbound(pv.domid),
                "virq": lambda: channels.bind_virq(pyxc.Virq.DEBUGGER),
                "more ports": xen.events,
                "device model": lambda: xen.dm_op("remote_shutdown", pv.domid, reason=0),
                "another restriction": lambda: xen.restrict(pv.domid),
                "privcmd": pyxc.open,
                "gntdev": lambda: os.open("/dev/xen/gntdev", os.O_RDWR),
                "gntalloc": lambda: os.open("/dev/xen/gntalloc", os.O_RDWR),
                "evtchn": lambda: os.open("/dev/xen/evtchn", os.O_RDWR),
                "xenbus": lambda: os.open("/dev/xen/xenbus", os.O_RDWR),
                "root again": lambda: os.setuid(0),
                "a new connection": lambda: pyxc.open_store().read("/local/domain/0/name"),
            }
            opened = [name for name, door in doors.items() if not _is_shut(door)]
            left = ways & _ways_to_xenstore()
            return opened, left, mine.memory.read(0x10, size=4), xen.link.hypercall(17, 0) == -errno.EPERM

    assert _in_child(work) == ([], set(), b"mine", True)


def test_every_ioctl_of_what_stays_open_is_refused(pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    """The kernel's doors themselves, without the library: all ioctls of all devices that are still open."""

    def work() -> object:
        inherited = _open_devices().keys()
        with pyxc.open(names=False) as xen, xen.events() as channels:
            bound = channels.bind_unbound(pv.domid)
            with xen.domains[pvh.domid].grants.lend().pages:
                xen.restrict(pvh.domid)
                _drop_root()
                left = {fd: name for fd, name in _open_devices().items() if fd not in inherited}
                found = {
                    f"{name} {what}": device_ioctl(fd, request, bytearray(structure), xen.link.gated)
                    for fd, name in left.items()
                    for what, request, structure in _doors(name, pv.domid)
                }
                return sorted(left.values()), found, bound > 0

    result = _in_child(work)
    assert isinstance(result, tuple), result
    opened, found, bound = result
    assert bound and opened == ["evtchn", "hypercall", "privcmd"], (
        "the second has only memory of this process"
    )
    assert {name: _name(result) for name, result in found.items()} == {
        "hypercall hypercall": "ENOTTY",
        "privcmd hypercall": "EPERM",
        "privcmd mmap": "EPERM",
        "privcmd mmapbatch": "EPERM",
        "privcmd mmapbatch_v2": "EPERM",
        "privcmd mmapbatch_v2, dom0": "EPERM",
        "privcmd dm_op": "EPERM",
        "privcmd restrict": "EINVAL",
        "privcmd restrict, lifted": "EINVAL",
        "privcmd mmap_resource": "EPERM",
        "evtchn bind_virq": "EACCES",
        "evtchn bind_interdomain": "EACCES",
        "evtchn bind_unbound_port": "EACCES",
        "evtchn restrict_domid": "EACCES",
        "evtchn restrict_domid, lifted": "EACCES",
    }


def _doors(device: str, other: int) -> list[tuple[str, int, bytes]]:
    """Each ioctl that a device has (linux/xen/privcmd.h, evtchn.h), aimed at another domain."""
    hypercall = "hypercall", IOCTL["privcmd_hypercall"], struct.pack("=6Q", 17, *[0] * 5)
    if device == "hypercall":
        return [hypercall]
    if device == "privcmd":
        entry = array("Q", [0, 0, 1])
        batch = struct.pack("=IHHQQQ", 1, other, 0, 0, 0, 0)
        return [
            hypercall,
            ("mmap", 16 << 16 | ord("P") << 8 | 2, struct.pack("=iHHQ", 1, other, 0, entry.buffer_info()[0])),
            ("mmapbatch", 24 << 16 | ord("P") << 8 | 3, batch[:24]),
            ("mmapbatch_v2", IOCTL["privcmd_mmapbatch_v2"], batch),
            (
                "mmapbatch_v2, dom0",
                IOCTL["privcmd_mmapbatch_v2"],
                struct.pack("=IHHQQQ", 1, 0x7FF0, 0, 0, 0, 0),
            ),
            ("dm_op", IOCTL["privcmd_dm_op"], struct.pack("=HHIQ", other, 0, 0, 0)),
            ("restrict", IOCTL["privcmd_restrict"], struct.pack("=H", other)),
            ("restrict, lifted", IOCTL["privcmd_restrict"], struct.pack("=H", 0x7FF4)),
            (
                "mmap_resource",
                IOCTL["privcmd_mmap_resource"],
                struct.pack("=HHIIIQQ", other, 0, 1, 0, 0, 1, 0),
            ),
        ]
    return [
        ("bind_virq", IOCTL["evtchn_bind_virq"], struct.pack("=I", 1)),
        ("bind_interdomain", IOCTL["evtchn_bind_interdomain"], struct.pack("=II", other, 1)),
        ("bind_unbound_port", IOCTL["evtchn_bind_unbound_port"], struct.pack("=I", other)),
        ("restrict_domid", IOCTL["evtchn_restrict_domid"], struct.pack("=H", other)),
        ("restrict_domid, lifted", IOCTL["evtchn_restrict_domid"], struct.pack("=H", 0x7FF4)),
    ]


def _name(result: int) -> str:
    return errno.errorcode.get(-result, str(result))


def _open_devices() -> dict[int, str]:
    """The descriptors of this process that are devices of Xen's, by the names of these."""
    found = {}
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if "/xen/" in target:
                found[int(descriptor)] = target.rpartition("/")[2]
    return found


def _is_shut(door: Callable[[], object]) -> bool:
    try:
        door()
    except OSError as error:
        return error.errno in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENODEV)
    return False


def _ways_to_xenstore() -> set[str]:
    """Descriptors of this process that lead to xenstored, or through the kernel to it."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if target.startswith("socket:") or target.endswith("xenbus"):
                found.add(descriptor)
    return found
