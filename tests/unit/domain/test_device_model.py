# SPDX-License-Identifier: MIT
"""Device model operations, and handles that are left with nothing but one domain."""

from __future__ import annotations

import errno
import io
import os
import socket
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from emulation import needs_the_kernel
from hosts import RELEASES, Boot, Host

import pyxc
from pyxc import ShutdownReason, errors
from pyxc.abi import dm_op, grant_table
from pyxc.link.record import RecordLink
from pyxc.link.replay import ReplayLink
from pyxc.sim import SimLink
from pyxc.sim.event_device import SimEvtchn
from pyxc.sim.xenstored.listener import Listener
from pyxc.store import StoreClient
from pyxc.store.channel import FileChannel

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
    with pytest.raises(ValueError, match="expected one of nr_vcpus"):
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


def lend(host: Host, domid: int, content: bytes) -> int:
    """A grant of a page of a domain to dom0, as its frontend makes it; returns its reference."""
    frame = min(host.owned(domid))
    layout = grant_table.ENTRY_V1_STRUCT.at(host.xen.interface)
    entry = layout.pack({"flags": grant_table.PERMIT_ACCESS, "domid": 0, "frame": frame})
    host.truth.machine.memory.write(frame, 0, content)
    with host.xen.link.map_resource(domid, 1, 0, 0, 1, True) as table, memoryview(table) as view:
        view[8 * layout.size : 9 * layout.size] = entry
    return 8


def test_nothing_of_another_domain_is_left_open(host: Host) -> None:
    xen, web1, db1 = host.xen, host.xen.domains["web1"], host.xen.domains["db1"]
    ref, frame = lend(host, 1, b"web1's secret"), min(host.owned(1))
    with web1.grants.map(ref) as mapped:
        assert bytes(mapped)[:13] == b"web1's secret"
    assert web1.name == "web1"
    xen.store.write("/tool/x", "1")
    with xen.events() as channels, StoreClient(xen.link.connect_store) as other:
        other.read("/tool/x")
        watch = other.watch("/tool")
        xen.restrict(db1.domid)
        doors: dict[str, Callable[[], object]] = {
            "list": xen.domains.infos,
            "info": web1.info,
            "memory": lambda: web1.memory.read(frame),
            "frames by the link": lambda: xen.link.map_frames(1, array("Q", [frame])),
            "grant": lambda: web1.grants.map(ref),
            "grant of the domain itself": lambda: db1.grants.map(1),
            "lend": lambda: xen.link.lend_pages(1, 1),
            "grant table": lambda: xen.link.map_resource(1, 1, 0, 0, 1),
            "size of the grant table": lambda: xen.link.resource_size(1, 1, 0),
            "xenstore": lambda: xen.store.write("/local/domain/1/name", "taken"),
            "another connection": lambda: other.write("/local/domain/1/name", "taken"),
            "a new connection": lambda: StoreClient(xen.link.connect_store).read("/tool/x"),
            "watch": lambda: (watch.get(0), watch.get(0)),
            "event channels": lambda: channels.bind_unbound(1),
            "interrupts": lambda: channels.bind_virq(pyxc.Virq.DEBUGGER),
            "new event channels": xen.events,
            "watching domains": lambda: xen.watch_domains(),
        }
        refused = {}
        for name, door in doors.items():
            with pytest.raises((OSError, errors.Error)) as caught:
                door()
            refused[name] = getattr(caught.value, "errno", None)
        closed = {"another connection": errno.ECONNRESET, "watch": errno.ECONNRESET}
        by_event_channels = {"event channels": errno.EACCES, "interrupts": errno.EACCES}
        assert refused == {**dict.fromkeys(doors, errno.EPERM), **closed, **by_event_channels}
        assert channels.bind_unbound(db1.domid)
        assert host.truth.store.tree.get("/local/domain/1/name").value == b"web1"
        assert len(bytes(xen.link.map_resource(db1.domid, 1, 0, 0, 1))) == 4096
        with pytest.warns(RuntimeWarning, match="restricted to domain 2: it cannot open more devices"):
            assert xen.names.domain_name(1) is None


@needs_the_kernel
def test_a_socket_to_xenstored_leads_nowhere(host: Host, tmp_path: Path) -> None:
    """Whoever took the process over finds no descriptor with the rights of dom0."""
    path = str(tmp_path / "socket")
    with Listener(host.truth.store, path):
        link, channels = host.truth.connect(), list[FileChannel]()
        link.connect_store = lambda: _kept(link, path, channels)  # type: ignore[method-assign]
        xen = pyxc.connect(link)
        assert xen.domains["db1"].name == "db1"
        assert xen.store.read("/local/domain/1/name") == b"web1"
        held = [channel.fileno() for channel in channels]
        assert [_is_socket(descriptor) for descriptor in held] == [True, True]
        xen.link.restrict(2)
        assert [_is_socket(descriptor) for descriptor in held] == [False, False]
        xen.close()


def _kept(link: SimLink, path: str, channels: list[FileChannel]) -> FileChannel:
    """As PrivcmdLink.connect_store() does."""
    link._doors.check_store()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.setblocking(False)
    channels.append(FileChannel(connection))
    link._doors.store(channels[-1])
    return channels[-1]


def _is_socket(descriptor: int) -> bool:
    return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")


def test_event_channels_that_are_restricted_already_stay_open(host: Host) -> None:
    with host.xen.events() as channels, host.xen.events() as others:
        channels.restrict(2)
        others.restrict(1)
        host.xen.restrict(2)
        assert channels.bind_unbound(2)
        with pytest.raises(ValueError, match="closed"):
            others.bind_unbound(1)


def test_event_channels_that_the_kernel_cannot_restrict_are_closed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimEvtchn, "_restrict", lambda self, domid: -errno.ENOTTY)
    with host.xen.events() as channels:
        port = channels.bind_unbound(1)
        host.xen.restrict(2)
        with pytest.raises(ValueError, match="closed"):
            channels.notify(port)


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
