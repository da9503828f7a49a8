# SPDX-License-Identifier: MIT
"""Which domain a name, a UUID or an id means, where several could be meant."""

from __future__ import annotations

import pickle
import uuid
from typing import Any

import pytest
from channels import HeldChannel
from hosts import Boot, Host

import pyxc
from pyxc import Domain, errors
from pyxc.abi import domctl

LIKE_A_UUID = "11111111-2222-3333-4444-555555555555"
TWO_WEB1 = r"2 domains have the name or UUID web1: use an id \(1, {}\)"


def named(host: Host, name: str, **options: Any) -> Domain:
    """A new domain that a toolstack has introduced by a name."""
    made = host.xen.domains.create(**options)
    host.truth.introduce(made.domid, name)
    return made


def dying(host: Host, domid: int) -> Any:
    """Let a domain die, and stay so until the mapping of its memory that is returned is closed."""
    pages = host.xen.domains[domid].memory.map(min(host.owned(domid)))
    host.xen.call(domctl.DESTROYDOMAIN, domid)
    assert host.xen.domains[domid].info().dying
    return pages


def test_two_living_domains_of_one_name_are_not_told_apart_by_it(host: Host) -> None:
    other = named(host, "web1")
    for _ in range(2):
        with pytest.raises(errors.Ambiguous, match=TWO_WEB1.format(other.domid)) as caught:
            host.xen.domains["web1"]
        assert caught.value.ids == (1, other.domid)
        assert not isinstance(caught.value, KeyError), "`get` and `in` must not say that there is none"
    with pytest.raises(errors.Ambiguous):
        host.xen.domains.get("web1")
    assert host.xen.domains[other.domid] == other
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.ids) == (str(caught.value), caught.value.ids)


def test_two_living_domains_of_one_uuid_are_not_told_apart_by_it(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    other = host.xen.domains.create(uuid=db1.uuid)
    for key in (db1.uuid, str(db1.uuid)):
        with pytest.raises(errors.Ambiguous, match=rf"name or UUID {db1.uuid}: .*\(2, {other.domid}\)"):
            host.xen.domains[key]
    assert host.xen.domains["db1"] == db1, "the names differ"


@pytest.mark.parametrize("by", ["name", "uuid", "text"])
def test_what_is_dying_never_wins_over_what_lives(host: Host, by: str) -> None:
    web1 = host.xen.domains[1]
    key = {"name": "web1", "uuid": web1.uuid, "text": str(web1.uuid)}[by]
    holder = dying(host, 1)
    assert host.xen.domains[key] == web1, "there is no other"
    living = named(host, "web1", uuid=web1.uuid)
    assert host.xen.domains[key] == living != web1
    assert host.xen.domains[1] == web1 == host.xen.domains["1"], "ids name the dead"
    holder.close()
    assert host.xen.domains[key] == living


def test_several_that_are_dying_are_not_told_apart(host: Host) -> None:
    host.xen.store.write("/local/domain/3/name", "web1")
    holders = [dying(host, domid) for domid in (1, 3)]
    with pytest.raises(errors.Ambiguous, match=TWO_WEB1.format(3)):
        host.xen.domains["web1"]
    living = named(host, "web1")
    assert host.xen.domains["web1"] == living
    for holder in holders:
        holder.close()


def test_a_name_that_was_another_domains_does_not_count(host: Host) -> None:
    old = host.xen.domains["web1"]
    old.destroy()
    new = host.xen.domains.create(domid=1)
    assert host.xen.store.read("/local/domain/1/name") == b"web1", "nobody has removed it"
    assert new.name is None
    with pytest.raises(errors.DomainNotFound, match="no domain has the name web1"):
        host.xen.domains["web1"]
    host.truth.introduce(1, "new1")
    assert host.xen.domains["new1"] == new and new.name == "new1"


def test_a_name_without_the_node_that_says_whose_it_is_counts(host: Host) -> None:
    host.xen.store.remove("/local/domain/1/vm")
    assert host.xen.domains["web1"].domid == 1
    assert host.xen.domains[1].name == "web1"
    assert host.xen.domains["Domain-0"].domid == 0, "dom0 has none either"


def test_a_name_that_looks_like_a_uuid(host: Host) -> None:
    odd = named(host, LIKE_A_UUID)
    assert host.xen.domains[LIKE_A_UUID] == odd
    assert uuid.UUID(LIKE_A_UUID) not in host.xen.domains, "which is another thing than a name"
    other = host.xen.domains.create(uuid=LIKE_A_UUID)
    assert host.xen.domains[LIKE_A_UUID] == other, "a UUID first of all"
    assert host.xen.domains[odd.domid].name == LIKE_A_UUID


def test_a_living_domain_with_such_a_name_wins_over_a_dying_one_with_the_uuid(host: Host) -> None:
    web1 = host.xen.domains[1]
    odd = named(host, str(web1.uuid))
    assert host.xen.domains[str(web1.uuid)] == web1
    holder = dying(host, 1)
    assert host.xen.domains[str(web1.uuid)] == odd
    assert host.xen.domains[web1.uuid] == web1
    holder.close()


@pytest.mark.parametrize("first, second", [(b"web\xff", b"web\xe9"), (b"caf\xc3\xa9", b"caf\xe9")])
def test_names_that_differ_in_bytes_are_different(host: Host, first: bytes, second: bytes) -> None:
    for domid, name in ((1, first), (2, second)):
        host.xen.store.write(f"/local/domain/{domid}/name", name)
    domains = host.xen.domains
    keys = [name.decode(errors="surrogateescape") for name in (first, second)]
    assert [domains[key].domid for key in keys] == [1, 2]
    assert [domains[domid].name for domid in (1, 2)] == keys
    with pytest.raises(errors.DomainNotFound):
        domains["web\N{REPLACEMENT CHARACTER}"]


def test_digits_are_an_id(host: Host) -> None:
    named(host, "2")
    assert host.xen.domains["2"].domid == 2
    assert host.xen.domains["0"].domid == 0
    odd = named(host, "\N{SUPERSCRIPT TWO}")
    assert host.xen.domains["\N{SUPERSCRIPT TWO}"] == odd
    with pytest.raises(ValueError, match="domid is 99999: it must be from 0 to 32751"):
        host.xen.domains["99999"]


def test_a_domain_is_found_by_itself_while_it_is_the_same(host: Host) -> None:
    build = host.xen.domains["build"]
    assert host.xen.domains[build] == build
    assert build in host.xen.domains
    other = pyxc.connect(host.truth.connect())
    assert other.domains[build].xen is other
    build.destroy()
    assert build not in host.xen.domains
    host.xen.domains.create(domid=build.domid)
    with pytest.raises(errors.DomainNotFound, match=f"{build.uuid} has gone"):
        host.xen.domains[build]
    other.close()


@pytest.mark.parametrize("key", [1.0, None, b"web1", True, (1,), object()])
def test_what_is_no_key(host: Host, key: Any) -> None:
    before = host.link.hypercalls
    with pytest.raises(TypeError, match=r"expected an id \(int\), a name or a UUID, not"):
        host.xen.domains[key]
    with pytest.raises(ValueError, match="the name of a domain is empty"):
        host.xen.domains[""]
    assert host.link.hypercalls == before


class Number:
    """An int of another library."""

    def __index__(self) -> int:
        return 2


def test_other_whole_numbers_are_ids(host: Host) -> None:
    assert host.xen.domains[Number()].domid == 2
    assert host.xen.pools[type("Zero", (), {"__index__": lambda _: 0})()].pool_id == 0


def test_a_name_that_cannot_be_asked_for_is_not_one_that_nobody_has(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[HeldChannel] = []

    def connect() -> HeldChannel:
        held.append(HeldChannel(host.truth.store.connect()))
        return held[-1]

    monkeypatch.setattr("pyxc.store.names.TIMEOUT_S", 0.05)
    monkeypatch.setattr(host.xen.names, "_connect", connect)
    domains = host.xen.domains
    assert domains["web1"].domid == 1
    held[0].hold()
    for key in ("web1", "nobody", LIKE_A_UUID):
        for ask in (domains.__getitem__, domains.__contains__, domains.get):
            with pytest.raises(errors.StoreError, match=f"the name {key} cannot be looked up.*did not reply"):
                ask(key)
    assert domains[1].domid == domains["1"].domid == domains[domains[1].uuid].domid == 1
    held[0].release()
    assert domains["web1"].domid == 1
    assert "nobody" not in domains


def test_without_a_xenstore_names_cannot_be_looked_up(boot: Boot) -> None:
    domains = boot(with_store=False).xen.domains
    with pytest.raises(errors.StoreError, match="the name web1 cannot be looked up.*no xenstored"):
        domains["web1"]
    assert domains[1].domid == 1


def test_pools_of_one_name_are_not_told_apart_by_it(host: Host) -> None:
    pools = host.xen.pools
    first, second = pools.create(name="left"), pools.create(name="right")
    assert pools["right"] == second == pools[second.pool_id] == pools[str(second.pool_id)] == pools[second]
    host.xen.store.write(f"/local/pool/{second.pool_id}/name", "left")
    with pytest.raises(errors.Ambiguous, match=r"2 cpu pools have the name or UUID left: use an id \(1, 2\)"):
        pools["left"]
    with pytest.raises(ValueError, match="another cpu pool has the name left"):
        pools.create(name="left")
    for pool_id, name in ((1, b"p\xff"), (2, b"p\xfe")):
        host.xen.store.write(f"/local/pool/{pool_id}/name", name)
    assert pools["p\udcff"] == first and pools["p\udcfe"] == second
    for key in (1.0, None, b"Pool-0", True):
        with pytest.raises(TypeError, match=r"expected an id \(int\) or a name, not"):
            pools[key]
    with pytest.raises(ValueError, match="the name of a cpu pool is empty"):
        pools[""]


def test_pools_whose_names_cannot_be_asked_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    pools, channel = host.xen.pools, HeldChannel(host.truth.store.connect())
    pool = pools.create(name="spare")
    monkeypatch.setattr("pyxc.store.names.TIMEOUT_S", 0.02)
    monkeypatch.setattr(host.xen, "_names", type(host.xen.names)(lambda: channel, "held"))
    channel.hold()
    for action in (
        lambda: pools["spare"],
        lambda: "spare" in pools,
        lambda: pools.create(name="spare"),
        lambda: pool.rename("other"),
        pool.destroy,
    ):
        with pytest.raises(errors.StoreError, match="cpu pools cannot be looked up: .*nothing replies"):
            action()
    assert sorted(host.truth.pools) == [0, pool.pool_id], "nothing was done"
    channel.release()
    pool.destroy()
    assert host.xen.store.read(f"/local/pool/{pool.pool_id}/name") is None
