# SPDX-License-Identifier: MIT
"""The nodes of a guest in xenstore that it and other tools expect: those of xl, with its permissions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pyxc.domain import naming
from pyxc.domain.domain import Domain
from pyxc.guest import remains
from pyxc.guest.built import BuiltDomain
from pyxc.guest.remains import BACKEND, home, marker
from pyxc.store.nodes import Nodes
from pyxc.store.transaction import Transaction

if TYPE_CHECKING:
    from pyxc.guest.images import Kind

_CONSOLE_BYTES = 1 << 20
_OWN = (
    "device/suspend/event-channel", "control/shutdown", "control/feature-poweroff", "control/feature-reboot",
    "control/feature-suspend", "control/sysrq", "data", "drivers", "feature", "attr", "error",
)  # fmt: skip
"""The nodes below its home that the guest may write."""


class Facts(NamedTuple):
    """What a toolstack writes about a guest. Memory in KiB."""

    name: str
    memory_kb: int
    max_memory_kb: int
    vcpus: int
    max_vcpus: int
    kernel: str = ""
    command_line: str = ""


def write(domain: BuiltDomain, facts: Facts) -> None:
    """Create all nodes of a new guest in one transaction, and introduce it to xenstored.

    Nodes left by an earlier domain with its id are removed. ValueError for the name of an existing domain. If
    a step fails, no node remains.
    """
    _create(domain, domain.kind, facts, _of_rings(domain))
    _introduce(domain)


def prepare(domain: Domain, kind: Kind, facts: Facts) -> None:
    """The same without the nodes of its rings, which complete() adds, and without the introduction."""
    _create(domain, kind, facts, {})


def complete(domain: BuiltDomain) -> None:
    """Add the nodes of its rings, and introduce it. After a failure the domain's destruction removes all."""

    def lay(transaction: Transaction) -> None:
        with transaction.together() as changes:
            for path, value in _of_rings(domain).items():
                changes.write(path, value)

    domain.xen.store.transact(lay)
    _introduce(domain)


def _create(domain: Domain, kind: Kind, facts: Facts, rings: dict[str, str]) -> None:
    naming.check(facts.name)

    def lay(transaction: Transaction) -> None:
        naming.check_free(domain.xen, transaction, facts.name, domain.domid)
        tops = remains.tops(domain)
        found = transaction.read_many(tops)
        with transaction.together() as changes:
            for top, value in zip(tops, found):
                if value is not None:
                    changes.remove(top)
            _lay(changes, domain, kind, facts)
            for path, number in rings.items():
                changes.write(path, number)

    domain.xen.store.transact(lay)


def _introduce(domain: BuiltDomain) -> None:
    try:
        domain.xen.store.introduce(domain.domid, domain.store_frame, domain.store_port)
    except BaseException:
        remains.remove(domain)
        raise


def _of_rings(domain: BuiltDomain) -> dict[str, str]:
    """The nodes of what it shares with xenstored and xenconsoled."""
    top = home(domain.domid)
    return {
        f"{top}/store/port": str(domain.store_port),
        f"{top}/store/ring-ref": str(domain.store_frame),
        f"{top}/console/port": str(domain.console_port),
        f"{top}/console/ring-ref": str(domain.console_frame),
    }


def _lay(store: Nodes, domain: Domain, kind: Kind, facts: Facts) -> None:
    domid, top, vm = domain.domid, home(domain.domid), f"/vm/{domain.uuid}"
    visible = ("n0", f"r{domid}")
    for path, permissions in ((top, visible), (vm, visible), (f"/libxl/{domid}", ("n0",))):
        store.mkdir(path)
        store.set_permissions(path, permissions)
    store.write(marker(domid), str(domain.uuid))
    store.write(f"/libxl/{domid}/type", kind)
    for path, value in _visible(domain, facts):
        store.write(f"{top}/{path}", value)
    for path in _OWN:
        store.write(f"{top}/{path}", "")
        store.set_permissions(f"{top}/{path}", (f"n{domid}",))
    for path, value in _of_vm(domain, facts):
        store.write(f"{vm}/{path}", value)
    _lay_console(store, domain)


def _visible(domain: Domain, facts: Facts) -> Iterator[tuple[str, str]]:
    """The nodes below its home that the guest may read."""
    yield from (("vm", f"/vm/{domain.uuid}"), ("name", facts.name), ("domid", str(domain.domid)))
    yield from (("memory/static-max", str(facts.max_memory_kb)), ("memory/target", str(facts.memory_kb)))
    yield "memory/videoram", "0"
    yield from (("device", ""), ("control", ""))
    for feature in ("multiprocessor-suspend", "xs_reset_watches"):
        yield f"control/platform-feature-{feature}", "1"
    for index in range(facts.max_vcpus):
        yield f"cpu/{index}/availability", "online" if index < facts.vcpus else "offline"


def _of_vm(domain: Domain, facts: Facts) -> Iterator[tuple[str, str]]:
    yield from (("uuid", str(domain.uuid)), ("name", facts.name), ("image/ostype", "linux"))
    yield from (("image/kernel", facts.kernel), ("image/cmdline", facts.command_line))
    yield "start_time", f"{time.time():.2f}"


def _lay_console(store: Nodes, domain: Domain) -> None:
    """The nodes for xenconsoled. The guest may only read them: they name a terminal of dom0."""
    domid = domain.domid
    front, back = f"{home(domid)}/console", f"{BACKEND}/console/{domid}/0"
    for path, value in (
        ("backend", back),
        ("backend-id", "0"),
        ("limit", str(_CONSOLE_BYTES)),
        ("type", "xenconsoled"),
        ("output", "pty"),
        ("tty", ""),
    ):
        store.write(f"{front}/{path}", value)
    store.mkdir(back)
    store.set_permissions(back, ("n0", f"r{domid}"))
    fields = {"frontend": front, "frontend-id": str(domid), "online": "1", "state": "1", "protocol": "vt100"}
    for name, value in fields.items():
        store.write(f"{back}/{name}", value)
    for name, value in (("frontend", front), ("backend", back)):
        store.write(f"/libxl/{domid}/device/console/0/{name}", value)
