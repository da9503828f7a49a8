# SPDX-License-Identifier: MIT
"""What a handle has open: the devices that it needs, each once."""

from __future__ import annotations

import os

import pyxc
from pyxc.compat.xc import xc


def _open_files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # of the list itself
            continue
    return found


def test_a_handle_opens_nothing_twice() -> None:
    before = _open_files()
    with pyxc.open(names=False) as first:
        assert first.domains[0].info().domid == 0
        opened = {number: path for number, path in _open_files().items() if number not in before}
        assert sorted(opened.values()) in (["/dev/xen/hypercall", "/dev/xen/privcmd"], ["/dev/xen/privcmd"])
        with pyxc.open(names=False) as second:
            assert second.domains[0].info().domid == 0
            assert len(_open_files()) == len(before) + 2 * len(opened)
    assert _open_files() == before


def test_a_handle_of_the_drop_in_is_no_dearer() -> None:
    before = _open_files()
    first = xc()
    assert first.domain_getinfo(0, 1)[0]["domid"] == 0
    opened = [path for number, path in _open_files().items() if number not in before]
    assert len(opened) == len(set(opened)) <= 2
    del first
