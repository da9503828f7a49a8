# SPDX-License-Identifier: MIT
"""What domains have of what xenstored limits."""

from __future__ import annotations

import errno

import pytest

import pyxc
from pyxc.errors import StoreError
from pyxc.store.usage import StoreUsage

OF_4_17 = "Domain 1:\nnodes           :       21\nwatches         :        3\ntransactions    :        1\n"
OF_4_20 = (
    "Domain 1:\nnodes            :       21 (max       40)\nwatches          :        3 (max        3)\n"
    "transactions     :        1 (max        2)\noutstanding      :        0 (max        4)\n"
    "transaction-nodes:        7 (max       99)\nmemory           :     5000 (max     9000)\n"
)


def test_the_words_of_several_releases() -> None:
    assert StoreUsage.parse(OF_4_17) == StoreUsage(21, 3, 1, None, None)
    assert StoreUsage.parse(OF_4_20) == StoreUsage(21, 3, 1, 0, 5000)


@pytest.mark.parametrize(
    "text", ["", "OK", "nodes : -1", "nodes : 1e9", "nodes : " + "9" * 30, "watches : 3"]
)
def test_words_that_count_nothing(text: str) -> None:
    with pytest.raises(StoreError, match="counts no nodes"):
        StoreUsage.parse(text)


def test_what_a_guest_uses_is_counted() -> None:
    with pyxc.open("sim:xen-4.17") as xen:
        store, before = xen.store, xen.store.usage(1)
        store.write("/local/domain/1/data/note", b"")
        store.set_permissions("/local/domain/1/data/note", ["n1"])
        assert store.usage(1).nodes == before.nodes + 1
        others = store.usages([0, 77, 1])
        assert others[2] == store.usage(1)
        assert isinstance(others[1], StoreError) and others[1].errno == errno.ENOENT
        with pytest.raises(StoreError, match="control"):
            store.usage(77)


def test_a_read_only_handle_may_ask() -> None:
    with pyxc.open("sim:xen-4.17", readonly=True) as xen:
        details = xen.sample(full=True).details
        assert details is not None
        assert [one.store for one in details.domains.values()] == xen.store.usages(xen.domains)


def test_an_id_that_xen_should_not_report_is_an_unknown_one() -> None:
    with pyxc.open("sim:xen-4.17") as xen:
        (found,) = xen.store.usages([34272])
        assert isinstance(found, StoreError)
        with pytest.raises(ValueError, match="domid is 34272"):
            xen.store.usage(34272)
