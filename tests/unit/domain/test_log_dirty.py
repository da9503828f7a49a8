# SPDX-License-Identifier: MIT
"""Pages that a domain writes."""

from __future__ import annotations

import pytest
from hosts import Boot, Host

from pyxc import errors
from pyxc.abi import domctl_paging


def test_what_a_guest_writes_is_dirty_until_it_is_cleaned(any_host: Host) -> None:
    db1 = any_host.xen.domains["db1"]
    with db1.log_dirty as log:
        assert log.peek().dirty == 0
        any_host.truth.write_as_guest(2, 0x101, 0, b"x")
        any_host.truth.write_as_guest(2, 0x7001, 5, b"y")
        for read in (log.peek, log.clean):
            pages = read()
            assert list(pages.frames()) == [0x101, 0x7001]
            assert (pages.dirty, pages.dirty_count) == (2, 2)
            assert pages.pages == db1.memory.maximum_gpfn() + 1
            assert len(pages.bitmap) == -(-pages.pages // 8)
        assert log.clean(final=True).dirty == 0
        any_host.truth.write_as_guest(2, 0x102, 0, b"x")
        assert list(log.peek(0x103).frames()) == [0x102]
        assert list(log.peek(0x102).frames()) == []
    assert any_host.truth.domains[2].dirty is None
    assert log.peek(0x200).dirty == 0
    assert repr(log) == "<LogDirty of domain 2>"
    assert repr(pages) == f"<DirtyPages: 2 of {pages.pages}>"


def test_it_is_off_after_an_error(host: Host) -> None:
    with pytest.raises(RuntimeError), host.xen.domains["db1"].log_dirty:
        raise RuntimeError
    assert host.truth.domains[2].dirty is None


def test_it_cannot_be_on_twice(host: Host) -> None:
    log = host.xen.domains["db1"].log_dirty
    log.enable()
    with pytest.raises(errors.HypercallError, match="shadow_op_enable_logdirty.*EINVAL"):
        log.enable()
    log.disable()


def test_pv_domains_need_shadow_page_tables(boot: Boot) -> None:
    host = boot("4.17")
    web1 = host.xen.domains["web1"]
    with web1.log_dirty as log:
        frame = web1.memory.p2m().entries[5]
        host.truth.write_as_guest(1, frame, 0, b"x")
        assert list(log.clean().frames()) == [5]
    with pytest.raises(errors.Unsupported, match="has no shadow page tables.*migrate --stopped"):
        boot("4.20").xen.domains["web1"].log_dirty.enable()


def test_bad_sizes_never_get_to_the_hypervisor(host: Host) -> None:
    log = host.xen.domains["db1"].log_dirty
    for pages in (0, -1, 2**41):
        with pytest.raises(ValueError, match="pages"):
            log.clean(pages)


def test_a_hypervisor_that_claims_more_pages_than_asked_for(host: Host) -> None:
    host.link.lie(domctl_paging.SHADOW_OP_PEEK, pages=2**40)
    assert host.xen.domains["db1"].log_dirty.peek(64).pages == 64


def test_reading_is_for_read_only_handles_too(boot: Boot) -> None:
    log = boot(readonly=True).xen.domains["db1"].log_dirty
    assert log.peek(64).dirty == 0
    with pytest.raises(errors.ReadOnlyError):
        log.clean(64)
