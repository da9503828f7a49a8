# SPDX-License-Identifier: MIT
"""dom0_op: commands and envelope against the headers of 2006, and its place before domctl and sysctl."""

from __future__ import annotations

import re

import goldens
import pytest

from pyxc.abi import dom0_ops, domctl, sysctl
from pyxc.abi.arch import ppc64
from pyxc.abi.layout import Interface, NotInInterface
from pyxc.abi.operation import DOM0_OP, Operation
from pyxc.abi.releases import BEFORE_DOMCTL, RELEASES

APRIL, JUNE, AUGUST = BEFORE_DOMCTL
OPERATIONS = {name: asked for name, asked in goldens.operations().items() if asked.family is DOM0_OP}

# How pyxc tells apart what one command does: the end of an operation's name.
VARIANT = re.compile(r"(_(bvt|sedf|credit))?_(get|put|read|write|clear|peek|reset|query)$")

# Commands that the headers of April do not have: ours, and those of August.
NOT_IN_APRIL = {"GETMEMLIST2": 42, "DOMAIN_SETUP": 49, "SETTIMEOFFSET": 50}


def april(prefix: str) -> dict[str, int]:
    """Constants of the headers of April 2006, by what follows the prefix in their names."""
    return {
        name.removeprefix(prefix): ranges[0][2]
        for name, ranges in goldens.constants().items()
        if name.startswith(prefix) and ranges[0][0] == (3, 0)
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_its_command(name: str) -> None:
    asked = OPERATIONS[name]
    assert name == f"dom0_ops.{asked.name.upper()}"
    commands = {**april("DOM0_"), **NOT_IN_APRIL}
    command = asked.name if asked.name.upper() in commands else VARIANT.sub("", asked.name)
    assert asked.command == commands[command.upper()]


def test_every_command_of_april_has_an_operation() -> None:
    options = re.compile(r"SHADOW_CONTROL_OP_|PERFCCONTROL_OP_|TBUF_|INTERFACE_VERSION")
    commands = {value for name, value in april("DOM0_").items() if not options.match(name)}
    assert len(commands) == 37
    assert commands | set(NOT_IN_APRIL.values()) == {asked.command for asked in OPERATIONS.values()}


@pytest.mark.parametrize(
    "members, prefix",
    [(dom0_ops.ShadowOp, "DOM0_SHADOW_CONTROL_OP_"), (dom0_ops.PerfcOp, "DOM0_PERFCCONTROL_OP_")],
)
def test_members_of_enums(members: type[dom0_ops.ShadowOp], prefix: str) -> None:
    assert {member.name: member.value for member in members} == april(prefix)


@pytest.mark.parametrize("interface", BEFORE_DOMCTL, ids=goldens.golden_name)
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_the_envelope_is_the_hypervisors(interface: Interface, byteorder: str) -> None:
    golden = goldens.struct_of(goldens.golden_name(interface), "dom0_op")
    assert golden is not None
    fields = {field.name: field for field in golden.fields}
    for asked in OPERATIONS.values():
        try:
            layout = asked.at(interface._replace(byteorder=byteorder))
        except NotInInterface:
            continue
        assert layout.size == golden.size == 136
        assert (layout.offsets["cmd"], layout.offsets["interface_version"]) == (0, 4)
        assert layout.body == fields["u"].offset == 8


def test_the_number_of_april_is_the_headers() -> None:
    assert april("DOM0_INTERFACE_")["VERSION"] == APRIL.dom0_op
    assert april("__HYPERVISOR_")["dom0_op"] == DOM0_OP.hypercall


@pytest.mark.parametrize("interface", RELEASES, ids=goldens.golden_name)
def test_later_releases_have_no_dom0_op(interface: Interface) -> None:
    with pytest.raises(NotInInterface, match="no dom0_op"):
        dom0_ops.GETMEMLIST.at(interface)


@pytest.mark.parametrize(
    "asked, spoken",
    [
        (domctl.PAUSEDOMAIN, dom0_ops.PAUSEDOMAIN),
        (domctl.MAX_MEM, dom0_ops.SETDOMAINMAXMEM),
        (sysctl.GETDOMAININFOLIST, dom0_ops.GETDOMAININFOLIST),
    ],
)
def test_an_operation_is_asked_for_by_its_dom0_op_then(asked: Operation, spoken: Operation) -> None:
    assert asked.spoken(APRIL) is spoken
    assert asked.spoken(RELEASES[-1]) is asked


def test_what_dom0_op_could_not_do_is_not_there() -> None:
    with pytest.raises(NotInInterface, match=r"Xen 3\.0 has no domctl"):
        domctl.RESUMEDOMAIN.at(APRIL)


def test_the_records_of_a_list_are_those_of_dom0_op() -> None:
    assert domctl.GETDOMAININFO_STRUCT.at(APRIL).size == 72


@pytest.mark.parametrize(
    "release, size, offsets",
    [
        ((3, 0), 344, {"lr": 256, "pc": 288, "hid4": 320, "cr": 328, "entry_vector": 332}),
        ((3, 1), 360, {"lr": 256, "dar": 328, "dsisr": 336, "cr": 340, "entry_vector": 348}),
    ],
)
def test_the_context_of_a_powerpc_vcpu(release: tuple[int, int], size: int, offsets: dict[str, int]) -> None:
    layout = ppc64.VCPU_GUEST_CONTEXT_STRUCT.at(APRIL._replace(xen=release, byteorder="big"))
    assert layout.size == size
    assert {name: layout.offsets[f"user_regs.{name}"] for name in offsets} == offsets
    assert layout.sizes["user_regs.gprs"] == 256
    assert layout.offsets["sdr1"] == size - 8
