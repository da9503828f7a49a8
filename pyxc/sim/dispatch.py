# SPDX-License-Identifier: MIT
"""The way of a hypercall, as bytes and numbers, to the operation that carries it out."""

from __future__ import annotations

import struct
from collections.abc import Callable

from pyxc.abi import domctl as domctl_abi
from pyxc.abi import domctl_pci as domctl_pci_abi
from pyxc.abi import domctl_state as domctl_state_abi
from pyxc.abi.domid import DOMID_IO
from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import Layout, NotInInterface
from pyxc.abi.multicall import ENTRY_STRUCT
from pyxc.abi.operation import DM_OP, DOMCTL, MEMORY_OP, MULTICALL, XSM_OP, Family, Operation
from pyxc.sim.model.access import ClientMemory, Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.ops import (
    cpu_policy,
    dm_op,
    dom0_op,
    dom0_op_host,
    dom0_op_memory,
    dom0_op_vcpu,
    domctl,
    domctl_debug,
    domctl_hvm,
    domctl_memory,
    domctl_nodes,
    domctl_paging,
    domctl_pci,
    domctl_permissions,
    domctl_state,
    domctl_time,
    domctl_vcpu,
    domctl_vcpu_state,
    event_channel,
    flask,
    grant_table,
    guards,
    hvm,
    hypfs,
    livepatch,
    lockprof,
    memory,
    memory_claims,
    memory_map,
    mmuext,
    perfc,
    physdev,
    pm,
    sched,
    scheduler,
    sysctl,
    sysctl_cpupool,
    trace,
    version,
    vnuma,
)
from pyxc.sim.ops.call import REGISTER, Call, Handler

HANDLERS = (
    cpu_policy,
    dm_op,
    dom0_op,
    dom0_op_host,
    dom0_op_memory,
    dom0_op_vcpu,
    domctl,
    domctl_debug,
    domctl_hvm,
    domctl_memory,
    domctl_paging,
    domctl_pci,
    domctl_permissions,
    domctl_state,
    domctl_time,
    domctl_vcpu,
    domctl_vcpu_state,
    event_channel,
    flask,
    grant_table,
    hvm,
    hypfs,
    livepatch,
    lockprof,
    memory_claims,
    memory_map,
    memory,
    mmuext,
    domctl_nodes,
    perfc,
    physdev,
    pm,
    sched,
    scheduler,
    sysctl,
    sysctl_cpupool,
    trace,
    version,
    vnuma,
)
"""The modules that fill the register of operations."""

_FAMILIES: dict[int, Family] = {
    entry.operation.family.hypercall: entry.operation.family for entry in REGISTER.values()
}
_MOST_BUFFERS = 2
"""Of a dm_op."""
_MEMORY_COMMAND = 0x3F
"""Higher bits of a memory_op's command count the extents that are done."""
_STABLE = domctl_state_abi.GET_DOMAIN_STATE.command
_FINDS_ITSELF = (
    domctl_abi.CREATEDOMAIN.command,
    domctl_abi.GETDOMAININFO.command,
    _STABLE,
)
"""domctls that do not act on an existing domain, or look for it in their own way."""
_OF_IO = (domctl_pci_abi.ASSIGN_DEVICE.command, domctl_pci_abi.DEASSIGN_DEVICE.command)
"""domctls that may be about Xen's domain for I/O: it has the devices that nobody is to use."""

Commands = dict[int, tuple[Layout | None, Handler]]


class Dispatch:
    """Finds the operation that is meant; refuses in Xen's order. Used with the host's lock."""

    def __init__(self, xen: Host) -> None:
        self._xen = xen
        self._commands = {family: self._commands_of(family) for family in _FAMILIES.values()}
        self._families = {
            number: family
            for number, family in _FAMILIES.items()
            if self._commands[family] and self._has(family)
        }
        order = "<" if xen.interface.byteorder == "little" else ">"
        self._entry, self._buffer = ENTRY_STRUCT.at(xen.interface), struct.Struct(f"{order}QQ")

    def carry_out(self, memory: ClientMemory, number: int, arguments: tuple[int, ...]) -> int:
        """The result of a hypercall, or a negative errno."""
        if number != MULTICALL:
            return self._single(memory, number, arguments)
        try:
            return self._multicall(memory, arguments[0], arguments[1])
        except Refusal as refusal:
            return -refusal.errno

    def add(self, operation: Operation, handler: Handler) -> None:
        """Carry out one more operation, or one in another way. NotInInterface where this Xen has it not."""
        layout, family = operation.at(self._xen.interface), operation.family
        if not self._has(family):
            raise NotInInterface(f"this Xen has no {family.name}")
        self._families[family.hypercall] = family
        self._commands.setdefault(family, {})[operation.command] = (layout if layout.size else None, handler)

    def _has(self, family: Family) -> bool:
        there = self._xen.interface.number(family.name) != 0
        return there and (self._xen.profile.xsm or family is not XSM_OP)

    def _commands_of(self, family: Family) -> Commands:
        """The operations of a family that this release has, by command."""
        commands: Commands = {}
        for operation, handler, arch in REGISTER.values():
            if operation.family is family and arch in (None, self._xen.profile.arch):
                try:
                    layout = operation.at(self._xen.interface)
                except NotInInterface:
                    continue
                commands[operation.command] = (layout if layout.size else None, handler)
        return commands

    def _single(self, memory: ClientMemory, number: int, arguments: tuple[int, ...]) -> int:
        family = self._families.get(number)
        if family is None:
            return -XenErrno.ENOSYS
        try:
            call, handler = self._way(family)(family, memory, arguments)
            return handler(call) or 0
        except Refusal as refusal:
            return -refusal.errno

    def _way(self, family: Family) -> Callable[..., tuple[Call, Handler]]:
        if family is DM_OP:
            return self._in_buffers
        if family.by_value and not family.command_argument:
            return self._in_list
        return self._by_argument if family.command_argument else self._enveloped

    def _in_buffers(
        self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]
    ) -> tuple[Call, Handler]:
        """dm_op: a domain and a list of buffers, of which the first is the structure; in Xen's order."""
        domid, count, address = arguments[:3]
        if count > _MOST_BUFFERS:
            raise Refusal(XenErrno.E2BIG)
        if count == 0 and self._xen.profile.since(4, 20):
            raise Refusal(XenErrno.ENODATA)
        buffers = [self._buffer.unpack(memory.read(address + 16 * index, 16)) for index in range(count)]
        target = self._xen.find(domid)
        if target is self._xen.current.domain:
            raise Refusal(XenErrno.EPERM)
        if not target.hvm:
            raise Refusal(XenErrno.EINVAL)
        start, size = buffers[0] if buffers else (0, 0)
        envelope = Layout(family.name, family.envelope, self._xen.interface.byteorder)
        if size < envelope.size:
            raise Refusal(XenErrno.EFAULT)
        command = envelope.unpack(memory.read(start, envelope.size))["op"]
        layout, handler = self._commands[family].get(command, (None, _not_for_devices))
        if layout and size < layout.size:
            raise Refusal(XenErrno.EFAULT)
        return Call(self._xen, memory, layout, start, target), handler

    def _multicall(self, memory: ClientMemory, address: int, count: int) -> int:
        """Each entry's result goes into the entry; one multicall in another is refused there."""
        entry = self._entry
        for place in range(address, address + count * entry.size, entry.size):
            fields = entry.unpack(memory.read(place, entry.size))
            number = fields["op"]
            self._xen.counters.count(number)
            self._xen.counters.from_multicall += 1
            nested = number == MULTICALL
            result = -XenErrno.EINVAL if nested else self._single(memory, number, fields["args"])
            memory.write(place, entry.pack({**fields, "result": _as_long(result)}))
        return 0

    def _by_argument(
        self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]
    ) -> tuple[Call, Handler]:
        """Families whose command is the first argument and whose structure's address is the second."""
        command = arguments[0] & _MEMORY_COMMAND if family is MEMORY_OP else arguments[0]
        layout, handler = self._commands[family].get(command, (None, _unknown))
        call = Call(self._xen, memory, layout, arguments[1])
        if family.by_value and layout:
            call.take(dict(zip(layout.names, arguments[1:])))
        return call, handler

    def _in_list(
        self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]
    ) -> tuple[Call, Handler]:
        """mmuext_op: the commands are in a list, and all of them are one handler's."""
        layout, handler = next(iter(self._commands[family].values()))
        assert layout
        call = Call(self._xen, memory, layout, 0)
        call.take(dict(zip(layout.names, arguments)))
        return call, handler

    def _enveloped(
        self, family: Family, memory: ClientMemory, arguments: tuple[int, ...]
    ) -> tuple[Call, Handler]:
        """domctl, sysctl, dom0_op, xsm_op: the copy, the version, the domain, the command, in Xen's order.

        Up to 4.2 the command came before the domain.
        """
        envelope = Layout(family.name, family.envelope, self._xen.interface.byteorder)
        header = envelope.unpack(memory.read(arguments[0], family.size))
        command = header["cmd"]
        if header["interface_version"] != self._number(family, command):
            raise Refusal(XenErrno.ENOSYS if family is XSM_OP else XenErrno.EACCES)
        layout, handler = self._commands[family].get(command, (None, _unknown))
        target = None
        if family is DOMCTL and command not in _FINDS_ITSELF:
            if handler is _unknown and not self._xen.profile.since(4, 3):
                raise Refusal(XenErrno.ENOSYS)
            target = self._target(command, header["domid"])
            if command in guards.BY_COMMAND:
                self._xen.demand(target.ssidref, *guards.BY_COMMAND[command])
        return Call(self._xen, memory, layout, arguments[0], target), handler

    def _number(self, family: Family, command: int) -> int:
        """The interface number that a command has to carry: 0 for the one whose structure is stable."""
        if family is DOMCTL and command == _STABLE and command in self._commands[family]:
            return 0
        return family.interface or self._xen.interface.version(family.name)[0]

    def _target(self, command: int, domid: int) -> Domain:
        """The domain of a domctl. Refusal: ESRCH, and up to 4.2 EINVAL from getmemlist."""
        own_look = command == domctl_abi.GETMEMLIST.command and not self._xen.profile.since(4, 3)
        if own_look and domid not in self._xen.domains:
            raise Refusal(XenErrno.EINVAL)
        if domid == DOMID_IO and command in _OF_IO and self._xen.profile.since(4, 13):
            return self._xen.io_domain
        return self._xen.find(domid)


def _as_long(result: int) -> int:
    """A result as a register holds it: a guest can make a number of pages what it likes."""
    return (result + (1 << 63)) % (1 << 64) - (1 << 63)


def _unknown(call: Call) -> int:
    return -XenErrno.ENOSYS


def _not_for_devices(call: Call) -> int:
    return -XenErrno.EOPNOTSUPP
