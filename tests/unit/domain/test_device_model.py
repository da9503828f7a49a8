# SPDX-License-Identifier: MIT
"""Device model operations, and handles that are left with nothing but one domain."""

from __future__ import annotations

import errno
import io

import pytest
from hosts import RELEASES, Boot, Host

import pyxc
from pyxc import ShutdownReason, errors
from pyxc.abi import dm_op
from pyxc.link.record import RecordLink
from pyxc.link.replay import ReplayLink

HAVE_NR_VCPUS = [release for release in RELEASES if tuple(map(int, release.split("."))) >= (4, 15)]


@pytest.mark.parametrize("release", HAVE_NR_VCPUS)
def test_by_name_and_fields(boot: Boot, release: str) -> None:
    xen = boot(release).xen
    assert xen.dm_op("nr_vcpus", 2).field("vcpus") == 1
    assert xen.call(dm_op.NR_VCPUS, 2).field("vcpus") == 1
    xen.dm_op(dm_op.REMOTE_SHUTDOWN, 2, reason=int(ShutdownReason.CRASH))
    assert xen.domains[2].info().shutdown_reason is ShutdownReason.CRASH


def test_what_is_refused_names_the_operation(host: Host) -> None:
    for domid, kind, said in (
        (1, errors.HypercallError, "dm_op.nr_vcpus on domain 1 failed: EINVAL"),
        (0, errors.PermissionDenied, "dm_op.nr_vcpus on domain 0 failed: EPERM"),
        (0x7000, errors.DomainNotFound, "ESRCH"),
    ):
        with pytest.raises(kind, match=said):
            host.xen.dm_op("nr_vcpus", domid)


def test_what_a_release_does_not_have(boot: Boot) -> None:
    with pytest.raises(errors.Unsupported, match=r"Xen 4\.10 has no dm_op\.nr_vcpus"):
        boot("4.10").xen.dm_op("nr_vcpus", 2)
    with pytest.raises(errors.Unsupported, match=r"Xen 4\.7 has no"):
        boot("4.7").xen.dm_op("inject_msi", 2)


def test_mistakes_of_the_caller(host: Host) -> None:
    with pytest.raises(ValueError, match="there is nr_vcpus"):
        host.xen.dm_op("nr_vcpu", 2)
    with pytest.raises(TypeError, match="no field 'colour'"):
        host.xen.dm_op("nr_vcpus", 2, colour=3)
    with pytest.raises(ValueError, match="domid"):
        host.xen.dm_op("nr_vcpus", 1 << 16)


def test_a_read_only_handle(boot: Boot) -> None:
    xen = boot("4.17", readonly=True).xen
    assert xen.dm_op("nr_vcpus", 2).field("vcpus") == 1
    with pytest.raises(errors.ReadOnlyError, match="remote_shutdown"):
        xen.dm_op("remote_shutdown", 2, reason=0)


def test_a_trace_tells_of_them(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXC_TRACE", "1")
    xen = boot("4.17").xen
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    xen.dm_op("nr_vcpus", 2)
    assert "dm_op.nr_vcpus(domain=2) = 0 {vcpus=1}" in stream.getvalue()


def test_one_that_fails_on_purpose(host: Host) -> None:
    host.link.fail(dm_op.NR_VCPUS, errno.EBUSY)
    with pytest.raises(errors.HypercallError, match="EBUSY"):
        host.xen.dm_op("nr_vcpus", 2)
    assert host.xen.dm_op("nr_vcpus", 2).field("vcpus") == 1


def test_they_are_recorded(host: Host) -> None:
    def run(link: object) -> list[object]:
        with pyxc.connect(link, names=False) as xen:  # type: ignore[arg-type]
            found: list[object] = [xen.dm_op("nr_vcpus", 2).fields()]
            with pytest.raises(errors.HypercallError) as caught:
                xen.dm_op("nr_vcpus", 1)
            xen.restrict(2)
            return [*found, caught.value.errno]

    stream = io.StringIO()
    found = run(RecordLink(host.truth.connect(), stream))
    assert run(ReplayLink(stream.getvalue().splitlines())) == found


def test_a_restricted_handle_has_one_domain(host: Host) -> None:
    db1, web1 = host.xen.domains["db1"], host.xen.domains["web1"]
    frame = min(host.owned(1))
    host.xen.restrict(db1.domid)
    assert db1.memory.read(0x100, size=4) == b"db1:"
    db1.memory.write(0x100, b"DB1")
    assert db1.memory.read(0x100, size=4) == b"DB1:"
    assert host.xen.dm_op("nr_vcpus", db1.domid).field("vcpus") == 1
    for use in (
        host.xen.domains.infos,
        db1.info,
        lambda: web1.memory.read(frame),
        lambda: host.xen.dm_op("nr_vcpus", web1.domid),
    ):
        with pytest.raises(errors.PermissionDenied, match="restricted to domain 2: only its memory"):
            use()


def test_a_restriction_is_for_good(host: Host) -> None:
    host.xen.restrict(2)
    host.xen.restrict(2)
    with pytest.raises(errors.HypercallError, match="privcmd.restrict on domain 1 failed: EINVAL.*already"):
        host.xen.restrict(1)
    with pytest.raises(ValueError):
        host.xen.restrict(-1)


def test_maps_that_are_open_stay(host: Host) -> None:
    frame = min(host.owned(1))
    with host.xen.domains[1].memory.map(frame) as mapped:
        host.xen.restrict(2)
        assert len(bytes(mapped)) == 4096


def test_another_handle_is_not_concerned(host: Host) -> None:
    with pyxc.connect(host.truth.connect()) as other:
        host.xen.restrict(2)
        assert other.domains[1].info().domid == 1
