# SPDX-License-Identifier: MIT
"""Opening: the way to a hypervisor, and which interface it speaks."""

from __future__ import annotations

import errno

import pytest
from hosts import RELEASES, HostLink

import pyxc
from pyxc import errors
from pyxc.abi import domctl, sysctl, version
from pyxc.abi.layout import Layout, Table, pad
from pyxc.sim import Hypervisor, named


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
    with pytest.raises(ValueError, match='it must be "auto" or "never"'):
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


class Longer(Hypervisor):
    """A hypervisor whose domain records have grown without a new interface number."""

    def layout(self, table: Table) -> Layout:
        if table is not domctl.GETDOMAININFO_STRUCT:
            return super().layout(table)
        return Layout(table.name, [*table.rows_at(self.interface), pad(8)], "little")


def test_records_of_another_size_than_known_are_not_trusted() -> None:
    truth = Longer(named("sim:xen-4.17"), with_guests=False)
    known = domctl.GETDOMAININFO_STRUCT.at(truth.interface).size
    link = link_to(truth)
    with pytest.raises(errors.VersionMismatch, match=f"records of {known + 8} bytes where {known} are known"):
        pyxc.connect(link)
    assert link.pool.outstanding == 0


def test_an_expert_may_assume_a_release() -> None:
    link = link_to(fresh("4.20"))
    with pyxc.connect(link, assume=(4, 20)) as xen:
        assert (xen.interface.domctl, xen.interface.sysctl) == (0x17, 0x15)
        assert link.hypercalls == 1, "nothing but the release is asked"
    with pyxc.connect(link_to(fresh()), assume=(9, 9)) as xen:
        assert (xen.interface.domctl, xen.interface.sysctl) == (0x18, 0x16)


def test_a_closed_handle_says_so() -> None:
    xen = pyxc.open("sim:")
    xen.close()
    with pytest.raises(ValueError, match="closed"):
        xen.physinfo()
