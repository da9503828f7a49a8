# SPDX-License-Identifier: MIT
"""What a toolstack has written to xenstore for the domains of a simulated host, as xl writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from pyxc.sim.xenstored import Xenstored
from pyxc.store.permission import Access, Permission

if TYPE_CHECKING:
    from pyxc.sim.model.domain import Domain

_DOM0 = Permission(0, Access.NONE)
_FEATURES = ("feature-poweroff", "feature-reboot", "feature-suspend")
_STORE_PORT, _CONSOLE_PORT = 1, 2
_KB_OF_PAGE = 4


def init_dom0(store: Xenstored) -> None:
    """What xen-init-dom0 writes."""
    home = "/local/domain/0"
    for name in _FEATURES:
        store.write(f"{home}/control/{name}", "1")
    store.write(f"{home}/domid", "0")
    store.write(f"{home}/name", "Domain-0")
    store.write("/local/pool/0/name", "Pool-0")


def introduce(store: Xenstored, domain: Domain, name: str) -> None:
    """A domain's home and /vm, which it may read, with what it may write; then its introduction."""
    domid, uuid = domain.domid, UUID(bytes=domain.handle)
    home, vm = f"/local/domain/{domid}", f"/vm/{uuid}"
    readable, own = (_DOM0, Permission(domid, Access.READ)), (Permission(domid, Access.NONE),)
    for top in (home, vm):
        store.write(top, "", readable)
    for path, value in _facts(domain, name, vm).items():
        store.write(f"{home}/{path}", value)
    for path in ("control/shutdown", *(f"control/{feature}" for feature in _FEATURES), "data", "error"):
        store.write(f"{home}/{path}", "", own)
    store.write(f"{vm}/name", name)
    store.write(f"{vm}/uuid", str(uuid))
    store.add(domid, domain.ports[_STORE_PORT].port)


def _facts(domain: Domain, name: str, vm: str) -> dict[str, str]:
    """The nodes that dom0 writes for a domain."""
    kb = str(domain.tot_pages * _KB_OF_PAGE)
    rings = {}
    if domain.rings:
        rings = {"store/ring-ref": str(domain.rings.store), "console/ring-ref": str(domain.rings.console)}
    cpus = {f"cpu/{vcpu.index}/availability": "online" for vcpu in domain.live_vcpus}
    return {
        "vm": vm,
        "name": name,
        **cpus,
        **rings,
        "memory/static-max": kb,
        "memory/target": kb,
        "domid": str(domain.domid),
        "store/port": str(_STORE_PORT),
        "console/port": str(_CONSOLE_PORT),
        "console/type": "xenconsoled",
    }
