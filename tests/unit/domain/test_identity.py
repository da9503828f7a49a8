# SPDX-License-Identifier: MIT
"""Who is meant: no change reaches a domain that merely has the id of the one that is meant."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import errors
from pyxc.abi import domctl
from pyxc.abi.domctl_state import GET_DOMAIN_STATE, StateCap, StateFlag
from pyxc.abi.operation import Operation
from pyxc.guest.config_devices import Disk, Vif
from pyxc.guest.devices import Devices

_DISK = 51712

CHANGES: dict[str, Callable[[pyxc.Domain], Any]] = {
    "pause": lambda domain: domain.pause(),
    "unpause": lambda domain: domain.unpause(),
    "shutdown": lambda domain: domain.shutdown(),
    "resume": lambda domain: domain.resume(),
    "destroy": lambda domain: domain.destroy(),
    "max memory": lambda domain: domain.set_max_memory(4096),
    "max vcpus": lambda domain: domain.set_max_vcpus(1),
    "uuid": lambda domain: domain.set_uuid(bytes(16)),
    "guest bits": lambda domain: domain.set_guest_bits(64),
    "time offset": lambda domain: domain.set_time_offset(1),
    "tsc": lambda domain: domain.set_tsc(pyxc.TscMode.NEVER_EMULATE),
    "trigger": lambda domain: domain.send_trigger(pyxc.Trigger.NMI),
    "target": lambda domain: domain.set_target(domain),
    "debugging": lambda domain: domain.set_debugging(True),
    "map pirq": lambda domain: domain.map_pirq(1),
    "unmap pirq": lambda domain: domain.unmap_pirq(1),
    "vnuma": lambda domain: domain.set_vnuma(pyxc.Vnuma(((10,),), (0,), (), (0,))),
    "node affinity": lambda domain: domain.set_node_affinity([0]),
    "scheduling": lambda domain: domain.set_scheduling(weight=100),
    "vcpu scheduling": lambda domain: domain.vcpu(0).set_scheduling(period_us=10_000),
    "hvm param": lambda domain: domain.hvm_params.write(pyxc.HvmParam.CALLBACK_IRQ, 1),
    "vcpu affinity": lambda domain: domain.vcpu(0).set_affinity(hard=[0]),
    "vcpu reset": lambda domain: domain.vcpu(0).reset(),
    "map writable": lambda domain: domain.memory.map(0, writable=True),
    "write": lambda domain: domain.memory.write(0, b"x"),
    "populate": lambda domain: domain.memory.populate([0]),
    "increase": lambda domain: domain.memory.increase(1),
    "decrease": lambda domain: domain.memory.decrease([0]),
    "claim": lambda domain: domain.memory.claim(4096),
    "pod target": lambda domain: domain.memory.set_pod_target(4096),
    "paging pool": lambda domain: domain.memory.set_paging_pool(4096),
    "e820": lambda domain: domain.memory.set_e820([pyxc.E820Entry(0, 4096)]),
    "add to physmap": lambda domain: domain.memory.add_to_physmap(pyxc.MapSpace.SHARED_INFO, 0, 1),
    "remove from physmap": lambda domain: domain.memory.remove_from_physmap(1),
    "map mmio": lambda domain: domain.memory.map_mmio(1, 1),
    "unmap mmio": lambda domain: domain.memory.unmap_mmio(1, 1),
    "sharing": lambda domain: domain.memory.set_sharing(True),
    "log-dirty on": lambda domain: domain.log_dirty.enable(),
    "log-dirty off": lambda domain: domain.log_dirty.disable(),
    "log-dirty clean": lambda domain: domain.log_dirty.clean(),
    "open a port": lambda domain: domain.channels.open(),
    "reset ports": lambda domain: domain.channels.reset(),
    "lend pages": lambda domain: domain.grants.lend(),
    "map grant writable": lambda domain: domain.grants.map(1, writable=True),
    "seed grants": lambda domain: domain.grants.seed(console=1),
    "assign": lambda domain: domain.pci.assign("0000:00:19.0"),
    "deassign": lambda domain: domain.pci.deassign("0000:00:19.0"),
    "allow memory": lambda domain: domain.permissions.allow_memory(1),
    "deny memory": lambda domain: domain.permissions.deny_memory(1),
    "allow irq": lambda domain: domain.permissions.allow_irq(1),
    "allow io ports": lambda domain: domain.permissions.allow_io_ports(1),
    "deny io ports": lambda domain: domain.permissions.deny_io_ports(1),
    "deny irq": lambda domain: domain.permissions.deny_irq(1),
    "allow gsi": lambda domain: domain.permissions.allow_gsi(1),
    "deny gsi": lambda domain: domain.permissions.deny_gsi(1),
    "hvm context": lambda domain: domain.hvm_context.load(domain.xen.domains[2].hvm_context.read()),
    "registers": lambda domain: domain.vcpu(0).set_context(domain.xen.domains[1].vcpu(0).context()),
    "cpu policy": lambda domain: domain.set_cpu_policy(domain.xen.domains[2].cpu_policy()),
    "pool": lambda domain: domain.xen.pools[0].add_domain(domain),
    "name": lambda domain: domain.set_name("other"),
    "attach a disk": lambda domain: Devices(domain).attach_disk(Disk.parse("phy:/dev/a,xvdb,w"), timeout=0),
    "attach a vif": lambda domain: Devices(domain).attach_vif(Vif("00:16:3e:01:02:03"), timeout=0),
    "detach": lambda domain: Devices(domain).detach("vbd", _DISK, timeout=0),
    "detach by force": lambda domain: Devices(domain).detach("vbd", _DISK, force=True),
    "ask to power off": lambda domain: domain.ask.poweroff(),
    "press the button": lambda domain: domain.ask.poweroff(timeout=0, fallback=True),
    "ask to reboot": lambda domain: domain.ask.reboot(),
    "ask to suspend": lambda domain: domain.ask.suspend(timeout=0),
    "ask for memory": lambda domain: domain.ask.set_memory(4096),
    "ask for vcpus": lambda domain: domain.ask.set_vcpus(1),
    "sysrq": lambda domain: domain.ask.sysrq("s"),
}


def replaced(host: Host, **options: Any) -> pyxc.Domain:
    """A domain that has gone. Another one has its id, and a guest that can be asked for everything."""
    old = host.xen.domains["build"]
    old.destroy()
    new = host.xen.domains.create(domid=old.domid, **options)
    new.set_max_memory(4096)
    host.truth.introduce(new.domid, "new")
    host.xen.store.write(f"/local/domain/0/backend/vbd/{new.domid}/{_DISK}/state", "4")
    return old


@pytest.fixture
def recycled(host: Host) -> pyxc.Domain:
    """Another domain has its id."""
    return replaced(host)


def check_refused(host: Host, old: pyxc.Domain, name: str, message: str) -> None:
    """DomainGone, and neither the hypervisor nor xenstore got a change."""
    issued: list[Operation] = []
    host.xen.caller.trace = lambda operation, *_: issued.append(operation)
    nodes = stored(host)
    with pytest.raises(errors.DomainGone, match=message):
        CHANGES[name](old)
    assert issued and [operation.full_name for operation in issued if operation.changes] == []
    assert stored(host) == nodes


def stored(host: Host) -> dict[str, bytes]:
    return {path: node.value for path, node in host.truth.store.tree._nodes.items()}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_never_reaches_the_next_domain_with_the_id(
    host: Host, recycled: pyxc.Domain, name: str
) -> None:
    message = rf"domain {recycled.domid} now has the UUID .*; {recycled.uuid} has gone"
    check_refused(host, recycled, name, message)


@pytest.fixture
def restarted(boot: Boot) -> tuple[Host, pyxc.Domain]:
    """Another domain has its id and its UUID, as after a restart: on Xen 4.22."""
    host = boot("sim:xen-4.22")
    return host, replaced(host, uuid=host.xen.domains["build"].uuid)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_never_reaches_a_domain_that_was_restarted_under_its_id(
    restarted: tuple[Host, pyxc.Domain], name: str
) -> None:
    host, old = restarted
    check_refused(host, old, name, f"domain {old.domid} is now another domain")


def test_a_domain_that_was_restarted_is_another_one(restarted: tuple[Host, pyxc.Domain]) -> None:
    xen, old = restarted[0].xen, restarted[1]
    again = xen.domains[old.domid]
    assert (again.domid, again.uuid) == (old.domid, old.uuid)
    assert again != old and again.unique_id != old.unique_id
    assert not old.exists() and again.exists()
    assert old not in xen.domains and again in xen.domains
    with pytest.raises(errors.DomainGone):
        old.info()


def test_the_unique_id_is_kept_and_no_other_domains(boot: Boot) -> None:
    xen = boot("sim:xen-4.22").xen
    numbers = [domain.unique_id for domain in xen.domains.values()]
    assert None not in numbers and len({*numbers, xen.domains.create().unique_id}) == len(numbers) + 1
    assert [domain.unique_id for domain in xen.domains.values()][:-1] == numbers


def test_asking_for_the_unique_id_takes_no_change_away_from_xenstored(boot: Boot) -> None:
    host = boot("sim:xen-4.22")
    waiting = set(host.truth.changed_domids)
    assert host.xen.domains[1].unique_id and host.xen.domains[1].state()
    assert waiting and host.truth.changed_domids == waiting


def test_without_unique_ids_a_domain_is_known_by_its_uuid(boot: Boot) -> None:
    xen = boot("sim:xen-4.20").xen
    assert xen.domains[1].unique_id is None
    with pytest.raises(errors.Unsupported, match="Xen 4.20 has no domctl.get_domain_state"):
        xen.domains[1].state()


def test_a_policy_that_forbids_to_ask_leaves_the_uuid(boot: Boot) -> None:
    host = boot("sim:xen-4.22")
    domain = host.xen.domains[1]
    host.link.lie(GET_DOMAIN_STATE, result=-errno.EACCES)
    assert host.xen.domains[1].unique_id is None
    domain.pause()
    assert domain.info().paused


def test_what_a_domain_is_for_the_host(boot: Boot) -> None:
    xen = boot("sim:xen-4.22").xen
    assert xen.domains[0].state().caps == StateCap.CONTROL | StateCap.HARDWARE | StateCap.XENSTORE
    domain = xen.domains[1]
    domain.shutdown()
    assert domain.state().flags == StateFlag.EXIST | StateFlag.SHUTDOWN and not domain.state().caps


def test_every_operation_that_changes_a_domain_is_preceded_by_a_look(host: Host) -> None:
    with pytest.raises(TypeError, match="pausedomain makes changes"):
        host.xen.domains[1].call(domctl.PAUSEDOMAIN)


def test_a_domain_is_equal_to_itself_however_it_was_found(boot: Boot) -> None:
    xen = boot().xen
    assert xen.domains[1] == xen.domains["web1"] != xen.domains[2]
    assert len({xen.domains[1], xen.domains["web1"]}) == 1
