# SPDX-License-Identifier: MIT
"""Vcpus: where they are, where they may be, and their registers."""

from __future__ import annotations

import errno
import os

import pytest

import pyxc
from pyxc import Affinity, VcpuContext
from pyxc.abi import domctl
from pyxc.abi.arch.x86 import ContextFlag

RUNS_32_BIT = "xen-3.0-x86_32p"
ONLINE_IN_KERNEL = 0x24
REGISTERS = {
    "flags": ONLINE_IN_KERNEL,
    "rip": 0x1234,
    "rsp": 0x5678,
    "rflags": 0x202,
    "cs": 0xE033,
    "ss": 0xE02B,
    "kernel_ss": 0xE02B,
    "kernel_sp": 0x9000,
    **{f"r{number}": 0x1111111111111111 * (number - 7) for number in range(8, 16)},
    "rax": 2**64 - 1,
    "rbp": 1 << 63,
}


def test_all_at_once_as_one_by_one(xen: pyxc.Xen, pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    at_once = xen.vcpus()
    one_by_one = [vcpu.info() for domain in xen.domains.values() for vcpu in domain.vcpus]
    assert [info[:3] for info in at_once] == [info[:3] for info in one_by_one]
    assert [info for info in at_once if info.domid != 0] == [info for info in one_by_one if info.domid != 0]
    assert pv.vcpus.infos() == [info for info in at_once if info.domid == pv.domid]


def test_dom0_runs_the_asking_vcpu(xen: pyxc.Xen) -> None:
    infos = xen.domains[0].vcpus.infos()
    assert any(info.running for info in infos)
    assert all(info.online and info.cpu < xen.nr_cpus and info.cpu_time_ns > 0 for info in infos)


def test_vcpus_of_a_new_domain_are_offline(pv: pyxc.Domain) -> None:
    assert [(info.vcpu, info.online, info.cpu_time_ns) for info in pv.vcpus.infos()] == [
        (0, False, 0),
        (1, False, 0),
    ]
    assert not pv.vcpu(0).online()
    assert [vcpu.index for vcpu in pv.vcpus] == [0, 1]


def test_missing_vcpu(pv: pyxc.Domain) -> None:
    for call in (pv.vcpu(2).info, pv.vcpu(2).affinity, pv.vcpu(2).context):
        with pytest.raises(pyxc.HypercallError) as caught:
            call()
        assert caught.value.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT)


def test_affinity_of_each_vcpu_is_its_own(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    everywhere = frozenset(range(xen.nr_cpus))
    pv.vcpu(0).set_affinity(hard=everywhere, soft=everywhere)
    assert pv.vcpu(1).set_affinity(hard=[1]).hard == {1}
    assert pv.vcpu(1).set_affinity(soft=[0]) == Affinity(frozenset([1]), frozenset([0]))
    affinities = xen.affinities()
    assert affinities[pv.domid, 1] == pv.vcpu(1).affinity() == Affinity(frozenset([1]), frozenset([0]))
    assert affinities[pv.domid, 0].hard >= everywhere
    assert pv.vcpu(1).set_affinity(soft=[]).soft == frozenset()


def test_context_of_a_vcpu_that_never_ran(pv: pyxc.Domain) -> None:
    with pytest.raises(pyxc.HypercallError) as caught:
        pv.vcpu(0).context()
    assert caught.value.errno == errno.ENODATA


def test_vcpu_that_asks_has_no_context_to_give(xen: pyxc.Xen) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    try:
        with pytest.raises(pyxc.HypercallError) as caught:
            xen.domains[0].vcpu(0).context()
        other = xen.domains[0].vcpu(1).context()
    finally:
        os.sched_setaffinity(0, before)
    assert caught.value.errno == errno.EINVAL
    assert other.width == 64 and other["rip"] != 0


def test_context_of_a_pv_vcpu(pv: pyxc.Domain) -> None:
    (table,) = pv.memory.populate([0])
    pv.memory.write(table, bytes(4096))
    wanted = VcpuContext.zero(64, pv.xen.interface).replace(cr3=table << 12, **REGISTERS)
    pv.vcpu(0).set_context(wanted)
    assert pv.vcpu(0).online()
    found = pv.vcpu(0).context()
    assert found.width == 64
    # Xen 4.22 adds to what was set that the registers of the x87 are valid.
    flags = ONLINE_IN_KERNEL | found["flags"] & ContextFlag.I387_VALID
    expected = {"cr3": table << 12, **REGISTERS, "flags": flags}
    assert {name: found[name] for name in expected} == expected
    changed = found.replace(r12=0x7079786372313221)
    pv.vcpu(0).set_context(changed)
    again = pv.vcpu(0).context()
    assert {name for name in found if found[name] != again[name]} == {"r12"}
    assert again["r12"] == 0x7079786372313221
    assert not pv.vcpu(1).online()


def test_context_without_page_tables_is_refused(pv: pyxc.Domain) -> None:
    with pytest.raises(pyxc.HypercallError) as caught:
        pv.vcpu(0).set_context(VcpuContext.zero(64, pv.xen.interface).replace(**REGISTERS))
    assert caught.value.errno == errno.EINVAL
    assert not pv.vcpu(0).online()


def test_width_of_32_bit_guests(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    """Where Xen can run them; Debian's stopped being able to."""
    narrow = VcpuContext.zero(32, xen.interface)
    if RUNS_32_BIT in xen.capabilities:
        xen.call(domctl.SET_ADDRESS_SIZE, pv.domid, size=32)
        with pytest.raises(ValueError, match="64-bit context does not fit this 32-bit guest"):
            pv.vcpu(0).set_context(VcpuContext.zero(64, xen.interface))
        with pytest.raises(pyxc.HypercallError) as caught:
            pv.vcpu(0).set_context(narrow)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(pyxc.Unsupported, match="publishes none"):
            pv.memory.populate([0])
            pv.memory.p2m()
    else:
        with pytest.raises(pyxc.HypercallError):
            xen.call(domctl.SET_ADDRESS_SIZE, pv.domid, size=32)
        with pytest.raises(ValueError, match="32-bit context does not fit this 64-bit guest"):
            pv.vcpu(0).set_context(narrow)
