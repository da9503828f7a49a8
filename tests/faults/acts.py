# SPDX-License-Identifier: MIT
"""What a program can do with an open hypervisor: ask the questions, and make changes.

`pv`, `hvm` and `built` are the domains web1, db1 and build of a simulated host.
"""

from __future__ import annotations

from typing import NamedTuple

import questions
from questions import Question, hvm, pv

from pyxc import Domain, HvmParam, Scheduler, ShutdownReason, TscMode, Xen, sim
from pyxc.abi.memory import MapSpace
from pyxc.domain.memory import E820Entry
from pyxc.domain.vnuma import Vnuma, VnumaRange

RELEASES = (
    "xen-4.17-xsm", "xen-4.22", "xen-4.10", "xen-4.1", "xen-3.1", "xen-3.0", "xen-4.17-pci", "ppc64",
)  # fmt: skip
"""Simulated hosts on which all is done: each has something that the others have not."""

_POLICY = (0xF97CFF8C).to_bytes(4, "little") + bytes(100)
_SLOT = "0000:03:00.0"


def built(xen: Xen) -> Domain:
    return xen.domains[3]


def _nothing(xen: Xen) -> None:
    """Nothing needs to be prepared."""


class Act(NamedTuple):
    """What to do, what to prepare for it, and what it may raise besides pyxc's errors and OSError."""

    run: Question
    before: Question = _nothing
    refuses: tuple[type[Exception], ...] = ()


def _own_pool(xen: Xen) -> None:
    xen.pools[0].remove_cpu(1)
    xen.pools.create(Scheduler.CREDIT, pool_id=1, name="fast").add_cpu(1)


def _empty_pool(xen: Xen) -> None:
    xen.pools.create(pool_id=1, name="fast")


def _free_cpu(xen: Xen) -> None:
    xen.pools[0].remove_cpu(1)


def _unmapped(xen: Xen) -> object:
    return hvm(xen).unmap_pirq(hvm(xen).map_pirq(16))


def _vnuma(xen: Xen) -> None:
    pv(xen).set_vnuma(Vnuma(((10,),), (0, 0), (VnumaRange(0, 1 << 25, 0),), (0,)))


def _ported(xen: Xen) -> None:
    with xen.events() as channels:
        far = channels.bind_unbound(0)
        near = channels.bind_interdomain(0, far)
        channels.notify(near)
        channels.unbind(near)


def _claimed(xen: Xen) -> None:
    made = xen.domains.create()
    made.set_max_memory(1 << 20)
    made.memory.claim(1024)


def _assign(xen: Xen) -> None:
    xen.domains.create(iommu=True).pci.assign(_SLOT)


def _cleaned(xen: Xen) -> object:
    with hvm(xen).log_dirty as log:
        return log.clean(64), log.clean(64, final=True)


def _written(xen: Xen) -> object:
    entry = next(entry for entry in xen.hypfs.walk() if entry.writable)
    return xen.hypfs.write(entry.path, xen.hypfs.read(entry.path))


def _boolean(xen: Xen) -> object:
    return xen.flask.booleans.set(next(iter(xen.flask.booleans)), True)


def _context(xen: Xen) -> None:
    vcpu = built(xen).vcpu(0)
    context = vcpu.context()
    vcpu.reset()
    vcpu.set_context(context)


def _permitted(xen: Xen) -> None:
    permissions = pv(xen).permissions
    for act, numbers in (
        (permissions.allow_io_ports, (0x3F8, 8)), (permissions.deny_io_ports, (0x3F8, 8)),
        (permissions.allow_memory, (0xFEB00, 4)), (permissions.deny_memory, (0xFEB00, 4)),
        (permissions.allow_irq, (16,)), (permissions.deny_irq, (16,)),
    ):  # fmt: skip
        act(*numbers)


def _on_demand(xen: Xen) -> object:
    made = xen.domains.create(hvm=True, hap=True)
    made.set_max_memory(1 << 20)
    return made.memory.set_pod_target(4096)


def _restricted(xen: Xen) -> object:
    page, domain = hvm(xen).memory.read(5), hvm(xen)
    xen.restrict(2)
    return page, xen.dm_op("nr_vcpus", 2), domain.memory.read(5)


def _labelled(xen: Xen) -> None:
    made = xen.domains.create(ssidref=xen.flask.sid("system_u:system_r:nomigrate_t_building"))
    made.set_label("system_u:system_r:nomigrate_t")


def _relocated(xen: Xen) -> None:
    memory = hvm(xen).memory
    memory.add_to_physmap(MapSpace.SHARED_INFO, 0, 0xF0000)
    memory.remove_from_physmap(0xF0000)


def _passed_through(xen: Xen) -> None:
    pv(xen).permissions.allow_memory(0xFEB00, 4)
    hvm(xen).memory.map_mmio(0xE0000, 0xFEB00, 4)
    hvm(xen).memory.unmap_mmio(0xE0000, 0xFEB00, 4)


CHANGES: dict[str, Act] = {
    "debug_keys": Act(lambda xen: xen.debug_keys("q")),
    "flask.set_enforcing": Act(lambda xen: xen.flask.set_enforcing(False)),
    "flask.load": Act(lambda xen: xen.flask.load(_POLICY)),
    "flask.booleans.set": Act(_boolean, refuses=(StopIteration,)),
    "flask.relabel": Act(_labelled),
    "flask.booleans.commit": Act(lambda xen: xen.flask.booleans.commit()),
    "hypfs.write": Act(_written, refuses=(StopIteration,)),
    "perfc.reset": Act(lambda xen: xen.perfc.reset()),
    "pool.add_cpu": Act(lambda xen: xen.pools[0].add_cpu(1), _free_cpu, (KeyError,)),
    "pool.add_any_cpu": Act(lambda xen: xen.pools[0].add_cpu(), _free_cpu, (KeyError,)),
    "pool.remove_cpu": Act(lambda xen: xen.pools[1].remove_cpu(1), _own_pool, (KeyError,)),
    "pool.add_domain": Act(lambda xen: xen.pools[1].add_domain(pv(xen)), _own_pool, (KeyError,)),
    "pool.rename": Act(lambda xen: xen.pools["fast"].rename("slow"), _own_pool, (KeyError,)),
    "pool.destroy": Act(lambda xen: xen.pools["fast"].destroy(), _empty_pool, (KeyError,)),
    "pool.set_scheduling": Act(
        lambda xen: xen.pools[1].set_scheduling(tslice_ms=20), _own_pool, (KeyError, ValueError)
    ),
    "pool.set_scheduling, credit2": Act(
        lambda xen: xen.pools[0].set_scheduling(ratelimit_us=2000), refuses=(KeyError, ValueError)
    ),
    "events": Act(_ported),
    "restrict": Act(_restricted),
    "pause": Act(lambda xen: pv(xen).pause()),
    "unpause": Act(lambda xen: built(xen).unpause(), refuses=(KeyError,)),
    "shutdown": Act(lambda xen: pv(xen).shutdown(ShutdownReason.REBOOT)),
    "destroy": Act(lambda xen: pv(xen).destroy(timeout=0.1)),
    "build": Act(lambda xen: xen.domains.build(sim.kernel("pvh"), memory_kb=2048)),
    "build, pv": Act(lambda xen: xen.domains.build(sim.kernel("pv"), memory_kb=4096)),
    "set_name": Act(lambda xen: pv(xen).set_name("web9")),
    "ask.poweroff": Act(lambda xen: pv(xen).ask.poweroff()),
    "ask.sysrq": Act(lambda xen: pv(xen).ask.sysrq("s")),
    "ask.set_memory": Act(lambda xen: pv(xen).ask.set_memory(32 << 10)),
    "ask.set_vcpus": Act(lambda xen: pv(xen).ask.set_vcpus(1)),
    "set_max_memory": Act(lambda xen: pv(xen).set_max_memory(1 << 20)),
    "set_max_vcpus": Act(lambda xen: xen.domains.create(max_vcpus=2)),
    "set_uuid": Act(lambda xen: pv(xen).set_uuid("11111111-2222-4333-8444-555555555555")),
    "set_guest_bits": Act(lambda xen: xen.domains.create().set_guest_bits(32)),
    "set_time_offset": Act(lambda xen: pv(xen).set_time_offset(-3600)),
    "set_tsc": Act(lambda xen: built(xen).set_tsc(TscMode.ALWAYS_EMULATE, 2_000_000)),
    "send_trigger": Act(lambda xen: pv(xen).send_trigger(0)),
    "set_target": Act(lambda xen: built(xen).set_target(pv(xen))),
    "set_debugging": Act(lambda xen: built(xen).set_debugging(True)),
    "unmap_pirq": Act(_unmapped, refuses=(ValueError,)),
    "set_vnuma": Act(_vnuma, refuses=(ValueError,)),
    "set_node_affinity": Act(lambda xen: pv(xen).set_node_affinity([0])),
    "set_node_affinity, any": Act(lambda xen: pv(xen).set_node_affinity(None)),
    "channels.reset": Act(lambda xen: built(xen).channels.reset()),
    "permissions": Act(_permitted),
    "permissions.gsi": Act(lambda xen: hvm(xen).permissions.allow_gsi(16)),
    "pci.assign": Act(_assign),
    "pci.deassign": Act(lambda xen: xen.domains[4].pci.deassign(_SLOT), _assign, (KeyError,)),
    "log_dirty.clean": Act(_cleaned),
    "hvm_params.write": Act(lambda xen: hvm(xen).hvm_params.write(HvmParam.CALLBACK_IRQ, 5)),
    "hvm_context.load": Act(lambda xen: hvm(xen).hvm_context.load(hvm(xen).hvm_context.read())),
    "memory.write": Act(lambda xen: hvm(xen).memory.write(5, b"word")),
    "memory.claim": Act(_claimed),
    "memory.set_pod_target": Act(_on_demand),
    "memory.set_paging_pool": Act(lambda xen: hvm(xen).memory.set_paging_pool(4096)),
    "memory.set_e820": Act(lambda xen: pv(xen).memory.set_e820([E820Entry(0, 4096, 1)])),
    "memory.add_to_physmap": Act(_relocated),
    "memory.map_mmio": Act(_passed_through),
    "vcpu.set_affinity": Act(lambda xen: pv(xen).vcpu(0).set_affinity([0], [1])),
    "vcpu.set_affinity, hard": Act(lambda xen: pv(xen).vcpu(0).set_affinity([0])),
    "vcpu.set_context": Act(_context),
    "vcpu.set_scheduling": Act(
        lambda xen: pv(xen).vcpu(0).set_scheduling(period_us=20000), questions.BEFORE["rtds"], (ValueError,)
    ),
}
"""What changes something, by the name of its method."""


def _asked(group: str, found: dict[str, Question]) -> dict[str, Act]:
    before, refuses = questions.BEFORE, questions.REFUSES
    return {
        f"{group}.{name}": Act(question, before.get(name, _nothing), refuses.get(name, ()))
        for name, question in found.items()
    }


ACTS: dict[str, Act] = {
    **_asked("xen", questions.HOST),
    **_asked("domain", questions.DOMAINS),
    **_asked("store", questions.STORE),
    **_asked("compat", questions.COMPAT),
    **{f"change.{name}": act for name, act in CHANGES.items()},
}
"""All that is done."""
