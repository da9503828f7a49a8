# SPDX-License-Identifier: MIT
"""Opening: the way to a hypervisor, and which interface it speaks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import RELEASES, HostLink

import pyxc
from pyxc import errors, opening
from pyxc.abi import cpu_policy, domctl, domctl_scheduler, livepatch, perfc, sysctl, version
from pyxc.abi.cpu_policy import Policy
from pyxc.abi.layout import Layout, Table, pad
from pyxc.compat import xs
from pyxc.domain.vcpus import Vcpus
from pyxc.host.cpu_policy import domain_policy
from pyxc.sim import Hypervisor, named
from pyxc.sim.model.livepatches import Patch
from pyxc.sim.xenstored.listener import Listener


def link_to(truth: Hypervisor) -> HostLink:
    return HostLink(truth, truth.interface, "sim:")


def fresh(release: str = "4.17") -> Hypervisor:
    return Hypervisor(named(f"sim:xen-{release}"), with_guests=False)


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_is_recognised(release: str) -> None:
    with pyxc.open(f"sim:xen-{release}") as xen:
        assert xen.interface == xen.link.hypervisor.interface  # type: ignore[attr-defined]
        assert repr(xen) == f"<Xen {release} at sim:xen-{release}>"


def test_the_environment_names_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXC_TARGET", "sim:xen-4.20")
    with pyxc.open() as xen:
        assert xen.version[:2] == (4, 20)
    with pyxc.open("sim:xen-4.14") as xen:
        assert xen.version[:2] == (4, 14)


def test_an_unknown_target_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="unknown target 'xen-4.17'"):
        pyxc.open("xen-4.17")
    with pytest.raises(ValueError, match="sim:xen-4.17"):
        pyxc.open("sim:xen-1.0")


def test_an_unknown_gate_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match='expected "auto" or "never"'):
        pyxc.open("sim:", gate="always")
    with pyxc.open("sim:", gate="never") as xen:
        assert not xen.readonly


def test_a_failed_opening_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[HostLink] = []

    def connect(target: str) -> HostLink:
        made.append(link_to(fresh()))
        made[0].fail(version.VERSION, errno.ENOSYS)
        return made[0]

    monkeypatch.setattr("pyxc.sim.connect", connect)
    with pytest.raises(errors.Unsupported):
        pyxc.open("sim:xen-4.17")
    with pytest.raises(ValueError, match="closed"):
        made[0].hypercall(17)


# What opening costs.


@pytest.mark.parametrize("release", RELEASES)
def test_a_hypervisor_is_probed_once(release: str) -> None:
    truth = fresh(release)
    first, second = (HostLink(truth, truth.interface, f"sim:probed-{release}") for _ in range(2))
    known = opening.connect_again(first).interface
    assert first.hypercalls <= 6
    xen = opening.connect_again(second)
    assert (xen.interface, second.hypercalls) == (known, 0)
    assert [info.domid for info in xen.domains.infos()] == [0]
    assert second.hypercalls == 1


def test_opening_leaves_xenstore_for_those_who_ask_it(monkeypatch: pytest.MonkeyPatch) -> None:
    link = link_to(Hypervisor(named("sim:xen-4.17")))
    connected: list[object] = []
    monkeypatch.setattr(link, "connect_store", lambda: connected.append(1) or link._inner.connect_store())
    with pyxc.connect(link) as xen:
        assert xen.domains[1].info().domid == 1
        assert connected == []
        assert (xen.domains[1].name, xen.domains[2].name) == ("web1", "db1")
    assert connected == [1]


@pytest.mark.usefixtures("no_collection")
def test_a_handle_of_the_drop_in_is_one_connection(
    monkeypatch: pytest.MonkeyPatch, plain_directory: Path
) -> None:
    """And nothing else: here is no hypervisor that it could open."""
    truth, path = Hypervisor(named("sim:xen-4.17")), plain_directory / "socket"
    sent: list[bytes] = []
    feed = truth.store.feed
    monkeypatch.setattr(truth.store, "feed", lambda session, data: (sent.append(data), feed(session, data)))
    monkeypatch.setenv("XENSTORED_PATH", str(path))
    with Listener(truth.store, path):
        before, handles = descriptors(), []
        for number in (1, 2, 3):
            handles.append(xs.xs())
            assert handles[-1].read("", "/local/domain/1/name") == b"web1"
            assert len(sent) == number, "only what was asked was sent"
            assert descriptors() == before + 3 * number, "both ends of a connection, and what wakes who waits"
        for handle in handles:
            handle.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("claimed", [(4, 10), (4, 14), (4, 16), (4, 20), (4, 22), (5, 0), (3, 4)])
def test_a_wrong_prediction_falls_back_to_what_is_accepted(claimed: tuple[int, int]) -> None:
    truth = fresh()
    link = link_to(truth)
    link.lie(version.VERSION, result=claimed[0] << 16 | claimed[1])
    with pyxc.connect(link) as xen:
        assert (xen.interface.domctl, xen.interface.sysctl) == (0x15, 0x15)
        assert [info.domid for info in xen.domains.infos()] == [0]
    assert link.pool.outstanding == 0


@pytest.mark.parametrize("family", ["domctl", "sysctl"])
def test_an_unknown_version_names_both_causes_and_the_way_out(family: str) -> None:
    truth = fresh("4.22")
    unknown = {"domctl": truth.interface.domctl, "sysctl": truth.interface.sysctl, family: 0x99}
    truth.interface = truth.interface._replace(domctl=unknown["domctl"], sysctl=unknown["sysctl"])
    link = link_to(truth)
    with pytest.raises(errors.VersionMismatch) as caught:
        pyxc.connect(link)
    text = str(caught.value)
    assert f"none of the known {family} versions" in text
    assert "newer than 4.22" in text and "XSM" in text and "assume=(MAJOR, MINOR)" in text
    assert link.pool.outstanding == 0


def test_outside_dom0_it_is_no_xen_to_manage() -> None:
    link = link_to(fresh())
    link.fail(sysctl.GETDOMAININFOLIST, errno.EPERM)
    with pytest.raises(errors.NotXenError, match="this is not dom0") as caught:
        pyxc.connect(link)
    assert caught.value.errno == errno.EPERM
    link.fail(sysctl.GETDOMAININFOLIST, errno.ENOMEM)
    with pytest.raises(errors.HypercallError, match="ENOMEM"):
        pyxc.connect(link)


def longer(grown: int) -> type[Hypervisor]:
    """A hypervisor whose domain records have grown by so many bytes, perhaps without a new number."""

    class Longer(Hypervisor):
        def layout(self, table: Table) -> Layout:
            if table is not domctl.GETDOMAININFO_STRUCT:
                return super().layout(table)
            return Layout(table.name, [*table.rows_at(self.interface), pad(grown)], "little")

    return Longer


def test_records_of_another_size_than_known_are_not_trusted() -> None:
    truth = longer(8)(named("sim:xen-4.17"), with_guests=False)
    known = domctl.GETDOMAININFO_STRUCT.at(truth.interface).size
    link = link_to(truth)
    with pytest.raises(errors.VersionMismatch, match=f"records of {known + 8} bytes; pyxc expects {known}"):
        pyxc.connect(link)
    assert link.pool.outstanding == 0


def test_an_expert_may_assume_a_release() -> None:
    with pyxc.connect(link_to(fresh("4.20")), assume=(4, 20)) as xen:
        assert (xen.interface.domctl, xen.interface.sysctl, xen.interface.assumed) == (0x17, 0x15, True)
        assert xen.interface.taken == (0x17, 0x15)


def newer(release: str = "4.22", ahead: int = 1, kind: type[Hypervisor] = Hypervisor) -> Hypervisor:
    """A release after the newest known one, with the structures of a known one."""
    truth = kind(named(f"sim:xen-{release}"))
    truth.interface = truth.interface._replace(domctl=0x18 + ahead, sysctl=0x16 + ahead)
    return truth


@pytest.mark.parametrize("grown", [8, 64, 300, 3000])
@pytest.mark.parametrize("ahead", [0, 1])
def test_an_assumed_release_does_not_have_records_of_another_size(grown: int, ahead: int) -> None:
    truth = newer(ahead=ahead, kind=longer(grown))
    known = domctl.GETDOMAININFO_STRUCT.at(truth.interface).size
    text = f"writes domain records of {known + grown} bytes; pyxc expects {known}"
    link = link_to(truth)
    with pytest.raises(errors.VersionMismatch, match=text):
        pyxc.connect(link, assume=(4, 22))
    assert link.pool.outstanding == 0


@pytest.mark.parametrize("ahead", [1, 2, 40])
def test_of_a_newer_xen_the_numbers_that_it_takes_are_found(ahead: int) -> None:
    truth = newer(ahead=ahead)
    with pyxc.connect(link_to(truth), assume=(4, 22)) as xen:
        assert (xen.interface.xen, xen.interface.domctl, xen.interface.sysctl) == ((4, 22), 0x18, 0x16)
        assert xen.interface.taken == (0x18 + ahead, 0x16 + ahead)
        assert [info.domid for info in xen.domains.infos()] == [0, 1, 2, 3]
        web1 = xen.domains[1]
        web1.pause()
        assert web1.info().paused
        assert len(xen.topology()) == 2 and len(xen.numa()) == 1 and len(xen.idle_ns()) == 2
        with pytest.raises(errors.HypercallError, match=rf"unpausedomain \(interface {0x18 + ahead:#x}\)"):
            xen.domains[2].unpause()


def test_of_one_family_alone_the_number_may_be_newer() -> None:
    truth = newer()
    truth.interface = truth.interface._replace(domctl=0x18)
    with pyxc.connect(link_to(truth), assume=(4, 22)) as xen:
        assert xen.interface.taken == (0x18, 0x17)
        assert len(xen.domains) == 4


def test_what_takes_no_number_at_all_is_refused() -> None:
    link = link_to(newer(ahead=99))
    with pytest.raises(
        errors.VersionMismatch, match="accepts none of 0x18 and 0x19 to 0x58, or its sec.*XSM"
    ):
        pyxc.connect(link, assume=(4, 22))
    assert link.pool.outstanding == 0


def test_a_known_version_is_not_taken_for_another_one() -> None:
    for release, assumed in (("4.17", (4, 22)), ("4.20", (4, 16))):
        with pytest.raises(
            errors.VersionMismatch, match=r"pyxc knows this version.*: do not assume a release"
        ):
            pyxc.connect(link_to(fresh(release)), assume=assumed)


@pytest.mark.parametrize("release", [(9, 9), (4, 24), (3, 0), (4,), (4, 22, 1)])
def test_a_release_without_known_structures_cannot_be_assumed(release: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="are unknown: expected a release from 3.1 to 4.22"):
        pyxc.connect(link_to(fresh()), assume=release)


def test_the_environment_assumes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXC_ASSUME", "4.22")
    with pyxc.connect(link_to(newer())) as xen:
        assert xen.interface.assumed
    with pytest.raises(errors.VersionMismatch, match="do not assume a release"):
        pyxc.connect(link_to(fresh()))
    monkeypatch.setenv("PYXC_ASSUME", "new")
    with pytest.raises(ValueError, match="'new' is not a Xen release such as 4.22"):
        pyxc.connect(link_to(fresh()))
    monkeypatch.setenv("PYXC_ASSUME", "")
    pyxc.connect(link_to(fresh())).close()


GROWN: dict[str, tuple[str, Table, Callable[[pyxc.Xen], object]]] = {
    "cputopo": ("4.22", sysctl.CPUTOPO_STRUCT, lambda xen: xen.topology()),
    "meminfo": ("4.22", sysctl.MEMINFO_STRUCT, lambda xen: xen.numa()),
    "cpuinfo": ("4.22", sysctl.CPUINFO_STRUCT, lambda xen: xen.idle_ns()),
    "leaves": ("4.22", cpu_policy.LEAF_STRUCT, lambda xen: domain_policy(xen, 1)),
    "msrs": ("4.22", cpu_policy.MSR_STRUCT, lambda xen: xen.cpu_policies.host(Policy.HOST)),
    "status": ("4.22", livepatch.STATUS_STRUCT, lambda xen: xen.livepatches.all()),
    "desc": ("4.17-xsm", perfc.DESC_STRUCT, lambda xen: xen.perfc.read()),
    "rtds": ("4.17-xsm", domctl_scheduler.SCHEDPARAM_VCPU_RTDS_STRUCT, lambda xen: rtds(xen).scheduling()),
}


def rtds(xen: pyxc.Xen) -> Vcpus:
    """Vcpus of a domain under that scheduler."""
    pool = xen.pools.create(pyxc.Scheduler.RTDS)
    xen.pools[0].remove_cpu(1)
    pool.add_cpu(1)
    pool.add_domain(xen.domains["build"])
    return xen.domains["build"].vcpus


@pytest.mark.parametrize("name", GROWN)
@pytest.mark.parametrize("grown", [4, 8, 64])
def test_lists_whose_items_have_grown_are_not_believed(name: str, grown: int) -> None:
    release, table, question = GROWN[name]

    class Grown(Hypervisor):
        def layout(self, wanted: Table) -> Layout:
            if wanted is not table:
                return super().layout(wanted)
            return Layout(wanted.name, [*wanted.rows_at(self.interface), pad(grown)], "little")

    truth = Grown(named(f"sim:xen-{release}"))
    truth.livepatches.append(Patch("a"))
    assumed = truth.profile.xen
    link = link_to(truth)
    text = rf"this hypervisor writes \d+ bytes for \d+ x {table.name}; pyxc expects \d+"
    with pyxc.connect(link, assume=assumed) as xen:
        with pytest.raises(errors.VersionMismatch, match=text):
            question(xen)
        assert link.pool.outstanding == 0


@pytest.mark.parametrize("name", GROWN)
def test_lists_that_are_as_they_were_are_measured_once(name: str) -> None:
    release, _, question = GROWN[name]
    truth = Hypervisor(named(f"sim:xen-{release}"))
    link = link_to(truth)
    with pyxc.connect(link, assume=truth.profile.xen) as xen, pyxc.connect(truth.connect()) as known:
        assumed = question(xen)
        if name != "rtds":
            before = link.hypercalls
            again = question(xen)
            if name not in ("cpuinfo", "desc"):
                assert assumed == again == question(known)
            assert link.hypercalls - before <= 5  # since 4.21 a domain that is looked up is recognised, too


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        (b"xen-3.0-aarch64 xen-3.0-armv7l ", "64-bit Arm"),
        (b"xen-3.0-armv7l", "Arm"),
        (b"xen-3.0-riscv64", "RISC-V"),
        (b"xen-3.0-powerpc64le", "PowerPC"),
        (b"xen-3.0-x86_32p hvm-3.0-x86_32 hvm-3.0-x86_32p ", "32-bit x86"),
    ],
)
@pytest.mark.parametrize("assume", [None, (4, 17)])
def test_another_architecture_is_refused_in_words(
    kinds: bytes, name: str, assume: tuple[int, int] | None
) -> None:
    link = link_to(fresh())
    link.lie(version.CAPABILITIES, capabilities=kinds)
    text = rf"this is Xen 4.17 for {name} \({kinds.decode().strip()}\): pyxc supports Xen on x86-64 only"
    with pytest.raises(errors.Unsupported, match=text):
        pyxc.connect(link, assume=assume)
    assert link.pool.outstanding == 0


@pytest.mark.parametrize("kinds", [b"", b"<denied>", b"hvm-3.0-x86_32 hvm-3.0-x86_64", b"xen-9.9-unheard-of"])
def test_kinds_of_guests_that_tell_nothing_refuse_nothing(kinds: bytes) -> None:
    link = link_to(fresh())
    link.lie(version.CAPABILITIES, capabilities=kinds)
    pyxc.connect(link).close()
    link = link_to(fresh())
    link.fail(version.CAPABILITIES, errno.EPERM)
    pyxc.connect(link).close()


def test_a_closed_handle_says_so() -> None:
    xen = pyxc.open("sim:")
    xen.close()
    with pytest.raises(ValueError, match="closed"):
        xen.physinfo()
