# SPDX-License-Identifier: MIT
"""Building a domain: from a kernel to a guest paused before its first instruction."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

from pyxc import answers, arguments, errors, undoing
from pyxc._core import PAGE_SIZE, extent_words
from pyxc.abi import domctl, memory
from pyxc.abi.hvm import HvmParam
from pyxc.abi.memory import MemFlag
from pyxc.abi.page import PAGE_KB
from pyxc.domain.domain import Domain
from pyxc.domain.info import MOST_VCPUS
from pyxc.domain.memory import E820Entry, default_paging_kb
from pyxc.guest import guest_memory
from pyxc.guest.built import BuiltDomain, Making, Rings
from pyxc.guest.contents import Contents, Source
from pyxc.guest.guest_memory import Progress
from pyxc.guest.images import Kernel, Kind
from pyxc.guest.placing import ORDERS, Piece
from pyxc.host.host import Host

if TYPE_CHECKING:  # imported for the kind of guest that is built, and for settings that are given
    import uuid as uuids

    from pyxc.domain.vnuma import Vnuma
    from pyxc.guest.build_pv import PvPlan
    from pyxc.guest.build_pvh import PvhPlan
    from pyxc.host.cpu_policy import CpuPolicy
    from pyxc.host.pools import Pool

_SLACK_KB = 1024
"""What a domain may own beyond its memory: pages that it shares with its servers, and tables."""
_MEMORY_MOST_KB = 1 << 40
_SINCE: dict[Kind, tuple[int, int]] = {"pvh": (4, 10), "pv": (4, 10)}
_ADDRESS_SPACE = range(1 << 52)
_ADDRESS_BITS = 32


class Wanted(NamedTuple):
    """What is to be built, as Domains.build() takes it."""

    kernel: Source
    memory_kb: int
    max_memory_kb: int | None
    ramdisk: Source | None
    command_line: str
    kind: Kind | None
    vcpus: int
    uuid: uuids.UUID | str | bytes | None
    pool: Pool | int | None
    cpus: Iterable[int] | None
    nodes: Iterable[int] | None
    cpu_policy: CpuPolicy | None
    ssidref: int | None
    iommu: bool
    max_evtchn_port: int
    max_grant_frames: int
    max_maptrack_frames: int
    paging_kb: int | None
    vnuma: Vnuma | None
    progress: Progress | None


class _Guest(NamedTuple):
    """The files of a guest, read and decoded."""

    kernel: Kernel
    kind: Kind
    ramdisk: Contents
    command_line: bytes
    pages: int
    max_pages: int
    vcpus: int


class Ports(NamedTuple):
    """The unbound ports of a guest for xenstored and for its console."""

    store: int
    console: int


def build(making: Making, wanted: Wanted) -> BuiltDomain:
    """See Domains.build()."""
    xen = making.xen
    xen.check_writable("building a domain")
    wanted = _checked(xen, wanted)
    with _understood(wanted) as guest:
        _refuse_older(xen, guest.kind)
        return _made(making, wanted, guest, _planned(xen, wanted, guest))


def _made(making: Making, wanted: Wanted, guest: _Guest, fill: Callable[[Domain], Rings]) -> BuiltDomain:
    xen, handle = making.xen, arguments.handle_or_new(wanted.uuid)
    with undoing.made(
        lambda: _create(making, wanted, guest, handle),
        _destroy,
        lambda: [Domain(xen, domid, handle) for domid in making.just_made(handle)],
        f"a domain with the UUID {handle} is left",
    ) as domain:
        _place(domain, wanted, guest)
        rings = fill(domain)
        _lend(domain, rings)
        return BuiltDomain(xen, domain.domid, domain.uuid, guest.kind, rings)


def _planned(xen: Host, wanted: Wanted, guest: _Guest) -> Callable[[Domain], Rings]:
    """Plan the guest; returns what fills a new domain according to the plan."""
    kernel, files = guest.kernel, (guest.command_line, guest.ramdisk)
    if guest.kind == "pvh":
        from pyxc.guest import build_pvh

        pvh = build_pvh.plan(xen.interface, kernel, guest.max_pages, *files, guest.vcpus)
        return lambda domain: _build_pvh(domain, guest, pvh, wanted)
    from pyxc.guest import build_pv

    pv = build_pv.plan(kernel, guest.pages, *files)
    return lambda domain: _build_pv(
        domain, pv, _ports(domain), guest.max_pages, wanted.vnuma, wanted.progress
    )


def _checked(xen: Host, wanted: Wanted) -> Wanted:
    """Check the settings for the host and for Xen's own tables, before any change."""
    if wanted.paging_kb is not None:
        arguments.natural("paging_kb", wanted.paging_kb, _MEMORY_MOST_KB)
        if wanted.paging_kb % PAGE_KB:
            raise ValueError(f"paging_kb is {wanted.paging_kb}: it must be a multiple of {PAGE_KB}")
    if wanted.vnuma is not None:
        _check_vnuma(wanted, wanted.vnuma)
    cpus = None if wanted.cpus is None else arguments.cpus("cpus", wanted.cpus, xen.nr_cpus)
    if cpus is not None and not cpus:
        raise ValueError("cpus names no cpu")
    nodes = None if wanted.nodes is None else arguments.nodes(wanted.nodes, answers.MOST_NODES)
    return wanted._replace(cpus=cpus, nodes=nodes)


def _check_vnuma(wanted: Wanted, topology: Vnuma) -> None:
    from pyxc.domain import vnuma

    vnuma.checked(topology)
    if len(topology.vcpu_nodes) != wanted.vcpus:
        raise ValueError(f"vnuma has {len(topology.vcpu_nodes)} vcpus, the guest has {wanted.vcpus}")
    if wanted.max_memory_kb not in (None, wanted.memory_kb):
        raise ValueError("vnuma needs all memory from the start: max_memory_kb must be memory_kb")


@contextmanager
def _understood(wanted: Wanted) -> Iterator[_Guest]:
    """Check everything that can be checked before any change."""
    memory_kb = arguments.natural("memory_kb", wanted.memory_kb, _MEMORY_MOST_KB, PAGE_KB)
    vcpus = arguments.natural("vcpus", wanted.vcpus, MOST_VCPUS, 1)
    most = memory_kb * 1024
    with Contents("kernel", wanted.kernel, most) as image:
        kernel = Kernel.decode(bytes(image[:]), most)
    command_line = os.fsencode(wanted.command_line)
    pages, max_pages = memory_kb // PAGE_KB, memory_kb // PAGE_KB
    if wanted.max_memory_kb is not None:
        max_memory_kb = arguments.natural("max_memory_kb", wanted.max_memory_kb, _MEMORY_MOST_KB, memory_kb)
        max_pages = max_memory_kb // PAGE_KB
    kind = kernel.kind(wanted.kind)
    with Contents("ramdisk", b"" if wanted.ramdisk is None else wanted.ramdisk, most) as ramdisk:
        yield _Guest(kernel, kind, ramdisk, command_line, pages, max_pages, vcpus)


def _refuse_older(xen: Host, kind: Kind) -> None:
    """Unsupported if this Xen cannot start such guests."""
    since = _SINCE[kind]
    if xen.interface.arch != "x86_64" or xen.interface.xen < since:
        hint = f"{kind.upper()} guests are built on x86, since Xen {since[0]}.{since[1]}"
        raise errors.Unsupported(errno.ENOSYS, "building a domain", hint=hint)


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
    """Set where it runs, which cpu features it sees, and how much memory it may own."""
    if wanted.pool is not None:
        from pyxc.host.pools import Pool

        pool = wanted.pool if isinstance(wanted.pool, Pool) else Pool(domain.xen, wanted.pool)
        pool.add_domain(domain)
    if wanted.cpus is not None:
        for vcpu in domain.vcpus:
            vcpu.set_affinity(hard=wanted.cpus)
    if wanted.nodes is not None:
        domain.set_node_affinity(wanted.nodes)
    if wanted.cpu_policy is not None:
        domain.set_cpu_policy(wanted.cpu_policy)
    if wanted.vnuma is not None:
        domain.set_vnuma(wanted.vnuma)
    domain.set_max_memory(guest.max_pages * PAGE_KB + _SLACK_KB)


def _build_pvh(domain: Domain, guest: _Guest, plan: PvhPlan, wanted: Wanted) -> Rings:
    from pyxc.guest import build_pvh

    paging_kb = default_paging_kb(guest.vcpus, guest.max_pages * PAGE_KB)
    domain.memory.set_paging_pool(paging_kb if wanted.paging_kb is None else wanted.paging_kb)
    if guest.max_pages > guest.pages:
        domain.memory.set_pod_target(guest.pages * PAGE_KB)
        _give(domain, [(part, MemFlag.POPULATE_ON_DEMAND) for part in plan.ram], wanted.progress)
        _give(domain, [(part, 0) for part in plan.other], None)
    else:
        parts = [*guest_memory.by_node(plan.ram, wanted.vnuma), *((part, 0) for part in plan.other)]
        with _claimed(domain, sum(len(part) for part, _ in parts)):
            _give(domain, parts, wanted.progress)
    domain.memory.set_e820(plan.e820)
    guest_memory.write(domain.memory, plan.pieces, _ADDRESS_SPACE)
    for param, value in plan.params.items():
        domain.hvm_params.write(param, value)
    ports = _ports(domain)
    domain.hvm_params.write(HvmParam.STORE_EVTCHN, ports.store)
    domain.hvm_params.write(HvmParam.CONSOLE_EVTCHN, ports.console)
    context = build_pvh.context(domain.hvm_context.read(), domain.xen.interface, plan, guest.vcpus)
    domain.hvm_context.load(context)
    params = plan.params
    return Rings(params[HvmParam.STORE_PFN], ports.store, params[HvmParam.CONSOLE_PFN], ports.console)


def _ports(domain: Domain) -> Ports:
    return Ports(domain.channels.open(), domain.channels.open())


def fill_pv(
    domain: Domain, kernel: Source, memory_kb: int, ramdisk: Source, command_line: str, ports: Ports
) -> tuple[Kernel, Rings]:
    """Fill an empty PV domain that another program created; what it leaves after an error is that program's.

    Errors as in Domains.build().
    """
    from pyxc.guest import build_pv

    most = memory_kb * 1024
    with Contents("kernel", kernel, most) as image:
        decoded = Kernel.decode(bytes(image[:]), most)
    decoded.kind("pv")
    with Contents("ramdisk", ramdisk, most) as content:
        plan = build_pv.plan(decoded, memory_kb // PAGE_KB, os.fsencode(command_line), content)
        return decoded, _build_pv(domain, plan, ports, plan.pages, domain.vnuma())


def _build_pv(
    domain: Domain,
    plan: PvPlan,
    ports: Ports,
    max_pages: int,
    vnuma: Vnuma | None,
    progress: Progress | None = None,
) -> Rings:
    from pyxc.abi import mmuext
    from pyxc.guest import build_pv

    interface = domain.xen.interface
    if plan.bits != 64:
        domain.set_guest_bits(plan.bits)
    domain.memory.set_e820([E820Entry(0, max_pages * PAGE_SIZE)])
    frames = _give_pv(domain, plan, vnuma, progress)
    rings = Rings(frames[plan.store], ports.store, frames[plan.console], ports.console)
    info = domain.info()
    own = [build_pv.p2m(plan, frames), build_pv.start_info(interface, plan, rings, info.shared_info_frame)]
    empty = [Piece(pfn * PAGE_SIZE, b"", PAGE_SIZE) for pfn in (plan.store, plan.console)]
    guest_memory.write(domain.memory, [*plan.pieces, *own, *empty], frames)
    guest_memory.write(domain.memory, build_pv.tables(plan, frames), frames)
    if plan.hypercall_page is not None:
        domain.change(domctl.HYPERCALL_INIT, gmfn=frames[plan.hypercall_page])
    pin = mmuext.PIN_L4_TABLE if plan.bits == 64 else mmuext.PIN_L3_TABLE
    entry = mmuext.MMUEXT_STRUCT.at(interface).pack({"cmd": pin.command, "arg1": frames[plan.root]})
    domain.change(pin, ops=entry, count=1)
    domain.memory.write(info.shared_info_frame, build_pv.shared_info())
    domain.vcpu(0).set_context(build_pv.registers(interface, plan, frames[plan.root]))
    return rings


def _give(domain: Domain, parts: Sequence[tuple[range, int]], progress: Progress | None) -> None:
    """Allocate memory for all parts of its address space, each with its mem_flags."""
    total, done = sum(len(part) for part, _ in parts), 0
    for part, flags in parts:
        for run, _ in guest_memory.populate(domain.memory, part, ORDERS, flags):
            done += run.extents << run.order
            if progress:
                progress(done, total)


def _give_pv(domain: Domain, plan: PvPlan, vnuma: Vnuma | None, progress: Progress | None) -> array[int]:
    """Allocate its memory; returns the machine frames in the order of its pfns.

    With page tables of three levels, the top one must be below 4 GiB.
    """
    parts = list(guest_memory.by_node([range(plan.pages)], vnuma))
    if plan.bits == 32:
        root = range(plan.root, plan.root + 1)
        around = [range(root.start), range(root.stop, plan.pages)]
        parts = sorted(
            [*guest_memory.by_node(around, vnuma), (root, _ADDRESS_BITS)], key=lambda part: part[0].start
        )
    frames = array("Q")
    with _claimed(domain, plan.pages):
        for part, flags in parts:
            for run, given in guest_memory.populate(domain.memory, part, ORDERS[1:], flags):
                frames.frombytes(extent_words(given, run.order))
                if progress:
                    progress(len(frames), plan.pages)
    return frames


def _claimed(domain: Domain, pages: int) -> AbstractContextManager[None]:
    """Claim memory of the host while it is allocated, so that a lack of memory is an error at once."""
    if not domain.xen.caller.supports(memory.CLAIM_PAGES):
        return nullcontext()
    mapping, left = domain.memory, f"some of the host's memory is claimed for domain {domain.domid}"
    return undoing.during(lambda: mapping.claim(pages * PAGE_KB), lambda: mapping.claim(0), left)


def _lend(domain: Domain, rings: Rings) -> None:
    """Grant its rings to dom0. Without access to its grant table, the servers map the frames instead."""
    with suppress(errors.Unsupported):
        domain.grants.seed(console=rings.console_frame, store=rings.store_frame)
