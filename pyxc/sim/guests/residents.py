# SPDX-License-Identifier: MIT
"""The domains that are there when a simulated host has booted, the same at every start."""

from __future__ import annotations

from array import array
from functools import cache
from uuid import UUID

from pyxc.abi.domctl_create import CreateFlag, default_ssidref
from pyxc.abi.event_channel import Status
from pyxc.abi.hvm import HvmParam
from pyxc.sim.guests import pv, pvh, toolstack
from pyxc.sim.model import creation
from pyxc.sim.model.domain import Domain, Rings
from pyxc.sim.model.host import Host
from pyxc.sim.model.machine import INVALID_ENTRY, MACHINE_FRAMES
from pyxc.sim.model.policy import DOM0_SID
from pyxc.sim.model.ports import Port
from pyxc.sim.xenstored import Xenstored

FOREIGN, IDENTITY = 1 << 63, 1 << 62
UNLIMITED = 2**32 - 1
_SECOND_NS = 10**9
_LAPIC, _PIT = 1, 1 << 8
_PIECE = 32
"""Consecutive frames in the p2m of a guest: memory comes in pieces."""
_SPECIAL_GFN, _SPECIAL_PAGES = 0xFEFF8, 8

DOM0_PAGES, _DOM0_PFNS = 307_200, 0x7FFDD
_DOM0_IDENTITY = range(0xA0, 0x101)

_XENS_PORTS = (range(0x20, 0x22), range(0x40, 0x44), range(0xA0, 0xA2), range(0x3F8, 0x400))
_LOCAL_APIC = range(0xFEE00, 0xFEE01)
_CONSOLE_IRQ = range(4, 5)


def start_dom0(xen: Host, store: Xenstored) -> None:
    """A Linux dom0: its first pages below 640 KiB, then a hole that it maps one to one, then the rest."""
    dom0 = _new(xen, UUID(int=0), vcpus=2, emulation=_PIT)
    dom0.max_pages, dom0.pauses, dom0.iommu = UNLIMITED, 0, xen.profile.iommu
    pv.furnish(xen, dom0, _dom0_p2m(xen.machine.allocate_run(0, DOM0_PAGES)))
    own_hardware(xen, dom0)
    hold_virqs(dom0)
    dom0.live_vcpus[1].blocked = True
    toolstack.init_dom0(store)
    xen.schedule()


@cache
def _dom0_p2m(frames: range) -> pv.P2m:
    low = _DOM0_IDENTITY.start
    p2m = pv.P2m()
    p2m.map(frames[:low])
    p2m.hold(pfn | IDENTITY for pfn in _DOM0_IDENTITY)
    p2m.map(frames[low:])
    p2m.hold(array("Q", [INVALID_ENTRY]) * (_DOM0_PFNS - len(p2m.entries)))
    return p2m


def own_hardware(xen: Host, dom0: Domain) -> None:
    """All of it but Xen's own: interrupt controllers, timer and console."""
    dom0.hardware.io_ports.add(range(1 << 16))
    for ports in _XENS_PORTS:
        dom0.hardware.io_ports.remove(ports)
    dom0.hardware.io_memory.add(range(MACHINE_FRAMES))
    dom0.hardware.io_memory.remove(_LOCAL_APIC)
    dom0.hardware.irqs.add(range(1, xen.irqs))
    dom0.hardware.irqs.remove(_CONSOLE_IRQ)
    dom0.hardware.pirqs.update((gsi, gsi) for gsi in range(1, xen.gsis))


def start_guests(xen: Host, store: Xenstored) -> None:
    """An idle PV guest, a busy PVH guest, and a paused PV guest."""
    for name, start in (("web1", _start_web1), ("db1", _start_db1), ("build", _start_build)):
        toolstack.introduce(store, start(xen), name)
    xen.last_domid = max(xen.domains)
    xen.schedule()


def _new(xen: Host, uuid: UUID, vcpus: int, flags: int = 0, emulation: int = 0) -> Domain:
    config = {
        "ssidref": default_ssidref(xen.profile.xen) if xen.domains else DOM0_SID,
        "flags": flags & creation.known_flags(xen.profile),
        "handle": uuid.bytes,
        "max_vcpus": vcpus,
        "arch.emulation_flags": emulation if xen.profile.since(4, 8) else 0,
    }
    domain = creation.create(xen, len(xen.domains), config)
    for index in range(vcpus):
        xen.add_vcpu(domain, index)
    settle(domain)
    return domain


def settle(domain: Domain) -> None:
    """Let all vcpus of a new domain be up and have a past."""
    for index, vcpu in enumerate(domain.live_vcpus):
        vcpu.down = False
        vcpu.times_ns[:] = (
            (5 + index) * _SECOND_NS,
            _SECOND_NS // 10,
            (45 - index) * _SECOND_NS,
            _SECOND_NS // 2,
        )


def hold_virqs(dom0: Domain) -> None:
    """Ports for the first interrupts of the hypervisor's own."""
    for virq in range(3):
        dom0.ports.open(Port(Status.VIRQ, number=virq))


def connect(xen: Host, domain: Domain) -> None:
    """xenstore and console channels to dom0."""
    dom0 = xen.domains[0]
    for _ in range(2):
        far = dom0.ports.open(Port(Status.INTERDOMAIN, domid=domain.domid))
        near = domain.ports.open(Port(Status.INTERDOMAIN, domid=0, port=far))
        dom0.ports.replace(far, Port(Status.INTERDOMAIN, domid=domain.domid, port=near))


def _pieces(frames: range) -> list[range]:
    """All frames in pieces, which are in an order of their own."""
    count = len(frames) // _PIECE
    order = (index * 37 % count for index in range(count))
    return [frames[piece * _PIECE : (piece + 1) * _PIECE] for piece in order]


def _start_web1(xen: Host) -> Domain:
    """An idle PV guest with a p2m in both forms, which has holes, an identity and a frame of dom0's."""
    web1 = _new(xen, UUID("6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"), vcpus=2)
    web1.max_pages, web1.pauses = 16_384 + 256, 0
    frames = xen.machine.allocate_run(web1.domid, 16_384)
    connect(xen, web1)
    pv.furnish(xen, web1, _web1_p2m(frames, xen.machine.frames_of(0).runs[-1][-1]))
    for vcpu in web1.live_vcpus:
        vcpu.blocked = True
    return web1


@cache
def _web1_p2m(frames: range, dom0s_frame: int) -> pv.P2m:
    pieces = _pieces(frames)
    p2m = pv.P2m()
    p2m.map(*pieces[:5])
    p2m.hold([len(p2m.entries) | IDENTITY])
    p2m.map(*pieces[5:16])
    p2m.hold([INVALID_ENTRY] * 8)
    p2m.map(*pieces[16:24])
    p2m.hold([dom0s_frame | FOREIGN])
    p2m.map(*pieces[24:])
    p2m.hold([INVALID_ENTRY] * 100)
    return p2m


def _start_db1(xen: Host) -> Domain:
    """A busy PVH guest."""
    uuid = UUID("b84e7c10-2f6d-4d0a-9a3e-51c2d3e4f502")
    db1 = _new(xen, uuid, vcpus=1, flags=CreateFlag.HVM | CreateFlag.HAP, emulation=_LAPIC)
    pages = 32_768
    db1.max_pages, db1.pauses = pages + 256, 0
    ram = xen.machine.allocate_run(db1.domid, pages)
    special = xen.machine.allocate_run(db1.domid, _SPECIAL_PAGES)
    db1.place(0, ram[0], pages)
    db1.place(_SPECIAL_GFN, special[0], _SPECIAL_PAGES)
    db1.tot_pages = pages + _SPECIAL_PAGES
    db1.paging_pages = 256 + 2 * (pages >> 8)
    db1.rings = Rings(store=0xFEFFC, console=0xFEFFF)
    db1.params.update(
        {
            HvmParam.STORE_PFN: db1.rings.store,
            HvmParam.CONSOLE_PFN: db1.rings.console,
            HvmParam.TIMER_MODE: 1,
        }
    )
    connect(xen, db1)
    db1.params.update({HvmParam.STORE_EVTCHN: 1, HvmParam.CONSOLE_EVTCHN: 2})
    xen.machine.memory.write(ram[0x100], 0, b"db1: simulated PVH kernel")
    pvh.furnish(xen, db1)
    return db1


def _start_build(xen: Host) -> Domain:
    """A paused PV guest of the older kind: its p2m is a tree of frames only."""
    build = _new(xen, UUID("0c9d5e7f-77aa-4b3c-b1f4-3e2d1c0b9a03"), vcpus=1)
    pages = 8_192
    build.max_pages = pages + 256
    frames = xen.machine.allocate_run(build.domid, pages)
    connect(xen, build)
    pv.furnish(xen, build, _build_p2m(frames), linear=False)
    return build


@cache
def _build_p2m(frames: range) -> pv.P2m:
    p2m = pv.P2m()
    p2m.map(*_pieces(frames))
    return p2m
