# SPDX-License-Identifier: MIT
"""Building a domain: from a kernel to a guest that is paused before its first instruction."""

from __future__ import annotations

import errno
import os
import uuid as uuids
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from typing import NamedTuple

from pyxc import arguments, errors, undoing
from pyxc.abi import memory
from pyxc.abi.hvm import HvmParam
from pyxc.abi.page import PAGE_KB
from pyxc.domain.domain import Domain
from pyxc.domain.info import MOST_VCPUS
from pyxc.guest import build_pvh, guest_memory
from pyxc.guest.built import BuiltDomain, Rings
from pyxc.guest.guest_memory import Progress
from pyxc.guest.images import Kernel, Kind
from pyxc.host.host import Host
from pyxc.host.pools import Pool

Content = str | os.PathLike[str] | bytes
"""A file by its path, or what is in it."""

_SLACK_KB = 1024
"""What a domain may own beyond its memory: pages that it shares with those that serve it, and tables."""
_MEMORY_MOST_KB = 1 << 40
_PAGING_LEAST_KB = 4096
"""Enough for the tables of a guest so small that the formula gives it too little."""
_SINCE: dict[Kind, tuple[int, int]] = {"pvh": (4, 10), "pv": (4, 10)}
_ADDRESS_SPACE = range(1 << 52)


class Wanted(NamedTuple):
    """What is to be built, as Domains.build() takes it."""

    kernel: Content
    memory_kb: int
    ramdisk: Content | None
    command_line: str
    kind: Kind | None
    vcpus: int
    uuid: uuids.UUID | str | bytes | None
    pool: Pool | int | None
    cpus: Iterable[int] | None
    nodes: Iterable[int] | None
    ssidref: int | None
    iommu: bool
    max_evtchn_port: int
    max_grant_frames: int
    max_maptrack_frames: int
    paging_kb: int | None
    progress: Progress | None


class _Guest(NamedTuple):
    """The files of a guest, read and understood."""

    kernel: Kernel
    kind: Kind
    ramdisk: bytes
    command_line: bytes
    pages: int
    vcpus: int


class Making(NamedTuple):
    """How a domain is made on a host, and found by its UUID where nobody knows whether it was made."""

    xen: Host
    create: Callable[..., Domain]
    just_made: Callable[[uuids.UUID], list[int]]


def build(making: Making, wanted: Wanted) -> BuiltDomain:
    """See Domains.build()."""
    xen = making.xen
    xen.check_writable("building a domain")
    guest = _understood(wanted)
    _refuse_older(xen, guest.kind)
    plan = build_pvh.plan(xen.interface, guest.kernel, guest.pages, guest.command_line, guest.ramdisk)
    handle = arguments.handle_or_new(wanted.uuid)
    with undoing.made(
        lambda: _create(making, wanted, guest, handle),
        _destroy,
        lambda: [Domain(xen, domid, handle) for domid in making.just_made(handle)],
        f"a domain with the UUID {handle} is left",
    ) as domain:
        _place(domain, wanted, guest)
        rings = _build_pvh(domain, guest, plan, wanted)
        _lend(domain, rings)
        return BuiltDomain(xen, domain.domid, domain.uuid, guest.kind, rings)


def _understood(wanted: Wanted) -> _Guest:
    """All that can be found wrong before anything is done."""
    memory_kb = arguments.natural("memory_kb", wanted.memory_kb, _MEMORY_MOST_KB, PAGE_KB)
    vcpus = arguments.natural("vcpus", wanted.vcpus, MOST_VCPUS, 1)
    most = memory_kb * 1024
    kernel = Kernel.decode(_read("kernel", wanted.kernel, most), most)
    ramdisk = b"" if wanted.ramdisk is None else _read("ramdisk", wanted.ramdisk, most)
    command_line = os.fsencode(wanted.command_line)
    return _Guest(kernel, kernel.kind(wanted.kind), ramdisk, command_line, memory_kb // PAGE_KB, vcpus)


def _refuse_older(xen: Host, kind: Kind) -> None:
    """Unsupported where Xen starts no such guests."""
    since = _SINCE[kind]
    if xen.interface.arch != "x86_64" or xen.interface.xen < since:
        hint = f"{kind.upper()} guests are built on x86, since Xen {since[0]}.{since[1]}"
        raise errors.Unsupported(errno.ENOSYS, "building a domain", hint=hint)


def _read(what: str, source: Content, most: int) -> bytes:
    """The whole of a file. ValueError for one that is larger than the guest's memory."""
    if isinstance(source, bytes):
        data = source
    else:
        with open(source, "rb") as file:
            data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"the {what} is larger than the memory of the guest, {most // 1024} KiB")
    return data


def _create(making: Making, wanted: Wanted, guest: _Guest, handle: uuids.UUID) -> Domain:
    hvm = guest.kind == "pvh"
    return making.create(
        hvm=hvm,
        hap=hvm,
        iommu=wanted.iommu,
        uuid=handle,
        max_vcpus=guest.vcpus,
        max_evtchn_port=wanted.max_evtchn_port,
        max_grant_frames=wanted.max_grant_frames,
        max_maptrack_frames=wanted.max_maptrack_frames,
        ssidref=wanted.ssidref,
    )


def _destroy(domain: Domain) -> None:
    with suppress(errors.DomainNotFound, errors.DomainGone):
        domain.destroy()


def _place(domain: Domain, wanted: Wanted, guest: _Guest) -> None:
    """Where it runs, and how much it may own: from there its memory comes."""
    if wanted.pool is not None:
        pool = wanted.pool if isinstance(wanted.pool, Pool) else Pool(domain.xen, wanted.pool)
        pool.add_domain(domain)
    if wanted.cpus is not None:
        hard = frozenset(wanted.cpus)
        for vcpu in domain.vcpus:
            vcpu.set_affinity(hard=hard)
    if wanted.nodes is not None:
        domain.set_node_affinity(wanted.nodes)
    domain.set_max_memory(guest.pages * PAGE_KB + _SLACK_KB)


def _build_pvh(domain: Domain, guest: _Guest, plan: build_pvh.PvhPlan, wanted: Wanted) -> Rings:
    memory_kb = guest.pages * PAGE_KB
    formula_kb = PAGE_KB * (256 * guest.vcpus + 2 * -(-memory_kb // 1024))
    paging_kb = max(_PAGING_LEAST_KB, formula_kb) if wanted.paging_kb is None else wanted.paging_kb
    domain.memory.set_paging_pool(paging_kb)
    _give(domain, (*plan.ram, plan.special), wanted.progress)
    domain.memory.set_e820(plan.e820)
    guest_memory.write(domain.memory, plan.pieces, _ADDRESS_SPACE)
    for param, value in plan.params.items():
        domain.hvm_params.write(param, value)
    store_port, console_port = domain.channels.open(), domain.channels.open()
    domain.hvm_params.write(HvmParam.STORE_EVTCHN, store_port)
    domain.hvm_params.write(HvmParam.CONSOLE_EVTCHN, console_port)
    context = build_pvh.context(domain.hvm_context.read(), domain.xen.interface, plan, guest.vcpus)
    domain.hvm_context.load(context)
    params = plan.params
    return Rings(params[HvmParam.STORE_PFN], store_port, params[HvmParam.CONSOLE_PFN], console_port)


def _give(domain: Domain, parts: Iterable[range], progress: Progress | None) -> None:
    """Give it the memory of all parts of its address space, which is claimed before."""
    total, done = sum(map(len, parts)), 0
    mapping = domain.memory
    left = f"some of the host's memory is claimed for domain {domain.domid}"
    claim = undoing.during(lambda: mapping.claim(total * PAGE_KB), lambda: mapping.claim(0), left)
    with claim if domain.xen.caller.supports(memory.CLAIM_PAGES) else nullcontext():
        for part in parts:
            for run, _ in guest_memory.populate(mapping, part):
                done += run.extents << run.order
                if progress:
                    progress(done, total)


def _lend(domain: Domain, rings: Rings) -> None:
    """Its rings, to dom0: where a grant table cannot be reached, those who serve them map the frames."""
    with suppress(errors.Unsupported):
        domain.grants.seed(console=rings.console_frame, store=rings.store_frame)
