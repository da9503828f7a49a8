# SPDX-License-Identifier: MIT
"""Nodes and transactions, with the xenstore of a simulated host."""

from __future__ import annotations

import errno
import pickle

import pytest
from hosts import Boot, Host

import pyxc
from pyxc.errors import StoreError
from pyxc.store import Access, Permission, StoreClient, Transaction


@pytest.fixture
def store(host: Host) -> StoreClient:
    return host.xen.store


def test_values(store: StoreClient) -> None:
    store.write("/tool/test/text", "grüße")
    store.write("/tool/test/bytes", b"\0\xff\0")
    store.write("/tool/test/empty", memoryview(b""))
    assert store.read("/tool/test/text") == "grüße".encode()
    assert store.read("/tool/test/bytes") == b"\0\xff\0"
    assert store.read("/tool/test/empty") == store.read("/tool/test") == b""
    assert store.list("/tool/test") == ["text", "bytes", "empty"]


def test_many_values_in_the_order_of_their_paths(store: StoreClient) -> None:
    for number in range(0, 100, 2):
        store.write(f"/tool/test/{number}", str(number))
    wanted = [None if number % 2 else str(number).encode() for number in range(100)]
    assert store.read_many(f"/tool/test/{number}" for number in range(100)) == wanted
    assert store.read_many([]) == []
    with pytest.raises(ValueError, match="'/tool//test' is not a path"):
        store.read_many(["/tool", "/tool//test"])
    with pytest.raises(TypeError, match="expected several paths"):
        store.read_many("/tool")


def test_many_values_in_a_transaction_are_its_own(store: StoreClient) -> None:
    def change(transaction: Transaction) -> list[bytes | StoreError | None]:
        transaction.write("/tool/a", "1")
        return transaction.read_many(["/tool/a", "/tool/b"])

    assert store.transact(change) == [b"1", None]
    transaction = store.begin()
    transaction.abort()
    with pytest.raises(ValueError, match="has ended"):
        transaction.read_many(["/tool/a"])


def test_changes_together(host: Host) -> None:
    """They are made in their order, once the block ends; a refusal is one, whichever change it is of."""
    store = host.xen.store

    def change(transaction: Transaction) -> None:
        with transaction.together() as changes:
            for number in range(100):
                changes.write("/tool/test", str(number))
            changes.set_permissions("/tool/test", ("n0", "r1"))
            with pytest.raises(ValueError, match="read has a reply"):
                changes.read("/tool/test")
            assert transaction.read("/tool/test") is None
        assert transaction.read("/tool/test") == b"99"

    store.transact(change)
    assert [str(one) for one in store.permissions("/tool/test") or ()] == ["n0", "r1"]
    with (
        StoreClient(lambda: host.truth.store.connect(1)) as guest,
        pytest.raises(StoreError, match="/tool/test") as refused,
        guest.begin().together() as changes,
    ):
        changes.write("data/mine", "1")
        changes.write("/tool/test", "2")
        changes.write("data/other", "3")
    assert refused.value.errno == errno.EACCES


def test_a_refused_value_takes_no_other_with_it(host: Host) -> None:
    host.truth.store.write("/tool/secret", "1")
    with StoreClient(lambda: host.truth.store.connect(1)) as guest:
        name, secret, nothing = guest.read_many(["name", "/tool/secret", "nothing"])
    assert (name, nothing) == (b"web1", None)
    assert str(secret) == "xenstore read of /tool/secret failed: EACCES, Permission denied"


def test_what_is_not_there_is_none(store: StoreClient) -> None:
    assert store.read("/nothing") is None
    assert store.list("/nothing") is None
    assert store.permissions("/nothing") is None
    store.remove("/nothing")
    store.remove("/nothing/at/all")
    with pytest.raises(StoreError, match="xenstore set_perms of /nothing failed: ENOENT") as caught:
        store.set_permissions("/nothing", ["n0"])
    assert caught.value.errno == errno.ENOENT


def test_mkdir_leaves_what_is_there(store: StoreClient) -> None:
    store.write("/tool/test", "kept")
    store.mkdir("/tool/test")
    store.mkdir("/tool/test/a/b")
    assert store.read("/tool/test") == b"kept"
    assert store.list("/tool/test/a") == ["b"]


def test_remove_takes_all_below(store: StoreClient) -> None:
    store.write("/tool/test/a/b", "1")
    store.remove("/tool/test")
    assert store.list("/tool") == ["xenstored"]
    assert store.read("/tool/test/a/b") is None


def test_relative_paths_are_of_the_own_domain(host: Host, store: StoreClient) -> None:
    assert store.read("name") == b"Domain-0"
    with StoreClient(lambda: host.truth.store.connect(1)) as guest:
        assert guest.read("name") == b"web1"
        guest.write("data/report", "fine")
    assert store.read("/local/domain/1/data/report") == b"fine"


def test_lists_longer_than_a_message(store: StoreClient) -> None:
    names = [f"node-{number}" for number in range(1500)]
    for name in names:
        store.mkdir(f"/tool/test/{name}")
    assert store.list("/tool/test") == names
    assert store.transact(lambda tx: tx.list("/tool/test")) == names


def test_permissions(store: StoreClient) -> None:
    store.mkdir("/tool/test")
    assert store.permissions("/tool/test") == (Permission(0, Access.NONE),)
    store.set_permissions("/tool/test", [Permission(1, Access.NONE), "r2", "b3"])
    assert store.permissions("/tool/test") == (
        Permission(1, Access.NONE),
        Permission(2, Access.READ),
        Permission(3, Access.READ | Access.WRITE),
    )


@pytest.mark.parametrize("permissions", [[], ["x0"], ["r"], [""]])
def test_bad_permissions_are_refused_before_anything_is_sent(
    store: StoreClient, permissions: list[str]
) -> None:
    with pytest.raises(ValueError, match="permission"):
        store.set_permissions("/tool", permissions)


def test_a_guest_may_do_what_permissions_say(host: Host, store: StoreClient) -> None:
    store.write("/secret/key", "1")
    with StoreClient(lambda: host.truth.store.connect(2)) as guest:
        with pytest.raises(StoreError, match="xenstore read of /secret/key failed: EACCES") as caught:
            guest.read("/secret/key")
        assert (caught.value.errno, caught.value.operation, caught.value.path) == (
            errno.EACCES, "read", "/secret/key"
        )  # fmt: skip
        store.set_permissions("/secret/key", ["n0", "r2"])
        assert guest.read("/secret/key") == b"1"
        with pytest.raises(StoreError, match="write of /secret/key failed: EACCES"):
            guest.write("/secret/key", "2")
        with pytest.raises(StoreError, match="release failed: EACCES"):
            guest.release(1)


def test_values_that_do_not_fit(store: StoreClient) -> None:
    path = "/tool/test"
    store.write(path, b"x" * (4096 - len(path) - 1))
    assert len(store.read(path) or b"") == 4085
    with pytest.raises(ValueError, match="has 4097 bytes: xenstore accepts at most 4096"):
        store.write(path, b"x" * (4096 - len(path)))
    with pytest.raises(TypeError, match="a value is bytes or str, not int"):
        store.write(path, 7)  # type: ignore[arg-type]


def test_a_read_only_handle_reads_only(boot: Boot) -> None:
    store = boot(readonly=True).xen.store
    assert store.read("/local/domain/1/name") == b"web1"
    assert store.transact(lambda tx: tx.list("/local/domain")) == ["0", "1", "2", "3"]
    with store.watch("/local") as watch:
        assert watch.get(0) == ("/local", "/local")
    for change in (
        lambda: store.write("/a", "1"),
        lambda: store.mkdir("/a"),
        lambda: store.remove("/a"),
        lambda: store.set_permissions("/tool", ["n0"]),
        lambda: store.transact(lambda tx: tx.write("/a", "1")),
        lambda: store.introduce(1, 1, 1),
        lambda: store.release(1),
        lambda: store.resume(1),
        lambda: store.set_target(1, 2),
        lambda: store.control("check"),
    ):
        with pytest.raises(pyxc.ReadOnlyError, match="this handle is read-only"):
            change()
    assert store.read("/a") is None


def test_a_transaction_shows_nothing_before_its_end(store: StoreClient) -> None:
    def change(tx: Transaction) -> str:
        tx.write("/tool/test/a", "1")
        tx.write("/tool/test/b", "2")
        assert tx.read("/tool/test/a") == b"1"
        assert store.read("/tool/test") is None
        return "done"

    assert store.transact(change) == "done"
    assert store.list("/tool/test") == ["a", "b"]


def test_a_transaction_is_repeated_until_nobody_was_faster(store: StoreClient) -> None:
    store.write("/tool/runs", "0")
    calls = 0

    def count(tx: Transaction) -> None:
        nonlocal calls
        calls += 1
        before = int(tx.read("/tool/runs") or 0)
        if calls < 4:
            store.write("/tool/runs", str(before + 10))
        tx.write("/tool/runs", str(before + 1))

    store.transact(count)
    assert (calls, store.read("/tool/runs")) == (4, b"31")


def test_a_transaction_that_always_conflicts_ends(store: StoreClient) -> None:
    def clash(tx: Transaction) -> None:
        tx.write("/tool/runs", "1")
        store.write("/tool/runs", "2")

    reason = "transaction_end failed: other changes conflicted 100 times"
    with pytest.raises(StoreError, match=reason) as caught:
        store.transact(clash)
    assert caught.value.errno == errno.EAGAIN


def test_what_a_transaction_raises_aborts_it(host: Host, store: StoreClient) -> None:
    def fail(tx: Transaction) -> None:
        tx.write("/tool/test", "1")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        store.transact(fail)
    assert store.read("/tool/test") is None


def test_a_transaction_by_hand(store: StoreClient) -> None:
    first, second = store.begin(), store.begin()
    for transaction in (first, second):
        transaction.write("/tool/test", "1")
    assert first.commit()
    assert not second.commit()
    third = store.begin()
    third.remove("/tool/test")
    third.abort()
    assert store.read("/tool/test") == b"1"
    with pytest.raises(ValueError, match="this transaction has ended"):
        third.read("/tool/test")


def test_domains(host: Host, store: StoreClient) -> None:
    domain = host.xen.domains.create()
    port = host.xen.call(pyxc.abi.event_channel.ALLOC_UNBOUND, domain.domid, remote_dom=0).field("port")
    assert not store.is_introduced(domain.domid)
    store.introduce(domain.domid, 1, port)
    assert store.is_introduced(domain.domid)
    assert store.domain_path(domain.domid) == f"/local/domain/{domain.domid}"
    store.set_target(1, domain.domid)
    store.resume(domain.domid)
    store.release(domain.domid)
    assert not store.is_introduced(domain.domid)
    for refused in (store.release, store.resume):
        with pytest.raises(StoreError, match="failed: ENOENT"):
            refused(domain.domid)
    with pytest.raises(StoreError, match="introduce failed: EINVAL"):
        store.introduce(domain.domid, 1, 999)


@pytest.mark.parametrize("domid", [-1, 0x7FF0, 70000])
def test_what_is_no_domain_is_refused_before_anything_is_sent(store: StoreClient, domid: int) -> None:
    with pytest.raises(ValueError, match="domid is"):
        store.domain_path(domid)


def test_control(store: StoreClient) -> None:
    assert "check" in store.control("help")
    with pytest.raises(StoreError, match="control failed: EINVAL"):
        store.control("dance")


def test_an_error_survives_pickling(store: StoreClient) -> None:
    with pytest.raises(StoreError) as caught:
        store.control("dance")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.errno, copy.operation, copy.path) == (
        str(caught.value), errno.EINVAL, "control", None
    )  # fmt: skip


def test_opening_xenstore_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pyxc.open_store("sim:xen-4.20") as store:
        assert store.read("/local/domain/2/name") == b"db1"
    monkeypatch.setenv("PYXC_TARGET", "sim:")
    with pyxc.open_store(readonly=True) as store, pytest.raises(pyxc.ReadOnlyError):
        store.write("/a", "1")
    with pytest.raises(ValueError, match="this xenstore client is closed"):
        store.read("/a")
