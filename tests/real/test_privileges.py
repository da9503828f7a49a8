# SPDX-License-Identifier: MIT
"""Processes that give up what they do not need: root, or all domains but one."""

from __future__ import annotations

import errno
import os
import pickle
from array import array
from collections.abc import Callable

import pytest

import pyxc
from pyxc import ShutdownReason, errors

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
