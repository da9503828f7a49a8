# SPDX-License-Identifier: MIT
"""Every operation, with each of its hypercalls failing in every way that Xen or privcmd can make it fail.

Whatever fails, an operation completes, tries again, or raises an error that names it; nothing leaks, and no
domain is left half built.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import errors
from pyxc.abi import domctl
from pyxc.abi.cpu_policy import Policy
from pyxc.abi.operation import DOMCTL

ERRNOS = ["EINTR", "EAGAIN", "EFAULT", "EBUSY", "ENOMEM", "EACCES", "ESRCH", "EPERM", "ENOSYS"]
WEB1, DB1, BUILD = 1, 2, 3


def domain(host: Host, domid: int) -> pyxc.Domain:
    """A guest, known without a hypercall."""
    return pyxc.Domain(host.xen, domid, uuid.UUID(bytes=host.truth.domains[domid].handle))


OPERATIONS: dict[str, Callable[[Host], object]] = {
    "version": lambda host: host.xen.version,
    "build": lambda host: host.xen.build,
    "physinfo": lambda host: host.xen.physinfo(),
    "topology": lambda host: host.xen.topology(),
    "numa": lambda host: host.xen.numa(),
    "scheduler": lambda host: host.xen.scheduler,
    "console": lambda host: host.xen.console.read(),
    "debug keys": lambda host: host.xen.debug_keys("h"),
    "list": lambda host: host.xen.domains.infos(),
    "find": lambda host: host.xen.domains[domain(host, WEB1).uuid],
    "all vcpus": lambda host: host.xen.vcpus(),
    "all affinities": lambda host: host.xen.affinities(),
    "create": lambda host: host.xen.domains.create(max_vcpus=2),
    "create translated": lambda host: host.xen.domains.create(hvm=True, hap=True),
    "info": lambda host: domain(host, WEB1).info(),
    "pause": lambda host: domain(host, WEB1).pause(),
    "unpause": lambda host: domain(host, BUILD).unpause(),
    "shut down": lambda host: domain(host, WEB1).shutdown(),
    "resume": lambda host: domain(host, WEB1).resume(),
    "destroy": lambda host: domain(host, WEB1).destroy(timeout=1),
    "max memory": lambda host: domain(host, WEB1).set_max_memory(1 << 20),
    "uuid": lambda host: domain(host, WEB1).set_uuid(uuid.UUID(int=9)),
    "hvm param": lambda host: domain(host, DB1).hvm_params.read(1),
    "vcpu info": lambda host: domain(host, WEB1).vcpu(0).info(),
    "affinity": lambda host: domain(host, WEB1).vcpu(0).set_affinity(hard={0}, soft={0}),
    "context": lambda host: domain(host, WEB1).vcpu(0).context(),
    "set context": lambda host: domain(host, BUILD).vcpu(0).set_context(_registers(host)),
    "write": lambda host: domain(host, DB1).memory.write(0x100, b"x"),
    "populate": lambda host: domain(host, DB1).memory.populate(range(0x9000, 0x9040)),
    "increase": lambda host: domain(host, WEB1).memory.increase(16),
    "decrease": lambda host: domain(host, DB1).memory.decrease(range(0x200, 0x210)),
    "frames": lambda host: domain(host, WEB1).memory.frames(),
    "frames of a translated guest": lambda host: domain(host, DB1).memory.frames(),
    "types": lambda host: domain(host, BUILD).memory.frames(types=True),
    "p2m": lambda host: domain(host, WEB1).memory.p2m(),
    "channels": lambda host: domain(host, WEB1).channels.ports(),
    "open channel": lambda host: domain(host, WEB1).channels.open(),
    "reset channels": lambda host: domain(host, BUILD).channels.reset(),
    "grants": lambda host: domain(host, WEB1).grants.info(),
    "read a parameter": lambda host: host.xen.hypfs.read("/params/loglvl"),
    "write a parameter": lambda host: host.xen.hypfs.write("/params/loglvl", "none"),
    "live patches": lambda host: host.xen.livepatches.all(),
    "cpu policy of the host": lambda host: host.xen.cpu_policies.host(Policy.HOST),
    "cpu policy": lambda host: domain(host, WEB1).cpu_policy(),
    "idle states": lambda host: host.xen.pm.c_states(0),
    "security policy": lambda host: host.xen.flask.enforcing(),
    "counters": lambda host: host.xen.perfc.read(),
    "tsc": lambda host: domain(host, WEB1).tsc_info(),
    "pci group": lambda host: host.xen.pci_group("03:00.0"),
    "map pirq": lambda host: domain(host, WEB1).map_pirq(17),
    "pod target": lambda host: domain(host, DB1).memory.set_pod_target(1 << 16),
    "clean": lambda host: domain(host, DB1).log_dirty.clean(),
    "hvm params": lambda host: domain(host, DB1).hvm_params.all(),
    "hvm context": lambda host: domain(host, DB1).hvm_context.read(),
    "hvm record": lambda host: domain(host, DB1).hvm_context.record(pyxc.HvmRecordType.MTRR),
    "vnuma": lambda host: domain(host, WEB1).vnuma(),
    "set vnuma": lambda host: domain(host, BUILD).set_vnuma(pyxc.Vnuma(((10,),), (0,), (), (0,))),
    "seed grants": lambda host: domain(host, DB1).grants.seed(console=0x100, store=0x101),
    "lend": lambda host: domain(host, DB1).grants.lend(2, writable=True),
    "watch": lambda host: host.xen.watch_domains("poll").close(),
    "sample": lambda host: host.xen.sample(),
    "open": lambda host: pyxc.connect(host.link, names=False),
}
SETTERS: dict[str, Callable[[Host], object]] = {
    "time offset": lambda host: domain(host, WEB1).set_time_offset(60),
    "set tsc": lambda host: domain(host, WEB1).set_tsc(pyxc.TscMode.ALWAYS_EMULATE),
    "trigger": lambda host: domain(host, WEB1).send_trigger(pyxc.Trigger.NMI),
    "target": lambda host: domain(host, WEB1).set_target(domain(host, DB1)),
    "debugging": lambda host: domain(host, WEB1).set_debugging(True),
    "allow ports": lambda host: domain(host, WEB1).permissions.allow_io_ports(0x2F8, 8),
    "map mmio": lambda host: domain(host, DB1).memory.map_mmio(0xF0000, 0xB8),
    "assign": lambda host: domain(host, DB1).pci.assign("03:00.0"),
    "claim": lambda host: domain(host, WEB1).memory.claim(66_000),
    "paging pool": lambda host: domain(host, DB1).memory.set_paging_pool(1 << 13),
    "e820": lambda host: domain(host, DB1).memory.set_e820([pyxc.E820Entry(0, 1 << 20)]),
    "physmap": lambda host: domain(host, DB1).memory.add_to_physmap(pyxc.MapSpace.SHARED_INFO, 0, 0xF0000),
    "log dirty": lambda host: domain(host, DB1).log_dirty.enable(),
}
"""Operations of one pattern: they look whether the domain is still there and make one call."""
FOR_ANY_CALL_AT_MOST = 12
"""An operation of more hypercalls than this repeats itself: its first ones stand for all."""


def _registers(host: Host) -> pyxc.VcpuContext:
    return pyxc.VcpuContext.zero(64, host.xen.interface).replace(flags=4)


def calls_of(boot: Boot, name: str) -> int:
    """How many hypercalls an operation makes when nothing fails."""
    host = boot(names=False)
    before = host.link.hypercalls
    with suppress(pyxc.Error):
        OPERATIONS[name](host)
    return host.link.hypercalls - before


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_fault_leaks_or_leaves_half_a_domain(boot: Boot, name: str) -> None:
    calls = min(calls_of(boot, name), FOR_ANY_CALL_AT_MOST)
    assert calls, "the operation asks the hypervisor nothing"
    host = boot(names=False)
    for position in range(calls):
        for failure in ERRNOS:
            where = f"call {position} of {name} with {failure}"
            known = set(host.truth.domains)
            host.link.fail_call(position, getattr(errno, failure))
            completed = check_outcome(host, name, where)
            assert host.link.pending == 0, f"{where} did not happen"
            unchanged = not completed and set(host.truth.domains) == known
            host = reopened(host) if unchanged else boot(names=False)


def reopened(host: Host) -> Host:
    """The same host with a handle that remembers nothing, which is quicker than another host."""
    return host._replace(xen=pyxc.connect(host.link, names=False))


def check_outcome(host: Host, name: str, where: str) -> bool:
    """Whether it completed, else it raised an error of pyxc; nothing leaks, and a new domain is whole."""
    known = set(host.truth.domains)
    descriptors = os.listdir("/proc/self/fd")
    completed = False
    try:
        OPERATIONS[name](host)
        completed = True
    except errors.HypercallError as error:
        assert error.operation, where
    except (errors.Error, KeyError):
        pass
    assert host.link.pool.outstanding == 0, f"{where} keeps a buffer"
    assert host.link.maps == [], f"{where} keeps a mapping"
    assert os.listdir("/proc/self/fd") == descriptors, f"{where} keeps a descriptor"
    for domid in set(host.truth.domains) - known:
        assert all(host.truth.domains[domid].vcpus), f"{where} leaves domain {domid} without vcpus"
    return completed


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_domain_may_die_between_any_two_calls(boot: Boot, name: str) -> None:
    for position in range(min(calls_of(boot, name), FOR_ANY_CALL_AT_MOST)):
        host = boot(names=False)
        host.link.before_call(position, lambda host=host: _kill(host))
        check_outcome(host, name, f"the end of all guests before call {position} of {name}")


def _kill(host: Host) -> None:
    for domid in (WEB1, DB1, BUILD):
        if domid in host.truth.domains:
            host.truth.kill(host.truth.domains[domid])


DESTRUCTIVE = {
    **SETTERS,
    **{
        name: OPERATIONS[name]
        for name in (
            "shut down", "resume", "destroy", "uuid", "set context", "write", "decrease", "map pirq",
            "pod target", "clean", "set vnuma",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DESTRUCTIVE)
def test_a_domain_that_has_the_id_of_a_former_one_is_left_alone(boot: Boot, name: str) -> None:
    host = boot(names=False)
    host.link.before_call(0, lambda: _rename(host))
    with pytest.raises(errors.DomainGone):
        DESTRUCTIVE[name](host)
    for domid in (WEB1, DB1, BUILD):
        newcomer = host.truth.domains[domid]
        assert (newcomer.handle, newcomer.dying, newcomer.shutdown_code) == (bytes(16), False, None)


def _rename(host: Host) -> None:
    """Other domains have the ids of those that were there."""
    for domid in (WEB1, DB1, BUILD):
        host.truth.domains[domid].handle = bytes(16)


def test_something_happens_just_before_a_call(host: Host) -> None:
    web1 = host.xen.domains[WEB1]
    host.link.before(domctl.PAUSEDOMAIN, lambda: host.truth.kill(host.truth.domains[WEB1]))
    host.link.fail(domctl.PAUSEDOMAIN, errno.EBUSY)
    assert web1.exists()
    assert host.link.pending == 2
    with pytest.raises(errors.DomainNotFound):
        web1.pause()
    with pytest.raises(errors.HypercallError, match="EBUSY"):
        host.xen.domains[DB1].pause()
    assert host.link.pending == 0


def test_a_call_at_the_very_end_of_memory_has_no_command_to_fail(boot: Boot) -> None:
    host = boot(names=False)
    host.link.fail(domctl.PAUSEDOMAIN, errno.EBUSY)
    arena = host.link.pool.take(1)
    last = arena.address + arena.size
    assert [host.link.hypercall(DOMCTL.hypercall, last - left) for left in (1, 2, 3)] == [-errno.EFAULT] * 3
    assert host.link.pending == 1
    arena.release()
