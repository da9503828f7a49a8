# SPDX-License-Identifier: MIT
"""Launching a guest: from its configuration to a domain in xenstore, paused before its first instruction."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from pyxc import errors, undoing
from pyxc.domain import naming
from pyxc.domain.domains import Domains
from pyxc.guest import nodes, remains
from pyxc.guest.built import BuiltDomain
from pyxc.guest.config import GuestConfig
from pyxc.guest.guest_memory import Progress
from pyxc.host.host import Host

if TYPE_CHECKING:  # imported when a configuration has such a thing: many have few
    from pyxc.domain.vnuma import Vnuma
    from pyxc.host.pools import Pool

_SLACK_KB = 1024


def launch(xen: Host, config: GuestConfig, *, progress: Progress | None = None) -> BuiltDomain:
    """Build a guest, create its nodes in xenstore and its devices, and introduce it: unpause() starts it.

    All or nothing, also under Ctrl-C: if a step fails, no domain and no node remains. ValueError for the name
    of an existing domain; OSError for files that cannot be read; further errors as in Domains.build().

    >>> mail = launch(xen, GuestConfig.read("mail.cfg"))
    >>> mail.unpause()
    """
    xen.check_writable("building a domain")
    naming.check_free(xen, xen.store, config.name)
    hard, soft = _affinity(xen, config.cpus), _affinity(xen, config.cpus_soft)
    domain = Domains(xen).build(
        config.kernel,
        memory_kb=config.memory_kb,
        ramdisk=config.ramdisk,
        command_line=config.command_line,
        kind=config.kind,
        vcpus=config.max_vcpus,
        uuid=config.uuid,
        pool=_pool(xen, config),
        ssidref=_sid(xen, config),
        max_evtchn_port=config.max_event_channels,
        max_grant_frames=config.max_grant_frames,
        max_maptrack_frames=config.max_maptrack_frames,
        paging_kb=config.shadow_memory_kb,
        vnuma=_vnuma(config),
        progress=progress,
    )
    with undoing.on_failure(lambda: _destroy(domain), f"domain {domain.domid} is left"):
        _settle(domain, config, hard, soft)
        nodes.write(domain, _facts(config))
        _attach(domain, config)
    return domain


def _pool(xen: Host, config: GuestConfig) -> Pool | None:
    if config.pool is None:
        return None
    from pyxc.host.pools import Pools

    return Pools(xen)[config.pool]


def _sid(xen: Host, config: GuestConfig) -> int | None:
    if config.seclabel is None:
        return None
    from pyxc.host.flask import Flask

    return Flask(xen).sid(config.seclabel)


def _vnuma(config: GuestConfig) -> Vnuma | None:
    if not config.vnuma:
        return None
    from pyxc.guest import config_vnuma

    return config_vnuma.topology(config.vnuma, config.kind)


def _attach(domain: BuiltDomain, config: GuestConfig) -> None:
    if not config.disks and not config.vifs:
        return
    from pyxc.guest.devices import Devices

    devices = Devices(domain)
    for disk in config.disks:
        devices.attach_disk(disk)
    for vif in config.vifs:
        devices.attach_vif(vif)


def _destroy(domain: BuiltDomain) -> None:
    domain.xen.store.renew()  # the step may have failed because the connection ended
    with suppress(errors.DomainNotFound, errors.DomainGone):
        domain.destroy()
    remains.remove(domain)


def _affinity(xen: Host, lists: tuple[str, ...]) -> tuple[frozenset[int], ...]:
    """Sets of cpus, one for all vcpus or one for each. ConfigError."""
    if not lists:
        return ()
    from pyxc.guest.cpu_lists import cpu_set
    from pyxc.host.topology import cpus

    host = cpus(xen)
    try:
        return tuple(cpu_set(text, host) for text in lists)
    except ValueError as error:
        raise errors.ConfigError(f"cpus: {error}") from error


def _settle(
    domain: BuiltDomain,
    config: GuestConfig,
    hard: tuple[frozenset[int], ...],
    soft: tuple[frozenset[int], ...],
) -> None:
    """Apply settings that are not needed to build the domain."""
    if hard or soft:
        _pin(domain, hard, soft)
    if config.max_memory_kb > config.memory_kb:
        domain.set_max_memory(config.max_memory_kb + _SLACK_KB)
    if config.weight is not None or config.cap is not None:
        domain.set_scheduling(weight=config.weight, cap=config.cap)
    if config.tsc_mode is not None:
        domain.set_tsc(config.tsc_mode)
    if config.time_offset_seconds:
        domain.set_time_offset(config.time_offset_seconds)


def _pin(domain: BuiltDomain, hard: tuple[frozenset[int], ...], soft: tuple[frozenset[int], ...]) -> None:
    for vcpu in domain.vcpus:
        places = _one(hard, vcpu.index), _one(soft, vcpu.index)
        if places != (None, None):
            vcpu.set_affinity(*places)


def _one(sets: tuple[frozenset[int], ...], index: int) -> Iterable[int] | None:
    """A single list applies to all vcpus, several to one each."""
    if len(sets) == 1:
        return sets[0]
    return sets[index] if index < len(sets) else None


def _facts(config: GuestConfig) -> nodes.Facts:
    return nodes.Facts(
        config.name,
        config.memory_kb,
        config.max_memory_kb,
        config.vcpus,
        config.max_vcpus,
        config.kernel if isinstance(config.kernel, str) else "",
        config.command_line,
    )
