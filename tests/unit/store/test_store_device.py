# SPDX-License-Identifier: MIT
"""Linux's xenbus device: its limits, its errors and its numbers are not those of xenstored's socket."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from channels import DeviceLike, HeldChannel, Renumbering
from hosts import Host

from pyxc.errors import StoreError
from pyxc.store import Channel, StoreClient, Transaction, channel

LONG_S = 10.0


def client(host: Host, kind: Callable[[Channel], Channel]) -> StoreClient:
    return StoreClient(lambda: kind(host.truth.store.connect()), timeout=LONG_S)


def test_the_refusal_of_one_request_is_not_the_end_of_the_others(host: Host) -> None:
    with client(host, DeviceLike) as store, store.watch("/tool/x") as watch:
        assert watch.get(0) == ("/tool/x", "/tool/x")
        with pytest.raises(StoreError, match="write of /tool/x failed: EINVAL, Invalid argument") as caught:
            store.write("/tool/x", bytes(4096 - 16))
        assert caught.value.errno == errno.EINVAL
        store.write("/tool/x", bytes(4096 - 16 - len("/tool/x") - 1))
        watch.add("/tool/y")
        with pytest.raises(StoreError, match="watch of /tool/z failed: E2BIG"):
            watch.add("/tool/z")
        assert [watch.get(0), watch.get(0), watch.get(0)] == [
            ("/tool/x", "/tool/x"), ("/tool/y", "/tool/y"), None
        ]  # fmt: skip
        store.transact(lambda tx: tx.write("/tool/y", "1"))
        assert watch.get(0) == ("/tool/y", "/tool/y")


def test_what_the_device_cannot_take_is_refused_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "xenbus"
    device.touch()
    monkeypatch.setattr(channel, "SOCKETS", ())
    monkeypatch.setattr(channel, "DEVICES", (str(device),))
    with StoreClient() as store:
        with pytest.raises(ValueError, match="has 4081 bytes: xenstore accepts at most 4080 here"):
            store.write("/a", bytes(4078))
        with pytest.raises(StoreError, match="closed the connection"):
            store.write("/a", bytes(4077))
    assert device.stat().st_size == 4096


def test_a_request_waits_for_the_reply_to_the_last_one(host: Host) -> None:
    """Of one thread, of several, and what an abandoned transaction leaves to be sent."""
    with client(host, DeviceLike) as store:

        def fill(transaction: Transaction) -> None:
            with transaction.together() as changes:
                for index in range(100):
                    changes.write(f"/tool/many/{index}", str(index))

        store.transact(fill)
        paths = [f"/tool/many/{index}" for index in range(100)]
        assert store.read_many(paths) == [b"%d" % index for index in range(100)]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(50):
                store.begin().abandon()
                assert list(pool.map(store.read, paths[:16])) == [b"%d" % index for index in range(16)]
        assert store.usage(0).transactions == 0


def test_the_end_of_the_channel_is_the_end_for_all(host: Host) -> None:
    class Broken(DeviceLike):
        def send(self, data: bytes) -> int:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))

    with client(host, Broken) as store:
        for _ in range(2):
            with pytest.raises(StoreError, match="closed the connection") as caught:
                store.read("/tool")
            assert caught.value.errno == errno.ECONNRESET


@pytest.mark.parametrize(
    "kernel",
    [Renumbering, partial(Renumbering, renumber=False, of_watches=0), partial(Renumbering, of_watches=0)],
    ids=["4.11 to 4.15", "up to 4.10", "both"],
)
def test_kernels_that_answer_with_other_numbers(host: Host, kernel: Callable[[Channel], Channel]) -> None:
    with client(host, kernel) as store, store.watch("/tool/x", "/tool/y") as watch:
        assert [watch.get(0), watch.get(0)] == [("/tool/x", "/tool/x"), ("/tool/y", "/tool/y")]
        store.transact(lambda tx: tx.write("/tool/x", tx.read("/local/domain/1/name") or b""))
        assert store.read("/tool/x") == b"web1"
        assert watch.get(0) == ("/tool/x", "/tool/x")
        with pytest.raises(StoreError, match="set_perms of /nothing failed: ENOENT"):
            store.set_permissions("/nothing", ["n0"])
        watch.remove("/tool/x")
        assert store.read("/nothing") is None
        paths = [f"/local/domain/{domid}/name" for domid in (1, 99, 2)]
        assert store.read_many(paths) == [b"web1", None, b"db1"]


def test_an_answer_under_another_number_that_comes_late_is_for_nobody_else(host: Host) -> None:
    held = HeldChannel(Renumbering(host.truth.store.connect()))
    with StoreClient(lambda: held, timeout=LONG_S) as store:
        assert store.read("/local/domain/1/name") == b"web1"
        held.hold()
        store.timeout = 0.01
        with pytest.raises(StoreError, match="did not reply within 0.01 s"):
            store.read("/local/domain/2/name")
        held.release()
        store.timeout = LONG_S
        assert store.read("/local/domain/3/name") == b"build"
