# SPDX-License-Identifier: MIT
"""The raw door: operations by name and fields, and those that a program declares itself."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import sim
from pyxc.abi import domctl
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import U32, U64, NotInInterface, Row, Table
from pyxc.abi.operation import DOM0_OP, DOMCTL, SYSCTL, XSM_OP, Operation


def test_a_domctl_by_name(host: Host) -> None:
    host.xen.domctl("max_mem", 1, max_memkb=1 << 20)
    assert host.truth.domains[1].max_pages == 1 << 18


def test_a_sysctl_by_name(host: Host) -> None:
    assert host.xen.sysctl("physinfo").field("nr_cpus") == 2


def test_an_unknown_name_is_told_the_nearest(host: Host) -> None:
    with pytest.raises(ValueError, match="domctl has no operation 'pause'; expected one of .*pausedomain"):
        host.xen.domctl("pause", 1)


def test_a_name_without_neighbours_is_told_them_all(host: Host) -> None:
    with pytest.raises(ValueError, match="numainfo, perfc_op_query, perfc_op_reset, physinfo"):
        host.xen.sysctl("xyzzy")


@pytest.mark.parametrize(
    "name", ["destroydomain", "getvcpuaffinity", "max_mem", "pausedomain", "setdomainhandle"]
)
def test_a_domctl_without_its_domain_is_not_about_dom0(host: Host, name: str) -> None:
    before = host.link.hypercalls
    with pytest.raises(TypeError, match=f"domctl.{name} needs the domid of a domain"):
        host.xen.domctl(name)
    assert host.link.hypercalls == before


def test_a_name_is_no_domid(host: Host) -> None:
    with pytest.raises(TypeError, match="must be an id or a Domain"):
        host.xen.domctl("getdomaininfo", "web1")


def test_a_change_without_fields_is_refused_before_the_hypercall(host: Host) -> None:
    """All of them would be zero: the domain could own no memory."""
    before = host.link.hypercalls
    with pytest.raises(TypeError, match="domctl.max_mem needs fields, of max_memkb"):
        host.xen.domctl("max_mem", 1)
    assert host.link.hypercalls == before
    host.xen.domctl("pausedomain", 1)


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


RUNSTATE = Operation(
    DOMCTL, "get_runstate_info", 98,
    Table(
        "xen_domctl_runstate_info", "domctl",
        Row("state", U32), Row("missed_changes", U32), Row("state_entry_time", U64), Row("time", U64, 6),
    ),
    changes=False,
)  # fmt: skip
"""Of XenServer and XCP-ng."""


def test_a_program_declares_a_vendors_operation(host: Host) -> None:
    with pytest.raises(pyxc.Unsupported, match=r"domctl.get_runstate_info .* on domain 1") as caught:
        host.xen.domctl(RUNSTATE, 1)
    assert caught.value.errno == errno.ENOSYS


def test_a_simulated_host_is_told_a_vendors_operation(boot: Boot) -> None:
    told, other = boot(readonly=True), boot()

    @told.truth.handles(RUNSTATE)
    def runstate(call: sim.Call) -> None:
        if call.domain.domid == 2:
            raise sim.Refusal(XenErrno.EBUSY)
        assert call["missed_changes"] == 7
        call.answer(state=3, time=[*range(6)])

    reply = told.xen.domctl(RUNSTATE, 1, missed_changes=7)
    assert (reply.result, reply.field("state"), reply.field("missed_changes")) == (0, 3, 7)
    assert reply.field("time") == reply.fields()["time"] == (0, 1, 2, 3, 4, 5)
    with pytest.raises(pyxc.DomainNotFound):
        told.xen.domctl(RUNSTATE, 77)
    with pytest.raises(pyxc.HypercallError, match="EBUSY"):
        told.xen.domctl(RUNSTATE, 2)
    with pytest.raises(pyxc.Unsupported):
        other.xen.domctl(RUNSTATE, 1)


def test_arrays_go_and_come_whole(host: Host) -> None:
    host.truth.handles(RUNSTATE)(lambda call: sum(call["time"]))
    reply = host.xen.domctl(RUNSTATE, 1, time=[1, 2, 3, 4, 5, 6])
    assert (reply.result, reply.field("time")) == (21, (1, 2, 3, 4, 5, 6))
    for times in ((1, 2, 3), [*range(7)], [1 << 64] * 6, 7, b""):
        with pytest.raises(ValueError, match=r"domctl.get_runstate_info: time is an array"):
            host.xen.domctl(RUNSTATE, 1, time=times)


def test_bytes_are_not_cut(host: Host) -> None:
    before = host.truth.domains[1].handle
    for handle in (b"x" * 17, 5, "x" * 16):
        with pytest.raises(ValueError, match=r"domctl.setdomainhandle: "):
            host.xen.domctl("setdomainhandle", 1, handle=handle)
    assert host.truth.domains[1].handle == before
    host.xen.domctl("setdomainhandle", 1, handle=b"short")
    assert host.truth.domains[1].handle == b"short".ljust(16, b"\0")


def test_a_simulated_host_answers_in_another_way(host: Host) -> None:
    host.truth.handles(domctl.PAUSEDOMAIN, domctl.UNPAUSEDOMAIN)(lambda call: -XenErrno.EPERM)
    for change in (host.xen.domains[1].pause, host.xen.domains[1].unpause):
        with pytest.raises(pyxc.PermissionDenied):
            change()
    assert host.xen.domains[1].info().memory_kb > 0


@pytest.mark.parametrize(
    "operation",
    [
        Operation(DOMCTL, "former", 98, changes=True, stop=0x15),
        Operation(DOM0_OP, "former", 98, changes=True),
        Operation(XSM_OP, "flask", 98, changes=True),
    ],
)
def test_a_simulated_host_is_told_nothing_that_it_cannot_have(host: Host, operation: Operation) -> None:
    with pytest.raises(NotInInterface):
        host.truth.handles(operation)(lambda call: 0)


def test_an_operation_of_another_hypercall_is_refused(host: Host) -> None:
    with pytest.raises(ValueError, match=r"sysctl.vendor is not a domctl"):
        host.xen.domctl(Operation(SYSCTL, "vendor", 98, changes=False), 1)


def test_read_only_handles_refuse_raw_changes(boot: Boot) -> None:
    with pytest.raises(pyxc.ReadOnlyError):
        boot(readonly=True).xen.domctl("pausedomain", 1)


def test_dom0_ops_are_of_another_time(host: Host) -> None:
    with pytest.raises(pyxc.Unsupported, match="Xen 4.17 has no dom0_op"):
        host.xen.dom0_op("settime", secs=1, nsecs=0, system_time=0)
