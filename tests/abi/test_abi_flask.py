# SPDX-License-Identifier: MIT
"""Object classes and permissions against the access_vectors of each release."""

from __future__ import annotations

import json

import goldens
import pytest

from pyxc.abi import flask_vectors
from pyxc.abi.layout import Release
from pyxc.abi.releases import RELEASES

CHANGES = json.loads((goldens.HERE / "flask-vectors.json").read_text())["since"]
STRUCTURED = (4, 2)


def vectors_of(release: Release) -> dict[str, list[str]]:
    """Permissions in order by class, in order."""
    since = [name for name in CHANGES if tuple(map(int, name.split("."))) <= release]
    return dict(CHANGES[since[-1]])


@pytest.mark.parametrize("release", sorted({known.xen for known in RELEASES if known.xen >= STRUCTURED}))
def test_classes_and_permissions_have_the_numbers_of_their_release(release: Release) -> None:
    vectors = vectors_of(release)
    numbers = {name: number for number, name in enumerate(vectors, start=1)}
    assert flask_vectors.classes(release) == numbers
    for name, permissions in vectors.items():
        bits = {permission: 1 << bit for bit, permission in enumerate(permissions)}
        assert flask_vectors.permissions(release, name) == bits
