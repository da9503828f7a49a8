# SPDX-License-Identifier: MIT
"""Restoring a guest: from the stream of a saved guest to a domain that continues where it stopped."""

from __future__ import annotations

import errno
import uuid as uuids
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

from pyxc import arguments, errors, undoing
from pyxc.abi import memory
from pyxc.abi.cpu_policy import Policy
from pyxc.abi.page import PAGE_KB
from pyxc.domain import naming
from pyxc.domain.domain import Domain
from pyxc.domain.domains import Domains
from pyxc.domain.info import MOST_VCPUS
from pyxc.domain.memory import default_paging_kb
from pyxc.domain.tsc import TscInfo
from pyxc.files.compressed import CompressedFile, Opened
from pyxc.guest import nodes, saved_devices, settings, stream
from pyxc.guest.built import BuiltDomain, Making
from pyxc.guest.incoming import Fill, IncomingStream
from pyxc.guest.restore_pages import Read
from pyxc.guest.saved_devices import SavedDevices
from pyxc.guest.settings import Settings
from pyxc.guest.stream import DomainKind, Event, PageData, Pages
from pyxc.guest.stream import pages as page_lists
from pyxc.host.cpu_policy import CpuPolicy, lacking
from pyxc.host.host import Host

if TYPE_CHECKING:  # imported for the kind of guest that is restored, and for a pool that is given
    from pyxc.guest.images import Kind
    from pyxc.guest.restore_hvm import HvmGuest
    from pyxc.guest.restore_pv import PvGuest
    from pyxc.host.pools import Pool

_MOST_FEATURES = {DomainKind.PV: Policy.PV_MAX, DomainKind.HVM: Policy.HVM_MAX}
_WRITTEN_AT_ONCE = 1 << 10
"""Pages that are mapped while their contents are read, 4 MiB."""
_SLACK_KB = 1024
"""What a domain may own beyond its memory: libxl's value."""
Progress = Callable[[int, int], object]
"""Called with the number of pages restored, and the number that the guest has, if that is known."""


class Wanted(NamedTuple):
    """How a guest is to be restored, as Xen.restore() takes it."""

    name: str | None
    uuid: uuids.UUID | str | bytes | None
    vcpus: int | None
    memory_kb: int | None
    pool: Pool | int | None
    ssidref: int | None
    paging_kb: int | None
    paused: bool
    progress: Progress | None
    twin: bool = False
    """Whether another domain may have the same UUID, as when a guest moves within one host."""
    suffix: str = ""
    """The temporary end of its name."""
    devices: bool = True
    """Whether it gets its disks and network interfaces again."""


class Head(NamedTuple):
    """The start of a stream, read before any change: `next` is the first event after it. `bits` is the width
    of a PV guest."""

    kind: DomainKind
    bits: int
    settings: Settings
    policy: CpuPolicy
    next: Event


class _Plan(NamedTuple):
    """A domain before it is created."""

    name: str | None
    uuid: uuids.UUID
    vcpus: int
    online_vcpus: int
    memory_kb: int
    claimed_kb: int
    paging_kb: int
    devices: SavedDevices


def restore(making: Making, source: Opened, wanted: Wanted) -> BuiltDomain:
    """See Xen.restore()."""
    making.xen.check_writable("restoring a guest")
    with CompressedFile(source) as file:
        return _restored(making, IncomingStream(file.readinto, stream.Reader()), wanted)


def receive(making: Making, fill: Fill, reader: stream.Reader, wanted: Wanted) -> BuiltDomain:
    """Restore a guest from its stream as it comes. Bytes after its end remain in `reader`."""
    return _restored(making, IncomingStream(fill, reader), wanted)


def _restored(making: Making, incoming: IncomingStream, wanted: Wanted) -> BuiltDomain:
    events = iter(incoming)
    head = read_head(events)
    check_cpus(making.xen, head)
    return made(making, head, events, wanted, incoming.read_contents)


def made(
    making: Making, head: Head, incoming: Iterator[Event], wanted: Wanted, read: Read | None = None
) -> BuiltDomain:
    """Restore a guest from the events after the head of its stream; `read` reads contents of pages, unless
    they are among the events."""
    xen = making.xen
    plan = _planned(xen, head, wanted)
    with undoing.made(
        lambda: _create(making, head, plan, wanted),
        _destroy,
        lambda: [Domain(xen, domid, plan.uuid) for domid in making.just_made(plan.uuid)],
        f"a domain with the UUID {plan.uuid} is left",
    ) as domain:
        _prepare(domain, plan, wanted)
        if plan.name:  # now: a guest that moves waits for what is left to do at the end
            kind: Kind = "pv" if head.kind is DomainKind.PV else "pvh"
            nodes.prepare(domain, kind, _facts(plan, plan.name))
            _attach(domain, plan.devices)
        guest = _guest(domain, head, plan)  # first: the width of a PV guest limits what its cpus show
        if head.policy.leaves:
            _show_cpus(domain, head.policy)
        taking = _Restoring(domain, plan, guest, read, wanted.progress)
        with _claimed(domain, plan):
            taking.take(head.next)
            for event in incoming:
                taking.take(event)
        rings = guest.finish()
        with suppress(errors.Unsupported):
            domain.grants.seed(console=rings.console_frame, store=rings.store_frame)
        built = BuiltDomain(xen, domain.domid, domain.uuid, guest.kind, rings)
        if plan.name:
            nodes.complete(built)
            built._name = plan.name
        if not wanted.paused:
            built.unpause()
        return built


def _facts(plan: _Plan, name: str) -> nodes.Facts:
    return nodes.Facts(name, plan.claimed_kb, plan.memory_kb, plan.online_vcpus, plan.vcpus)


def read_head(incoming: Iterator[Event]) -> Head:
    """The start of a stream. DecodeError if the stream ends before the guest's memory."""
    found: Settings = Settings()
    kind, bits, policy = DomainKind.HVM, 64, CpuPolicy((), ())
    for event in incoming:
        if isinstance(event, stream.XlHeader):
            found = settings.decode(event.settings())
        elif isinstance(event, stream.DomainHeader):
            kind = event.kind
        elif isinstance(event, stream.PvInfo):
            bits = 8 * event.guest_width
        elif isinstance(event, stream.CpuidPolicy):
            policy = policy._replace(leaves=event.leaves)
        elif isinstance(event, stream.MsrPolicy):
            policy = policy._replace(msrs=event.msrs)
        elif isinstance(event, stream.StaticDataEnd | PageData | stream.PvP2mFrames | TscInfo):
            return Head(kind, bits, found, policy, event)
    raise errors.DecodeError("the stream ends before the guest's memory")


def _planned(xen: Host, head: Head, wanted: Wanted) -> _Plan:
    """ValueError if neither the stream nor the caller describes the domain."""
    hint = ""
    if xen.interface.arch != "x86_64" or xen.interface.xen < (4, 10):
        hint = "guests are restored on x86, since Xen 4.10"
    elif head.settings.kind == "hvm":
        hint = "it needs a device model"
    if hint:
        raise errors.Unsupported(errno.EOPNOTSUPP, "restoring a guest", hint=hint)
    vcpus = head.settings.vcpus if wanted.vcpus is None else wanted.vcpus
    memory_kb = head.settings.memory_kb if wanted.memory_kb is None else wanted.memory_kb
    if vcpus is None or memory_kb is None:
        raise ValueError("the stream does not have the size of the guest: vcpus and memory_kb are required")
    arguments.natural("vcpus", vcpus, MOST_VCPUS, 1)
    arguments.natural("memory_kb", memory_kb, 1 << 40, PAGE_KB)
    name = head.settings.name if wanted.name is None else naming.check(wanted.name)
    handle = head.settings.uuid if wanted.uuid is None else arguments.handle(wanted.uuid)
    living = {info.domid: info.uuid for info in Domains(xen).infos() if not info.dying}
    if not wanted.twin and handle in living.values():
        raise ValueError(f"there is a domain with the UUID {handle}: give the new one another `uuid`")
    if name:
        name += wanted.suffix
        naming.check_free(xen, xen.store, name)
    devices = head.settings.devices if wanted.devices else SavedDevices()
    _check_devices(devices, name)
    if devices.disks:  # another domain with this UUID is the guest itself, which moves within this host
        others = [domid for domid, uuid in living.items() if uuid != handle]
        saved_devices.check_unused(xen.store, devices.disks, others)
    return _Plan(
        name,
        handle or uuids.uuid4(),
        vcpus,
        min(vcpus, (head.settings.online_vcpus if wanted.vcpus is None else None) or vcpus),
        memory_kb,
        min(memory_kb, head.settings.target_kb or memory_kb),
        default_paging_kb(vcpus, memory_kb) if wanted.paging_kb is None else wanted.paging_kb,
        devices,
    )


def _check_devices(devices: SavedDevices, name: str | None) -> None:
    """Unsupported for those that cannot be attached."""
    others = [*devices.others]
    if not name and (devices.disks or devices.vifs):
        others.append(
            "disks or network interfaces, and no name, without which they have no place in xenstore"
        )
    if others:
        hint = (
            f"it has what pyxc cannot attach: {'; '.join(others)}; --no-devices (devices=False) restores it "
            "without its devices"
        )
        raise errors.Unsupported(errno.EOPNOTSUPP, "restoring a guest", hint=hint)


def _attach(domain: Domain, found: SavedDevices) -> None:
    """Early: its drivers connect to them when it runs, and the back ends take a while to be ready."""
    if found.disks or found.vifs:
        from pyxc.guest.devices import Devices

        devices = Devices(domain)
        try:
            for disk in found.disks:
                devices.attach_disk(disk)
            for vif in found.vifs:
                devices.attach_vif(vif)
        except OSError as error:
            error.add_note("the guest has this device; --no-devices (devices=False) restores it without")
            raise


def _guest(domain: Domain, head: Head, plan: _Plan) -> HvmGuest | PvGuest:
    if head.kind is DomainKind.PV:
        from pyxc.guest.restore_pv import PvGuest

        return PvGuest(domain, head.bits, plan.memory_kb, plan.claimed_kb)
    from pyxc.guest.restore_hvm import HvmGuest

    guest = HvmGuest(domain, plan.claimed_kb // PAGE_KB)
    guest.prepare(plan.paging_kb)
    return guest


def _create(making: Making, head: Head, plan: _Plan, wanted: Wanted) -> Domain:
    hvm = head.kind is not DomainKind.PV
    return making.create(hvm=hvm, hap=hvm, uuid=plan.uuid, max_vcpus=plan.vcpus, ssidref=wanted.ssidref)


def _destroy(domain: Domain) -> None:
    with suppress(errors.DomainNotFound, errors.DomainGone):
        domain.destroy()


def _prepare(domain: Domain, plan: _Plan, wanted: Wanted) -> None:
    """Configure a domain before it gets memory."""
    if wanted.pool is not None:
        from pyxc.host.pools import Pool

        pool = wanted.pool if isinstance(wanted.pool, Pool) else Pool(domain.xen, wanted.pool)
        pool.add_domain(domain)
    domain.set_max_memory(plan.memory_kb + _SLACK_KB)


def check_cpus(xen: Host, head: Head) -> None:
    """Unsupported if the guest may use what the processors here lack: Xen itself hides it without a word."""
    try:
        missing = lacking(xen, head.policy, _MOST_FEATURES[head.kind])
    except (errors.Unsupported, errors.PermissionDenied):  # an older Xen, or one whose policy forbids to ask
        return
    if missing:
        hint = f"the guest has seen cpu features that this host lacks: {', '.join(missing)}"
        raise errors.Unsupported(errno.EOPNOTSUPP, "restoring a guest", hint=hint)


def _show_cpus(domain: Domain, policy: CpuPolicy) -> None:
    """The guest sees the cpus that it saw before. A Xen whose cpu policy cannot be set shows its own."""
    try:
        domain.set_cpu_policy(policy)
    except errors.Unsupported:
        return
    except errors.HypercallError as error:
        if error.errno == errno.EINVAL:
            error.add_note("the guest was saved on cpus that have what those of this host cannot show")
        raise


def _claimed(domain: Domain, plan: _Plan) -> AbstractContextManager[None]:
    """Reserve its memory, so that a lack of memory is an error before any change."""
    if not domain.xen.caller.supports(memory.CLAIM_PAGES):
        return nullcontext()
    mapping = domain.memory
    left = f"some of the host's memory is claimed for domain {domain.domid}"
    return undoing.during(lambda: mapping.claim(plan.claimed_kb), lambda: mapping.claim(0), left)


class _Restoring:
    """A guest that is restored event by event. Threads: one at a time."""

    def __init__(
        self,
        domain: Domain,
        plan: _Plan,
        guest: HvmGuest | PvGuest,
        read: Read | None,
        progress: Progress | None,
    ) -> None:
        self._domain = domain
        self._guest = guest
        self._read = read
        self._total = plan.claimed_kb // PAGE_KB
        self._progress = progress
        self._done = 0

    def take(self, event: Event) -> None:
        if isinstance(event, PageData):
            self._guest.memory.give(event)
            if self._read is not None and event.nr_data():
                self._write(page_lists.with_data(event), self._read)
        elif isinstance(event, Pages):
            self._guest.memory.write(PageData(event.pfns, event.types), _copied(event.data))
            self._tell(len(event.pfns))
        elif isinstance(event, TscInfo):
            self._domain.set_tsc(
                event.mode, event.khz, incarnation=event.incarnation, elapsed_ns=event.elapsed_ns
            )
        elif isinstance(event, stream.EmulatorXenstoreData | stream.EmulatorContext):
            raise errors.Unsupported(errno.EOPNOTSUPP, "restoring a guest", hint="it needs a device model")
        elif isinstance(event, stream.Checkpoint):
            hint = "streams with checkpoints (Remus) are not restored"
            raise errors.Unsupported(errno.EOPNOTSUPP, "restoring a guest", hint=hint)
        else:
            self._guest.take(event)

    def _write(self, pages: PageData, read: Read) -> None:
        for start in range(0, len(pages.pfns), _WRITTEN_AT_ONCE):
            part = slice(start, start + _WRITTEN_AT_ONCE)
            written = PageData(pages.pfns[part], pages.types[part])
            self._guest.memory.write(written, read)
            self._tell(len(written.pfns))

    def _tell(self, pages: int) -> None:
        self._done += pages
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))


def _copied(data: memoryview) -> Read:
    def copy(into: memoryview) -> None:
        into[:] = data

    return copy
