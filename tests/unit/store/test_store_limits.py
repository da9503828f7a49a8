# SPDX-License-Identifier: MIT
"""What xenstored has since Xen 4.22: watches to a depth, features, and quotas; and what is without them."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot

from pyxc.abi.domid import DOMID_ANY
from pyxc.errors import ReadOnlyError, StoreError
from pyxc.store import StoreClient, StoreFeature, Watch

each_release = pytest.mark.parametrize("release", ["4.17", "4.22", "4.23"])
NEW = StoreFeature.ERROR | StoreFeature.WATCHDEPTH | StoreFeature.DOMID_ANY
NOBODY = 4999


@pytest.fixture
def store(boot: Boot) -> StoreClient:
    return boot("4.22").xen.store


def paths(watch: Watch) -> list[str]:
    """What waits to be taken."""
    found = []
    while (event := watch.get(0)) is not None:
        found.append(event.path)
    return found


@each_release
@pytest.mark.parametrize(
    ("watched", "depth", "told"),
    [
        ("/a", 0, ["/a"]),
        ("/a", 1, ["/a", "/a/b"]),
        ("/a", 2, ["/a", "/a/b", "/a/b/c"]),
        ("/a", None, ["/a", "/a/b", "/a/b/c", "/a/b/c/d"]),
        ("/", 1, ["/", "/a"]),
        ("/a/b/c", 1, ["/a/b/c", "/a/b/c/d"]),
    ],
)
def test_a_watch_to_a_depth(
    boot: Boot, release: str, watched: str, depth: int | None, told: list[str]
) -> None:
    store = boot(release).xen.store
    with store.watch(watched, depth=depth) as watch:
        for path in ("/a", "/a/b", "/a/b/c", "/a/b/c/d"):
            store.write(path, "1")
        assert paths(watch) == told


@each_release
def test_a_guests_watch_to_a_depth_is_relative_to_its_home(boot: Boot, release: str) -> None:
    truth = boot(release).truth
    with StoreClient(lambda: truth.store.connect(1)) as guest, guest.watch("data", depth=1) as watch:
        truth.store.write("/local/domain/1/data/a/b", "1")
        truth.store.write("/local/domain/1/data/a", "1")
        assert paths(watch) == ["data", "data/a"]


def test_a_new_xenstored_sends_no_events_that_are_too_deep(boot: Boot) -> None:
    truth = boot("4.22").truth
    with StoreClient(truth.store.connect) as client, client.watch("/a", depth=0):
        (session,) = [one for one in truth.store.sessions if one.watches]
        assert [(one.path, one.depth) for one in session.watches] == [("/a", 0)]


def test_special_events_name_the_domain(boot: Boot) -> None:
    host = boot("4.22")
    store = host.xen.store
    with (
        store.watch("@releaseDomain", depth=1) as named,
        store.watch("@releaseDomain") as plain,
        store.watch("@releaseDomain/2") as only,
    ):
        for watch in (named, plain, only):
            watch.get(0)
        host.xen.domains[1].destroy()
        host.xen.domains[2].shutdown()
        assert paths(named) == ["@releaseDomain/1", "@releaseDomain/2"]
        assert set(paths(plain)) == {"@releaseDomain"}
        assert paths(only) == ["@releaseDomain/2"]


def test_a_new_domain_is_named(boot: Boot) -> None:
    host = boot("4.22")
    with host.xen.store.watch("@introduceDomain", depth=1) as watch:
        watch.get(0)
        domain = host.xen.domains.create()
        host.truth.introduce(domain.domid, "new")
        assert paths(watch) == [f"@introduceDomain/{domain.domid}"]


def test_an_older_xenstored_cannot_name_the_domain(boot: Boot) -> None:
    store = boot("4.17").xen.store
    with pytest.raises(StoreError) as caught:
        store.watch("@releaseDomain", depth=1)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("depth", [-1, 2**31, "1", 1.0])
def test_what_is_no_depth(store: StoreClient, depth: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        store.watch("/a", depth=depth)


def test_features(boot: Boot) -> None:
    host = boot("4.22")
    store = host.xen.store
    domain = host.xen.domains.create()
    assert store.features() == store.features(1) == store.features(domain.domid) == NEW
    store.set_features(domain.domid, StoreFeature.ERROR)
    assert store.features(domain.domid) == StoreFeature.ERROR
    host.truth.introduce(domain.domid, "old")
    with StoreClient(lambda: host.truth.store.connect(domain.domid)) as guest:
        assert guest.features() == StoreFeature.ERROR
        with guest.watch("data", depth=0) as watch:
            guest.write("data", "1")
            assert paths(watch) == ["data"]


def test_features_that_are_refused(boot: Boot) -> None:
    host = boot("4.22")
    store = host.xen.store
    with StoreClient(lambda: host.truth.store.connect(1)) as guest:
        for number, ask in (
            (errno.EBUSY, lambda: store.set_features(1, 0)),
            (errno.EINVAL, lambda: store.set_features(host.xen.domains.create().domid, 1 << 10)),
            (errno.ENOENT, lambda: store.features(NOBODY)),
            (errno.EACCES, lambda: guest.features(2)),
            (errno.EACCES, lambda: guest.set_features(2, 0)),
            (errno.EACCES, guest.quotas),
            (errno.EACCES, lambda: guest.set_quota("nodes", 0)),
        ):
            with pytest.raises(StoreError) as caught:
                ask()
            assert caught.value.errno == number


def test_quotas(boot: Boot) -> None:
    host = boot("4.22")
    store = host.xen.store
    assert store.quotas() == store.quotas(1)
    assert (store.quotas()["nodes"], store.quotas()["watches"]) == (1000, 128)
    store.set_quota("watches", 3, 1)
    assert (store.quotas(1)["watches"], store.quotas(2)["watches"]) == (3, 128)
    store.set_quota("watches", 7)
    domain = host.xen.domains.create()
    assert (store.quotas(domain.domid)["watches"], store.quotas(2)["watches"]) == (7, 128)
    for name, domid, number in (("spoons", None, errno.EINVAL), ("nodes", NOBODY, errno.ENOENT)):
        with pytest.raises(StoreError) as caught:
            store.set_quota(name, 1, domid)
        assert caught.value.errno == number


@pytest.mark.parametrize("limit", [3, 0])
def test_a_quota_holds(boot: Boot, limit: int) -> None:
    host = boot("4.22")
    host.xen.store.set_quota("watches", limit, 1)
    with StoreClient(lambda: host.truth.store.connect(1)) as guest, guest.watch() as watch:
        for number in range(200):
            try:
                watch.add(f"data/{number}")
            except StoreError as error:
                assert (error.errno, number) == (errno.E2BIG, limit + 1)
                break
        else:
            assert limit == 0


def test_the_limits_of_a_domain_go_with_it(boot: Boot) -> None:
    host = boot("4.22")
    host.xen.store.set_quota("nodes", 3, 1)
    uuid = host.xen.domains[1].uuid
    host.xen.domains[1].destroy()
    host.xen.domains.create(domid=1, uuid=uuid)
    assert host.xen.store.quotas(1)["nodes"] == 1000


@pytest.mark.parametrize("release", ["4.1", "4.17", "4.20"])
def test_an_older_xenstored_has_none_of_it(boot: Boot, release: str) -> None:
    store = boot(release).xen.store
    for ask in (
        store.features,
        store.quotas,
        lambda: store.set_quota("nodes", 1),
        lambda: store.set_features(1, 0),
    ):
        with pytest.raises(StoreError) as caught:
            ask()
        assert caught.value.errno == errno.ENOSYS


def test_a_read_only_handle_sets_nothing(boot: Boot) -> None:
    store = boot("4.22", readonly=True).xen.store
    assert store.quotas() and store.features()
    with pytest.raises(ReadOnlyError):
        store.set_quota("nodes", 1)
    with pytest.raises(ReadOnlyError):
        store.set_features(1, 0)


@pytest.mark.parametrize(("release", "readable"), [("4.22", True), ("4.17", False)])
def test_a_permission_for_all_domains(boot: Boot, release: str, readable: bool) -> None:
    host = boot(release)
    store = host.xen.store
    store.write("/tool/news", "for all")
    store.set_permissions("/tool/news", ["n0", f"r{DOMID_ANY}"])
    with StoreClient(lambda: host.truth.store.connect(1)) as guest:
        if readable:
            assert guest.read("/tool/news") == b"for all"
        else:
            with pytest.raises(StoreError):
                guest.read("/tool/news")
        with pytest.raises(StoreError):
            guest.write("/tool/news", "mine")


@pytest.mark.parametrize(("release", "told"), [("4.22", ["@releaseDomain"]), ("4.17", [])])
def test_guests_hear_of_the_end_of_others(boot: Boot, release: str, told: list[str]) -> None:
    host = boot(release)
    with StoreClient(lambda: host.truth.store.connect(1)) as guest, guest.watch("@releaseDomain") as watch:
        watch.get(0)
        host.xen.domains[2].destroy()
        assert paths(watch) == told
