# SPDX-License-Identifier: MIT
"""Devices without Xen: opening, errors, the 64-bit gate on ordinary descriptors, and forks."""

import copy
import errno
import fcntl
import os
import pickle
import signal
import struct
import sys
import termios
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from emulation import needs_the_kernel

from pyxc import _core
from pyxc._core import Pool, Privcmd, SharedMemory, device_ioctl, fork_count, has_64bit_code_segment

GATES = [False, True] if has_64bit_code_segment() else [False]


def test_the_error_names_the_device(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Privcmd(str(tmp_path / "privcmd"))
    assert caught.value.filename == str(tmp_path / "privcmd")


@needs_the_kernel
def test_a_device_that_is_not_privcmd_says_so_to_every_call() -> None:
    handle = Privcmd("/dev/null")
    assert handle.probe_errno == errno.ENOTTY
    assert handle.hypercall(17) == -errno.ENOTTY
    assert handle.hypercall(2**64 - 1, 2**64 - 1, a5=2**64 - 1) == -errno.ENOTTY
    assert handle.path == "/dev/null"
    assert handle.gated == has_64bit_code_segment()
    assert not Privcmd("/dev/null", gate="never").gated


def test_a_number_that_is_no_u64_is_refused() -> None:
    handle = Privcmd("/dev/null")
    with pytest.raises(OverflowError):
        handle.hypercall(17, -1)
    with pytest.raises(OverflowError):
        handle.hypercall(17, 2**64)
    with pytest.raises(ValueError, match="gate"):
        Privcmd("/dev/null", gate="always")


def test_the_device_is_closed_on_exec_and_at_close() -> None:
    handle = Privcmd("/dev/null")
    descriptor = handle.fd
    assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    handle.close()
    handle.close()
    with pytest.raises(OSError):
        os.fstat(descriptor)
    uses: list[Callable[[], object]] = [
        lambda: handle.hypercall(17),
        lambda: handle.fd,
        lambda: handle.resource_size(0, 0, 0),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ValueError, match="closed"):
        handle.pool.take(1)


@needs_the_kernel
def test_a_map_that_the_kernel_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    handle = Privcmd(str(path))
    calls: list[Callable[[], object]] = [
        lambda: handle.map_frames(1, array("Q", [1, 2])),
        lambda: handle.map_resource(1, 1, 0, 0, 2),
        lambda: handle.resource_size(1, 1, 0),
    ]
    for call in calls:
        with pytest.raises(OSError, match="domain 1") as caught:
            call()
        assert caught.value.errno == errno.ENOTTY
    assert handle.maps == []
    assert str(path) not in Path("/proc/self/maps").read_text()
    for count in (0, -1, sys.maxsize):
        with pytest.raises(ValueError):
            handle.map_resource(1, 1, 0, 0, count)
    with pytest.raises(OverflowError):
        handle.map_frames(-1, array("Q", [1]))


def test_what_holds_a_resource_is_not_copied() -> None:
    for thing in (Privcmd("/dev/null"), SharedMemory(1), Pool(locked=False), Pool(locked=False).take(1)):
        with pytest.raises(TypeError, match="pickle"):
            copy.copy(thing)


@pytest.mark.usefixtures("no_collection")
def test_handles_do_not_leak() -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        Privcmd("/dev/null")
        with pytest.raises(OSError):
            Privcmd("/nonexistent/privcmd")
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("gate", GATES)
def test_an_ioctl_answers_in_place_and_with_its_errno(gate: bool) -> None:
    reader, writer = os.pipe()
    os.write(writer, bytes(777))
    answer = bytearray(4)
    assert device_ioctl(reader, termios.FIONREAD, answer, gate=gate) == 0
    assert struct.unpack("i", answer) == (777,)
    assert device_ioctl(reader, termios.TCGETS, bytearray(64), gate=gate) == -errno.ENOTTY
    os.close(reader)
    os.close(writer)
    assert device_ioctl(reader, termios.FIONREAD, answer, gate=gate) == -errno.EBADF
    with pytest.raises(BufferError):
        device_ioctl(0, termios.FIONREAD, bytes(4), gate=gate)


def test_the_gate_is_there_or_refused() -> None:
    if has_64bit_code_segment():
        assert device_ioctl(-1, termios.FIONREAD, bytearray(4), gate=True) == -errno.EBADF
    else:
        with pytest.raises(ValueError, match="64-bit"):
            device_ioctl(0, termios.FIONREAD, bytearray(4), gate=True)


@pytest.mark.parametrize("gate", GATES)
def test_signals_do_not_disturb_results(gate: bool) -> None:
    reader, writer = os.pipe()
    os.write(writer, bytes(777))
    answer = bytearray(4)
    signals = 0

    def count(*_: object) -> None:
        nonlocal signals
        signals += 1

    previous = signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        results = set()
        for _ in range(100_000):
            answer[:] = bytes(4)
            results.add((device_ioctl(reader, termios.FIONREAD, answer, gate), bytes(answer)))
            results.add((device_ioctl(-1, termios.FIONREAD, answer, gate), b""))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        os.close(reader)
        os.close(writer)
    assert results == {(0, struct.pack("i", 777)), (-errno.EBADF, b"")}
    assert signals > 10


def test_the_numbers_are_those_of_a_64_bit_kernel() -> None:
    sizes = {
        "privcmd_hypercall": 48,
        "privcmd_mmapbatch_v2": 32,
        "privcmd_mmap_resource": 32,
        "privcmd_dm_op": 16,
        "privcmd_restrict": 2,
        "privcmd_unimplemented": 0,
        "evtchn_bind_virq": 4,
        "evtchn_bind_interdomain": 8,
        "evtchn_bind_unbound_port": 4,
        "evtchn_unbind": 4,
        "evtchn_notify": 4,
        "evtchn_reset": 0,
        "evtchn_restrict_domid": 2,
        "gntdev_map_grant_ref": 24,
        "gntalloc_alloc_gref": 24,
    }
    assert {name: number >> 16 & 0x1FFF for name, number in _core.IOCTL.items()} == sizes


def in_child(action: Callable[[], object]) -> object:
    """What `action` returns, or the exception it raises, in a forked process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result: object = action()
        except Exception as error:
            result = error
        os.write(writer, pickle.dumps(result))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        data = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return pickle.loads(data)


def test_forks_are_counted() -> None:
    here = fork_count()
    assert in_child(lambda: (fork_count(), in_child(fork_count))) == (here + 1, here + 2)
    assert fork_count() == here


def test_what_was_opened_before_a_fork_says_so_in_the_child() -> None:
    handle, memory = Privcmd("/dev/null"), SharedMemory(4)
    mapped = memory.map_frames(1, array("Q", [1]), False)
    arena = handle.pool.take(1)
    uses: list[Callable[[], object]] = [
        lambda: handle.hypercall(17),
        lambda: handle.fd,
        lambda: handle.pool.take(1),
        lambda: arena.view,
        lambda: memoryview(arena),
        lambda: memory.read(0, 0, 1),
        lambda: memory.map_frames(1, array("Q", [1]), False),
        lambda: memoryview(mapped),
    ]
    for use in uses:
        error = in_child(use)
        assert isinstance(error, RuntimeError) and "opened before a fork" in str(error)
        assert use() is not None


def test_a_child_that_closes_everything_does_the_parent_no_harm() -> None:
    handle, memory, pool = Privcmd("/dev/null"), SharedMemory(4), Pool(locked=False)
    answer = handle.hypercall(17)
    mapped = memory.map_frames(1, array("Q", [1]), True)
    memoryview(mapped)[:4] = b"mine"
    arena = pool.take(1)
    arena.view[:4] = b"mine"

    def close_all() -> str:
        arena.release()
        pool.close()
        mapped.close()
        memory.close()
        handle.close()
        return Privcmd("/dev/null").path

    assert in_child(close_all) == "/dev/null"
    assert bytes(arena.view[:4]) == bytes(memoryview(mapped)[:4]) == memory.read(1, 0, 4) == b"mine"
    assert handle.hypercall(17) == answer < 0


def test_an_arena_of_the_device_is_not_zeroed_by_a_child(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(bytes(8192))
    descriptor = os.open(path, os.O_RDWR)
    pool = Pool(descriptor)
    arena = pool.take(1)
    arena.view[:4] = b"mine"
    assert in_child(arena.release) is None
    assert bytes(arena.view[:4]) == b"mine"
    os.close(descriptor)


@pytest.mark.parametrize(
    "value", [None, "", "sim:xen-4.17", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "\udcff"]
)
def test_the_environment_is_that_of_os(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("PYXC_TEST", raising=False)
    if value is not None:
        monkeypatch.setenv("PYXC_TEST", value)
    assert _core.environment("PYXC_TEST") == os.environ.get("PYXC_TEST") == value
