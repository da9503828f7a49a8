# SPDX-License-Identifier: MIT
"""The way into the kernel: 64-bit system calls of a 32-bit process where it needs them."""

from __future__ import annotations

import errno
import os
import signal
import struct
import threading
import time

import pytest

import pyxc
from pyxc import _core
from pyxc.abi import version

BITS_32 = _core.POINTER_BITS == 32
XEN_VERSION = (version.VERSION.family.hypercall, version.VERSION.command, 0, 0, 0, 0)


def _ioctl(path: str, name: str, argument: bytearray, gate: bool = BITS_32) -> int:
    device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _core.device_ioctl(device, _core.IOCTL[name], argument, gate=gate)
    finally:
        os.close(device)


def test_gate_is_used_by_32_bit_processes_only(xen: pyxc.Xen) -> None:
    assert xen.link.gated == BITS_32
    assert xen.link.kernel_bits == 64


def test_plain_ioctl_is_refused_where_the_gate_works() -> None:
    call = bytearray(struct.pack("6Q", *XEN_VERSION))
    plain = _ioctl("/dev/xen/privcmd", "privcmd_hypercall", call, gate=False)
    if BITS_32:
        assert plain == -errno.ENOTTY
        plain = _ioctl("/dev/xen/privcmd", "privcmd_hypercall", call, gate=True)
    assert plain >> 16 == 4


def test_gate_can_be_forbidden() -> None:
    if BITS_32:
        with pytest.raises(pyxc.NotXenError, match='32-bit process.*gate="never"') as caught:
            pyxc.open(gate="never")
        assert caught.value.errno == errno.ENOTTY
    else:
        with pyxc.open(gate="never", names=False) as xen:
            assert not xen.link.gated


def test_unknown_ioctls_are_refused_through_the_gate_too() -> None:
    assert _ioctl("/dev/xen/privcmd", "privcmd_unimplemented", bytearray(8)) == -errno.ENOTTY


def test_event_channel_device() -> None:
    device = os.open("/dev/xen/evtchn", os.O_RDWR | os.O_CLOEXEC)
    try:
        bind, unbind = _core.IOCTL["evtchn_bind_unbound_port"], _core.IOCTL["evtchn_unbind"]
        own_domain = bytearray(struct.pack("I", 0))
        if BITS_32:
            assert _core.device_ioctl(device, bind, own_domain, gate=False) == -errno.ENOTTY
        port = _core.device_ioctl(device, bind, own_domain, gate=BITS_32)
        assert port > 0
        assert _core.device_ioctl(device, unbind, bytearray(struct.pack("I", port)), gate=BITS_32) == 0
        assert (
            _core.device_ioctl(device, unbind, bytearray(struct.pack("I", port)), gate=BITS_32)
            == -errno.ENOTCONN
        )
    finally:
        os.close(device)


def test_grant_device() -> None:
    device = os.open("/dev/xen/gntdev", os.O_RDWR | os.O_CLOEXEC)
    try:
        grant = bytearray(struct.pack("IIQII", 1, 0, 2**64 - 1, 0, 8))
        if BITS_32:
            plain = _core.device_ioctl(device, _core.IOCTL["gntdev_map_grant_ref"], grant, gate=False)
            assert plain == -errno.ENOTTY
        assert _core.device_ioctl(device, _core.IOCTL["gntdev_map_grant_ref"], grant, gate=BITS_32) == 0
        (index,) = struct.unpack_from("Q", grant, 8)
        assert index % _core.PAGE_SIZE == 0
    finally:
        os.close(device)


def test_signals_during_calls_change_no_result(xen: pyxc.Xen) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        stop = time.monotonic() + 2
        wrong = 0
        while time.monotonic() < stop or len(seen) < 20:
            wrong += xen.link.hypercall(*XEN_VERSION[:2]) >> 16 != 4
            wrong += xen.domains.infos()[0].domid != 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert wrong == 0


def test_threads_share_a_handle(xen: pyxc.Xen) -> None:
    physinfo = xen.physinfo()
    results: list[tuple[int, bytes, int]] = []

    def ask() -> None:
        for _ in range(40):
            info = xen.domains[0].info()
            results.append((info.domid, info.handle, xen.physinfo().total_pages))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(0, bytes(16), physinfo.total_pages)] * 160
    assert xen.link.pool.outstanding == 0


def test_handle_is_the_parents_after_a_fork(xen: pyxc.Xen) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            xen.physinfo()
            said = "it worked"
        except RuntimeError as error:
            said = str(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert "fork" in pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert xen.physinfo().nr_cpus > 0
