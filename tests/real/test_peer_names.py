# SPDX-License-Identifier: MIT
"""Names of domains, with xenstored running."""

from __future__ import annotations

import pytest
from ground_truth import Command, Guests, Peer

import pyxc
from pyxc.store import StoreClient, channel

pytestmark = pytest.mark.usefixtures("peer")


def test_names_are_those_of_xl(named: pyxc.Xen, guests: Guests) -> None:
    assert named.domains[0].name == "Domain-0"
    for name, domid in guests.domids.items():
        assert named.domains[domid].name == name
        assert named.domains[name].domid == domid
    with pytest.raises(KeyError):
        named.domains["nobody"]


def test_names_through_the_kernels_device(monkeypatch: pytest.MonkeyPatch, named: pyxc.Xen) -> None:
    monkeypatch.setattr(channel, "SOCKETS", ())
    with StoreClient() as store:
        assert store.read("/local/domain/0/name") == b"Domain-0"
        assert store.read("/local/domain/0/nothing") is None
        assert "domain" in (store.list("/local") or [])


def test_renamed_guest(named: pyxc.Xen, peer: Peer, guests: Guests) -> None:
    peer.xl("rename", "pv", "other")
    try:
        assert named.domains[guests.domids["pv"]].name == "other"
    finally:
        peer.xl("rename", "other", "pv")


def test_domain_without_a_name_is_null_as_in_xl(peer: Peer, pv: pyxc.Domain, pyxc_command: Command) -> None:
    def row(text: str) -> str:
        return next(line for line in text.splitlines() if line.split()[1] == str(pv.domid))

    listed = pyxc_command("list")
    assert row(listed.stdout) == row(peer.xl("list"))
    assert row(listed.stdout).startswith("(null) ")
    assert listed.stderr == ""
