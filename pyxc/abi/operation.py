# SPDX-License-Identifier: MIT
"""Operations of the hypervisor, one row each, and the envelopes of their hypercalls."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pyxc.abi.layout import U16, U32, Bound, Interface, Layout, NotInInterface, Row, Span, Table, pad


class Family(NamedTuple):
    """A hypercall with many commands.

    `envelope` precedes the body of every command, in one structure of `size` bytes (0: no fixed size).
    `command_argument`: the command is the hypercall's first argument and the structure's address the second;
    otherwise the command is a field of the envelope. `extra` arguments follow the address. `fixed_width`: the
    layout is the same for 32-bit and 64-bit kernels; other families have the kernel's width. `interface` is
    the interface number of a family that always had the same. `by_value`: the fields of the structure are
    themselves the arguments after the command.
    """

    name: str
    hypercall: int
    envelope: tuple[Row, ...] = ()
    size: int = 0
    command_argument: bool = True
    extra: tuple[int, ...] = ()
    fixed_width: bool = False
    interface: int | None = None
    by_value: bool = False

    @property
    def versions(self) -> str:
        """The interface number that its layouts depend on: its own, or none ("xen": the release)."""
        return self.name if self.name in ("domctl", "sysctl", "dom0_op") else "xen"


_NUMBERED = (Row("cmd", U32), Row("interface_version", U32))

DOM0_OP = Family("dom0_op", 7, _NUMBERED, 136, command_argument=False, fixed_width=True)
"""All operations of the toolstack until August 2006; the number is now that of platform_op."""
DOMCTL = Family(
    "domctl", 36, (*_NUMBERED, Row("domid", U16), pad(6)), 144, command_argument=False, fixed_width=True
)
"""Its domain is `domid` here, because the body of getdomaininfo also has a `domain`."""
SYSCTL = Family("sysctl", 35, _NUMBERED, 136, command_argument=False, fixed_width=True)
MEMORY_OP = Family("memory_op", 12)
XEN_VERSION = Family("xen_version", 17)
GRANT_TABLE_OP = Family("grant_table_op", 20, extra=(1,))
XSM_OP = Family(
    "xsm_op", 27, (Row("cmd", U32), Row("interface_version", U32)), 40, command_argument=False, interface=1
)
SCHED_OP = Family("sched_op", 29)
EVENT_CHANNEL_OP = Family("event_channel_op", 32, fixed_width=True)
PHYSDEV_OP = Family("physdev_op", 33)
HVM_OP = Family("hvm_op", 34, fixed_width=True)
DM_OP = Family("dm_op", 41, (Row("op", U32), pad(4)), command_argument=False)
"""Its structure is the first of several buffers, and does not include the domain."""
HYPFS_OP = Family("hypfs_op", 42, fixed_width=True, by_value=True)
MMUEXT_OP = Family("mmuext_op", 26, command_argument=False, by_value=True)
"""Its commands are in a list that is one of its arguments."""
MULTICALL = 13


class Listing(NamedTuple):
    """The fields of an operation that fills a list: for its buffer, and for the number of items in it."""

    buffer: str
    filled: str


class Stride(NamedTuple):
    """A buffer of structures, whose number is in a field ("": in the result of the call)."""

    item: Table
    filled: str


class Operation:
    """One operation of the hypervisor.

    `changes` says whether it makes changes to the hypervisor or a domain; read-only handles refuse those, and
    the identity of a domain is checked before. `populates`: it populates frames on demand, so it also makes
    changes to a guest with such memory. `wide`: its result may need 64 bits, so it is sent as a multicall of
    one entry. `body` is the structure of its fields; `fixed` are the fields that select this operation if one
    command does several things. It exists in the versions [start, stop) that have its structure.

    `before` returns the dom0_op for the same before domctl and sysctl. `retry_on`: the errnos after which it
    is repeated, and how often at most (None: no limit). `listing`: its fields, if it fills a list. `strides`:
    its buffers of structures. `hints`: explanations of errnos of this operation. `stable`: its interface
    number is 0 in every release.
    """

    def __init__(
        self, family: Family, name: str, command: int, body: Table | None = None, *, changes: bool,
        wide: bool = False, fixed: Mapping[str, int] | None = None, start: Bound = None, stop: Bound = None,
        before: "Callable[[], Operation] | None" = None, populates: bool = False,
        retry_on: Mapping[int, int | None] | None = None,
        listing: Listing | None = None, hints: Mapping[int, str] | None = None,
        strides: Mapping[str, Stride] | None = None, stable: bool = False,
    ) -> None:  # fmt: skip
        self.family = family
        self.name = name
        self.command = command
        self.body = body
        self.changes = changes
        self.populates = populates
        self.wide = wide
        self.fixed = fixed or {}
        span = Span.of(start, stop)
        self.span = span.within(body.span) if body else span
        self.before = before
        self.retry_on = retry_on or {}
        self.listing = listing
        self.strides = strides or {}
        self.hints = hints or {}
        self.stable = stable
        self._layouts: dict[Interface, Layout] = {}

    def spoken(self, interface: Interface) -> "Operation":
        """The operation of one interface for this: itself, or its dom0_op."""
        return self.before() if self.before and interface.dom0_op else self

    @property
    def full_name(self) -> str:
        return f"{self.family.name}.{self.name}"

    def at(self, interface: Interface) -> Layout:
        """Envelope, body and tail padding as one structure. NotInInterface if this Xen does not have it."""
        layout = self._layouts.get(interface)
        if layout is None:
            layout = self._layouts[interface] = self._made(interface)
        return layout

    def _made(self, interface: Interface) -> Layout:
        spoken = self.spoken(interface)
        if spoken is not self:
            return spoken.at(interface)
        if not self.span.holds(interface.version(self.family.versions)):
            raise NotInInterface(f"Xen {interface.xen[0]}.{interface.xen[1]} has no {self.full_name}")
        body = self.body.rows_at(interface) if self.body else []
        envelope = Layout(self.full_name, self.family.envelope, interface.byteorder)
        whole = Layout(self.full_name, [*self.family.envelope, *body], interface.byteorder)
        tail = [pad(self.family.size - whole.size)] if self.family.size > whole.size else []
        layout = Layout(self.full_name, [*self.family.envelope, *body, *tail], interface.byteorder)
        layout.body = envelope.size
        return layout

    def __repr__(self) -> str:
        return f"<{self.full_name} ({self.command}), {'changes' if self.changes else 'reads'}>"
