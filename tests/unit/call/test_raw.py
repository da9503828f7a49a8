# SPDX-License-Identifier: MIT
"""The raw door: operations by name and fields, and those that a program declares itself."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

import pyxc
from pyxc.abi import domctl
from pyxc.abi.layout import U32, U64, Row, Table
from pyxc.abi.operation import DOMCTL, SYSCTL, Operation


def test_a_domctl_by_name(host: Host) -> None:
    host.xen.domctl("max_mem", 1, max_memkb=1 << 20)
    assert host.truth.domains[1].max_pages == 1 << 18


def test_a_sysctl_by_name(host: Host) -> None:
    assert host.xen.sysctl("physinfo").field("nr_cpus") == 2


def test_an_unknown_name_is_told_the_nearest(host: Host) -> None:
    with pytest.raises(ValueError, match="domctl has no operation 'pause'; there is .*pausedomain"):
        host.xen.domctl("pause", 1)


def test_a_name_without_neighbours_is_told_them_all(host: Host) -> None:
    with pytest.raises(ValueError, match="numainfo, perfc_op_query, perfc_op_reset, physinfo"):
        host.xen.sysctl("xyzzy")


def test_an_unknown_field_is_refused_before_the_hypercall(host: Host) -> None:
    before = host.link.hypercalls
    with pytest.raises(TypeError, match="no field 'memkb'"):
        host.xen.domctl("max_mem", 1, memkb=4)
    assert host.link.hypercalls == before


@pytest.mark.parametrize("size", [-1, -64, -8388608, -(2**70), 2**62, 2**63 - 1, 2**63, 2**64])
def test_a_buffer_of_a_size_out_of_range_is_refused_before_the_hypercall(host: Host, size: int) -> None:
    before = host.link.hypercalls
    bitmaps = {"cpumap_hard.bitmap": size, "cpumap_soft.bitmap": b"A" * 64}
    with pytest.raises(ValueError, match=r"affinity: the size of cpumap_hard.bitmap is -?\d+: it must"):
        host.xen.domctl("setvcpuaffinity", 1, vcpu=0, flags=3, **bitmaps)
    with pytest.raises(ValueError, match=r"getvcpucontext: the size of ctxt is"):
        host.xen.caller.batch(domctl.GETVCPUCONTEXT, 1, domid=[1], vcpu=[0], ctxt=size)
    assert host.link.hypercalls == before
    assert host.link.pool.outstanding == 0


def test_a_buffer_is_bytes_or_a_size(host: Host) -> None:
    for content in ("text", 1.5, [1]):
        with pytest.raises(TypeError):
            host.xen.domctl("setvcpuaffinity", 1, vcpu=0, flags=3, **{"cpumap_hard.bitmap": content})


def test_a_program_declares_a_vendors_operation(host: Host) -> None:
    structure = Table("xen_domctl_vendor", "domctl", Row("id", U32), Row("count", U32), Row("bytes", U64))
    vendor = Operation(DOMCTL, "vendor", 98, structure, changes=False)
    with pytest.raises(pyxc.Unsupported, match=r"domctl.vendor .* on domain 1") as caught:
        host.xen.domctl(vendor, 1, id=7)
    assert caught.value.errno == errno.ENOSYS


def test_an_operation_of_another_hypercall_is_refused(host: Host) -> None:
    with pytest.raises(ValueError, match=r"sysctl.vendor is not a domctl"):
        host.xen.domctl(Operation(SYSCTL, "vendor", 98, changes=False), 1)


def test_read_only_handles_refuse_raw_changes(boot: Boot) -> None:
    with pytest.raises(pyxc.ReadOnlyError):
        boot(readonly=True).xen.domctl("pausedomain", 1)


def test_dom0_ops_are_of_another_time(host: Host) -> None:
    with pytest.raises(pyxc.Unsupported, match="Xen 4.17 has no dom0_op"):
        host.xen.dom0_op("settime", secs=1, nsecs=0, system_time=0)
