# SPDX-License-Identifier: MIT
"""The hypervisor's own identification of a domain: a number that is never reused."""

from __future__ import annotations

from typing import NamedTuple

from pyxc import errors
from pyxc.abi.domctl_state import GET_DOMAIN_STATE, GET_DOMAIN_STATE_STRUCT, StateCap, StateFlag
from pyxc.call.records import Record
from pyxc.host.host import Host


class DomainState(NamedTuple):
    """A domain in the stable interface (domctl get_domain_state, public/domctl.h). Threads: safe to share.

    `unique_id` is a 64-bit number that only this domain has: Xen reuses ids, and a rebooted or restored
    domain keeps its UUID, but gets a new number.

    Example:

    >>> pyxc.open("sim:xen-4.22").domains[0].state().caps
    <StateCap.CONTROL|HARDWARE|XENSTORE: 7>
    """

    state_bits: int
    cap_bits: int
    unique_id: int

    @staticmethod
    def shown_as() -> dict[str, tuple[str, ...]]:
        """The attributes that asdict() shows instead of a raw field."""
        return {"state_bits": ("flags",), "cap_bits": ("caps",)}

    @property
    def flags(self) -> StateFlag:
        """Whether it exists, has shut down, is dying or dead."""
        return StateFlag(self.state_bits)

    @property
    def caps(self) -> StateCap:
        """Its role: the host's control, hardware or xenstore domain."""
        return StateCap(self.cap_bits)


_STATE = Record(DomainState, GET_DOMAIN_STATE_STRUCT, state_bits="state", cap_bits="caps")


def read_state(xen: Host, domid: int) -> DomainState:
    """One domain (domctl get_domain_state). Unsupported before Xen 4.21; DomainNotFound."""
    state = xen.caller.read(GET_DOMAIN_STATE, _STATE, domid)
    if not state.flags & StateFlag.EXIST:
        raise errors.DecodeError(f"the hypervisor reports an unknown state of domain {domid}")
    return state


def unique_id(xen: Host, domid: int) -> int | None:
    """The number of the domain that now has an id; None if this Xen has none, or its policy forbids it."""
    number = xen.interface.layout_number("domctl") or 0
    if not GET_DOMAIN_STATE.span.holds((number, xen.interface.xen)):
        return None
    try:
        return read_state(xen, domid).unique_id
    except (errors.Unsupported, errors.PermissionDenied):
        return None
