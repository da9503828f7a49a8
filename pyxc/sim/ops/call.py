# SPDX-License-Identifier: MIT
"""One hypercall on its way through the simulated hypervisor, and the register of what can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import Layout
from pyxc.abi.operation import Operation
from pyxc.sim.model.access import ClientMemory, Refusal
from pyxc.sim.model.domain import Domain, Vcpu
from pyxc.sim.model.host import Host


class Call:
    """One operation: who asks, where its structure lies, and which domain it concerns.

    `layout` is None for operations without a structure. `target` is the domain of a domctl, None without a
    domain and in other families.
    """

    def __init__(
        self,
        xen: Host,
        memory: ClientMemory,
        layout: Layout | None,
        address: int,
        target: Domain | None = None,
    ) -> None:
        self.xen = xen
        self.memory = memory
        self.address = address
        self.target = target
        self._layout = layout
        self._fields: dict[str, Any] | None = None

    @property
    def layout(self) -> Layout:
        assert self._layout is not None
        return self._layout

    @property
    def fields(self) -> dict[str, Any]:
        """The structure, copied in on first use. Refusal (EFAULT) when it cannot be read."""
        if self._fields is None:
            self._fields = self.layout.unpack(self.memory.read(self.address, self.layout.size))
        return self._fields

    def reading(self, operation: Operation) -> Call:
        """The same bytes in the structure of another operation, where several share a command."""
        return Call(self.xen, self.memory, operation.at(self.xen.interface), self.address, self.target)

    def take(self, fields: dict[str, Any]) -> None:
        """The fields of a structure that came as arguments, and lies nowhere."""
        self._fields = fields

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    @property
    def domain(self) -> Domain:
        """The domain of a domctl."""
        assert self.target is not None
        return self.target

    def answer(self, **fields: Any) -> None:
        """Copy the structure back with some fields changed."""
        self.memory.write(self.address, self.layout.pack({**self.fields, **fields}))

    def replace(self, fields: Mapping[str, Any]) -> None:
        """Write the structure without having read it: the rest is zero."""
        self.memory.write(self.address, self.layout.pack(fields))

    def vcpu(self) -> Vcpu:
        """The vcpu that the structure names: EINVAL beyond the domain's limit, ESRCH where none was made."""
        index: int = self["vcpu"]
        if index >= len(self.domain.vcpus):
            raise Refusal(XenErrno.EINVAL)
        vcpu = self.domain.vcpus[index]
        if vcpu is None:
            raise Refusal(XenErrno.ESRCH)
        return vcpu

    def not_on_self(self) -> None:
        """Refuse (EINVAL) what a domain cannot do to itself."""
        if self.domain is self.xen.current.domain:
            raise Refusal(XenErrno.EINVAL)


Handler = Callable[[Call], int | None]
"""Carries out an operation; returns its result (None is 0) or raises Refusal."""


class Entry(NamedTuple):
    """`arch` is the only architecture whose hypervisor has the operation; None: all have it."""

    operation: Operation
    handler: Handler
    arch: str | None


REGISTER: dict[str, Entry] = {}
"""Every operation that the simulator has, by full name."""


def handles(*operations: Operation, arch: str | None = None) -> Callable[[Handler], Handler]:
    """Register a function as the handler of operations, which share a command when there are several."""

    def register(handler: Handler) -> Handler:
        for operation in operations:
            REGISTER[operation.full_name] = Entry(operation, handler, arch)
        return handler

    return register
