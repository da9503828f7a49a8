# SPDX-License-Identifier: MIT
"""Patches of the running hypervisor."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import errors
from pyxc.abi import livepatch
from pyxc.abi.livepatch import State
from pyxc.link.faults import FaultLink
from pyxc.sim.model.livepatches import Patch

APPLIED = Patch("xsa-999", metadata=b"depends=none\0author=someone\0")
BUSY = Patch("xsa-1000", State.CHECKED, -errno.EAGAIN)


@pytest.mark.parametrize("release", ["4.7", "4.14", "4.22"])
def test_there_are_none(boot: Boot, release: str) -> None:
    assert boot(release).xen.livepatches.all() == []


def test_releases_before_4_7_know_nothing_of_patches(boot: Boot) -> None:
    with pytest.raises(errors.Unsupported):
        boot("4.4").xen.livepatches.all()


def test_patches_are_listed_in_order_with_what_they_say_of_themselves(host: Host) -> None:
    host.truth.livepatches += [APPLIED, BUSY]
    first, second = host.xen.livepatches.all()
    assert (first.name, first.status) == ("xsa-999", (State.APPLIED, 0))
    assert first.metadata == ("depends=none", "author=someone")
    assert (second.name, second.status) == ("xsa-1000", (State.CHECKED, errno.EAGAIN))
    assert second.status.busy and not first.status.busy
    assert second.metadata == ()


def test_releases_before_4_14_tell_no_metadata(boot: Boot) -> None:
    host = boot("4.10")
    host.truth.livepatches.append(APPLIED)
    assert host.xen.livepatches.all() == [("xsa-999", (State.APPLIED, 0), None)]


def test_more_patches_than_are_asked_for_at_once(host: Host) -> None:
    host.truth.livepatches += [Patch(f"patch{number}") for number in range(150)]
    assert [patch.name for patch in host.xen.livepatches.all()] == [f"patch{number}" for number in range(150)]


def test_the_status_of_one(host: Host) -> None:
    host.truth.livepatches.append(BUSY)
    assert host.xen.livepatches.status("xsa-1000") == (State.CHECKED, errno.EAGAIN)
    with pytest.raises(errors.HypercallError) as refused:
        host.xen.livepatches.status("nope")
    assert refused.value.errno == errno.ENOENT


@pytest.mark.parametrize("name", ["", "x" * 128])
def test_a_name_that_none_can_have(host: Host, name: str) -> None:
    with pytest.raises(ValueError, match="length of the name"):
        host.xen.livepatches.status(name)


def test_what_the_hypervisor_claims_is_not_believed(host: Host) -> None:
    host.link.lie(livepatch.LIVEPATCH_OP_LIST, result=65)
    with pytest.raises(errors.DecodeError, match="65 patches in a buffer for 64"):
        host.xen.livepatches.all()


def test_a_state_that_nobody_knows(host: Host) -> None:
    host.truth.livepatches.append(Patch("odd", 7))  # type: ignore[arg-type]
    with pytest.raises(errors.DecodeError, match="state 7"):
        host.xen.livepatches.all()


@pytest.mark.parametrize("release", ["4.7", "4.17", "4.22"])
def test_a_patch_from_its_upload_to_its_end(boot: Boot, release: str) -> None:
    host = boot(release)
    patches = host.xen.livepatches
    for name in ("first", "second"):
        patches.upload(name, b"\x7fELF and so on")
        assert patches.status(name) == (State.CHECKED, 0)
        patches.apply(name)
    assert [patch.state for patch in host.truth.livepatches] == [State.APPLIED, State.APPLIED]
    for act, number in ((patches.revert, errno.EBUSY), (patches.unload, errno.EINVAL)):
        with pytest.raises(errors.HypercallError) as refused:
            act("first")
        assert refused.value.errno == number
    patches.revert("second")
    patches.replace("second")
    assert [patch.state for patch in host.truth.livepatches] == [State.CHECKED, State.APPLIED]
    patches.unload("first")
    assert [patch.name for patch in patches.all()] == ["second"]


def test_what_is_not_a_patch(host: Host) -> None:
    for name, payload, error in (
        ("a", b"", ValueError), ("a", bytes(1 + (2 << 20)), ValueError), ("", b"\x7fELF", ValueError),
        ("a", b"#!/bin/sh", errors.HypercallError),
    ):  # fmt: skip
        with pytest.raises(error):
            host.xen.livepatches.upload(name, payload)
    host.xen.livepatches.upload("a", b"\x7fELF")
    with pytest.raises(errors.HypercallError, match="has this name already"):
        host.xen.livepatches.upload("a", b"\x7fELF")
    with pytest.raises(errors.HypercallError, match="no live patch has this name"):
        host.xen.livepatches.apply("b")
    with pytest.raises(ValueError):
        host.xen.livepatches.apply("a", limit_ns=1 << 32)


def test_patches_below_it_can_be_ignored_since_4_14(boot: Boot) -> None:
    for release in ("4.10", "4.17"):
        host = boot(release)
        host.xen.livepatches.upload("a", b"\x7fELF")
        if release == "4.10":
            with pytest.raises(errors.Unsupported):
                host.xen.livepatches.apply("a", nodeps=True)
        else:
            host.xen.livepatches.apply("a", nodeps=True)
            assert host.truth.livepatches[0].state is State.APPLIED


def test_it_waits_while_xen_is_busy(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.xen.livepatches.upload("a", b"\x7fELF")
    patches = host.truth.livepatches

    def set_error(number: int) -> None:
        patches[0] = patches[0]._replace(error=-number)

    monkeypatch.setattr("time.sleep", lambda _: set_error(errno.EBUSY))
    for timeout, expected in ((30, errors.HypercallError), (0, TimeoutError)):
        monkeypatch.setattr("pyxc.host.livepatches._WAIT_S", timeout)
        link = FaultLink(host.truth.connect())
        link.after(livepatch.LIVEPATCH_OP_ACTION, lambda: set_error(errno.EAGAIN))
        with pyxc.connect(link) as xen, pytest.raises(expected):
            xen.livepatches.apply("a")


def test_a_patch_of_the_same_name_stays(host: Host) -> None:
    patches = host.xen.livepatches
    patches.upload("xsa-1", b"\x7fELF...")
    with pytest.raises(errors.HypercallError, match="EEXIST"):
        patches.load("xsa-1", b"\x7fELF...")
    assert patches.status("xsa-1").state is State.CHECKED
