# SPDX-License-Identifier: MIT
"""Vcpus: what they do, where they may run, and their registers."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

from pyxc import Affinity, VcpuContext, errors
from pyxc.abi.arch import x86
from pyxc.abi.releases import BEFORE_DOMCTL

OWN_IDLE_POINTER = 0xFFFF_FFFF_8100_03AA


def test_a_vcpu_tells_what_it_does(any_host: Host) -> None:
    for domid, domain in any_host.xen.domains.items():
        for vcpu, truth in zip(domain.vcpus, any_host.truth.domains[domid].live_vcpus, strict=True):
            info = vcpu.info()
            assert (info.domid, info.vcpu) == (domid, truth.index)
            assert (info.online, info.blocked, info.running) == (not truth.down, truth.blocked, truth.running)
            assert info.cpu == truth.pcpu
            assert info.cpu_time_ns > 0
            assert vcpu.online()


def test_all_vcpus_come_in_one_multicall(host: Host) -> None:
    assert host.xen.nr_cpus == 2
    before = host.link.hypercalls
    infos = host.xen.vcpus()
    assert host.link.hypercalls - before == 2, "one for the domains, one for all vcpus"
    assert [(info.domid, info.vcpu) for info in infos] == [
        (vcpu.domain.domid, vcpu.index) for vcpu in host.truth.vcpus()
    ]
    assert [info[:6] for info in host.xen.domains[1].vcpus.infos()][0][:2] == (1, 0)


def test_vcpus_are_a_sequence(host: Host) -> None:
    vcpus = host.xen.domains[1].vcpus
    assert len(vcpus) == 2
    assert [vcpu.index for vcpu in vcpus[0:5]] == [0, 1]
    assert vcpus[-1].index == 1
    with pytest.raises(IndexError):
        vcpus[2]
    assert repr(vcpus) == "<Vcpus of domain 1>" and repr(vcpus[1]) == "<Vcpu 1 of domain 1>"


@pytest.mark.parametrize("domid", [0, 1])
@pytest.mark.parametrize(("release", "number"), [("4.10", "EINVAL"), ("4.20", "EINVAL"), ("4.22", "ENOENT")])
def test_a_missing_vcpu_is_refused(boot: Boot, release: str, number: str, domid: int) -> None:
    domain = boot(release).xen.domains[domid]
    missing = domain.vcpu(7)
    with pytest.raises(errors.HypercallError, match=f"{number}.*; the domain has no such vcpu"):
        missing.info()
    for ask in (missing.affinity, missing.context, lambda: missing.set_affinity([0]), missing.reset):
        with pytest.raises(errors.HypercallError, match="EINVAL.*; the domain has no such vcpu"):
            ask()
    with pytest.raises(ValueError, match="vcpu"):
        domain.vcpu(-1)


def test_affinity_is_what_the_scheduler_keeps(any_host: Host) -> None:
    vcpu = any_host.xen.domains[1].vcpu(1)
    truth = any_host.truth.domains[1].live_vcpus[1]
    everywhere = frozenset(range(any_host.xen.nr_cpus))
    has_soft = any_host.truth.profile.since(4, 5)
    assert vcpu.affinity() == Affinity(everywhere, everywhere if has_soft else None)
    assert vcpu.set_affinity(hard=[1]).hard == {1}
    assert truth.hard == 0b10
    if has_soft:
        assert truth.soft == 0b11
        assert vcpu.set_affinity(soft={0}) == Affinity(frozenset({1}), frozenset({0}))
        assert (truth.hard, truth.soft) == (0b10, 0b01)
    affinities = any_host.xen.affinities()
    assert affinities[1, 1] == vcpu.affinity()
    assert set(affinities) == {(v.domain.domid, v.index) for v in any_host.truth.vcpus()}


def test_a_vcpu_may_prefer_no_cpu(host: Host) -> None:
    assert host.xen.domains[1].vcpu(0).set_affinity(soft=[]) == Affinity(frozenset({0, 1}), frozenset())
    assert host.truth.domains[1].live_vcpus[0].soft == 0


def test_a_vcpu_that_vanished_is_left_out(host: Host) -> None:
    host.truth.domains[1].vcpus[0] = None
    assert (1, 0) not in host.xen.affinities() and (1, 1) in host.xen.affinities()
    assert [info.vcpu for info in host.xen.domains[1].vcpus.infos()] == [1]


@pytest.mark.parametrize("cpus", [[2], [-1], [], [0, 64]])
def test_cpus_that_the_host_does_not_have_are_a_mistake_of_the_caller(host: Host, cpus: list[int]) -> None:
    vcpu = host.xen.domains[1].vcpu(0)
    assert host.xen.nr_cpus == 2
    before = host.link.hypercalls
    with pytest.raises(ValueError, match="cpu"):
        vcpu.set_affinity(hard=cpus)
    with pytest.raises(ValueError, match="neither hard nor soft"):
        vcpu.set_affinity()
    assert host.link.hypercalls == before


def test_registers_have_the_names_of_their_width(any_host: Host) -> None:
    context = any_host.xen.domains["web1"].vcpu(0).context()
    assert context.width == 64
    assert context["rip"] == OWN_IDLE_POINTER
    assert (context["cs"], context["ss"], context["rflags"]) == (0xE033, 0xE02B, 0x246)
    if any_host.truth.profile.since(4, 6):
        assert context["cr3"] == any_host.published(1, "p2m_cr3")
    assert (context["dr6"], context["dr7"]) == (0xFFFF0FF0, 0x400)
    assert {"rax", "r15", "cr0", "cr7", "fs_base", "gs_base_kernel", "kernel_sp"} <= set(context)
    assert not {"eip", "fpu_ctxt", "ctrlreg", "user_regs.rip"} & set(context)
    assert len(context) == len(list(context))
    assert f"rip={OWN_IDLE_POINTER:#x}" in repr(context) and repr(context).startswith("VcpuContext(64-bit, ")


def test_a_translated_guest_has_64_bit_registers(any_host: Host) -> None:
    context = any_host.xen.domains["db1"].vcpu(0).context()
    assert (context.width, context["rip"], context["cr3"]) == (64, 0xFFFF_FFFF_8100_42C0, 0x0240_A000)


def test_blocks_are_not_registers(host: Host) -> None:
    context = host.xen.domains[1].vcpu(0).context()
    assert len(context.block("fpu_ctxt")) == 512
    assert len(context.block("trap_ctxt")) == 256 * 16
    assert len(context.block("gdt_frames")) == 16
    for name in ("rip", "nothing"):
        with pytest.raises(KeyError):
            context.block(name)
    with pytest.raises(KeyError):
        context["fpu_ctxt"]


def test_registers_that_are_set_are_there(host: Host) -> None:
    domain = host.xen.domains["build"]
    old = domain.vcpu(0).context()
    domain.vcpu(0).set_context(old.replace(rax=2**64 - 1, rip=0x1000, dr0=0x77, gs=3))
    new = domain.vcpu(0).context()
    assert (new["rax"], new["rip"], new["dr0"], new["gs"]) == (2**64 - 1, 0x1000, 0x77, 3)
    assert {name for name in new if new[name] != old[name]} == {"rax", "rip", "dr0", "gs"}


@pytest.mark.parametrize("width", [64, 32])
def test_a_context_is_the_same_after_a_round_trip(host: Host, width: int) -> None:
    zero = VcpuContext.zero(width, host.xen.interface)
    limits = {name: 2**width - 1 for name in zero if name.startswith(("cr", "dr"))}
    changed = zero.replace(**limits)
    for value, name in enumerate(changed):
        if name not in limits:
            changed = changed.replace(**{name: value % 256})
    again = VcpuContext.decode(changed.encode(), width, host.xen.interface)
    assert dict(again) == dict(changed)
    assert len(changed.encode()) == {64: 5168, 32: 2800}[width]
    assert set(zero.values()) == {0}, "the original stays as it was"


@pytest.mark.parametrize("xen, size", [((3, 0), 344), ((3, 1), 360)])
def test_registers_of_a_powerpc_vcpu_have_their_names(xen: tuple[int, int], size: int) -> None:
    interface = BEFORE_DOMCTL[0]._replace(xen=xen, arch="ppc64", byteorder="big")
    context = VcpuContext.zero(64, interface).replace(gpr0=1, gpr31=2**64 - 1, pc=0x1000, cr=0x28, sdr1=3)
    data = context.encode()
    assert (len(data), data[:8], data[288:296]) == (size, (1).to_bytes(8, "big"), (0x1000).to_bytes(8, "big"))
    assert VcpuContext.decode(data, 64, interface)["gpr31"] == 2**64 - 1
    assert {"lr", "ctr", "srr0", "msr", "fpscr", "xer", "hid4"} <= set(context)
    with pytest.raises(ValueError, match="cr is .* not fit in 32 bits"):
        context.replace(cr=2**32)


@pytest.mark.parametrize(
    ("width", "registers"),
    [
        (64, {"rip": 2**64}),
        (64, {"cs": 2**16}),
        (64, {"cr3": -1}),
        (32, {"eip": 2**32}),
        (32, {"cr3": 2**32}),
    ],
)
def test_a_value_beyond_its_register_is_refused(host: Host, width: int, registers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        VcpuContext.zero(width, host.xen.interface).replace(**registers)


def test_each_width_has_its_own_names(host: Host) -> None:
    narrow, wide = (VcpuContext.zero(width, host.xen.interface) for width in (32, 64))
    assert {"eax", "eip", "eflags"} <= set(narrow) and {"rax", "rip", "rflags"} <= set(wide)
    with pytest.raises(KeyError):
        narrow.replace(rip=1)
    with pytest.raises(errors.DecodeError, match="64-bit vcpu context has 5168 bytes, not 2800"):
        VcpuContext.decode(narrow.encode(), 64, host.xen.interface)


def test_a_32_bit_guest_has_32_bit_registers(boot: Boot) -> None:
    host = boot("4.10")
    truth = host.truth.domains[3]
    truth.address_size = 32
    narrow = VcpuContext.zero(32, host.xen.interface).replace(eip=0x1234, ebx=7)
    truth.live_vcpus[0].context = narrow.encode()
    vcpu = host.xen.domains[3].vcpu(0)
    assert (vcpu.context()["eip"], vcpu.context()["ebx"]) == (0x1234, 7)
    assert x86.VCPU_GUEST_CONTEXT_32_STRUCT.at(host.xen.interface).size == len(narrow.encode())
    with pytest.raises(ValueError, match="64-bit context does not fit this 32-bit guest"):
        vcpu.set_context(VcpuContext.zero(64, host.xen.interface))


def test_contexts_that_cannot_be_had_say_why(host: Host) -> None:
    with pytest.raises(errors.HypercallError) as caught:
        host.xen.domains[0].vcpu(0).context()
    assert caught.value.errno == errno.EINVAL, "the vcpu that asks"
    made = host.xen.domains.create()
    with pytest.raises(errors.HypercallError) as caught:
        made.vcpu(0).context()
    assert caught.value.errno == errno.ENODATA
