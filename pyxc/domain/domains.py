# SPDX-License-Identifier: MIT
"""All domains of a host: finding, listing and creating them."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyxc import arguments, errors
from pyxc.abi import domctl, sysctl
from pyxc.abi.domctl import CreateFlag, EmulationFlag
from pyxc.abi.domid import DOMID_ANY, DOMID_FIRST_RESERVED
from pyxc.domain.info import INFO, MOST_VCPUS, DomainInfo
from pyxc.host.host import Host

if TYPE_CHECKING:  # the rest is imported when a domain is wanted: most programs list them
    import uuid as uuids

    from pyxc.domain.domain import Domain
    from pyxc.domain.lookup import Key
    from pyxc.guest.built import BuiltDomain
    from pyxc.guest.contents import Source
    from pyxc.guest.guest_memory import Progress
    from pyxc.guest.images import Kind
    from pyxc.host.cpu_policy import CpuPolicy
    from pyxc.host.pools import Pool

_ROOM = 8
_U32_MAX = 2**32 - 1
_DEFAULT_LIMITS = (1023, -1, -1)
_LAPIC_ALONE = (4, 8)
"""Since when an HVM domain may have a local APIC and nothing else emulated; 4.7 takes all devices or none."""
_DEFAULT_GRANTS = {"max_grant_frames": -1, "max_maptrack_frames": -1}
_FIELDS = frozenset(row.name for row in domctl.CREATEDOMAIN_STRUCT.rows if row.name)
_HAS_DEFAULT = frozenset((
    "max_vcpus", "max_evtchn_port", "max_grant_frames", "max_maptrack_frames", "grant_opts",
    "arch.emulation_flags",
))  # fmt: skip
"""Fields of createdomain that a release without them decides itself, or has another operation for."""
_IDS_APART = (4, 21)
"""Since when the id of a domain that is gone is free only a moment later."""
_IDS_PATIENCE_S, _IDS_POLL_S = 2.0, 0.005
_OLD_DEFAULT_GRANTS = {"max_grant_frames": 64, "max_maptrack_frames": 1024}


class Domains(Mapping[int, "Domain"]):
    """All domains: `xen.domains[3]`, `xen.domains["web1"]`, `xen.domains[UUID]`. Iterates over ids, in order.

    A text of digits is an id, too; and a Domain is found again, if it still is the same one.

    Threads: may be used by many.
    """

    def __init__(self, xen: Host) -> None:
        self.xen = xen
        self._room = _ROOM

    def infos(self, first: int = 0, most: int = DOMID_FIRST_RESERVED) -> list[DomainInfo]:
        """All domains at one moment, in order of their ids (sysctl getdomaininfolist, public/sysctl.h).

        Or at most so many of them, from an id on.
        """
        arguments.natural("most", most, DOMID_FIRST_RESERVED)
        first = arguments.domid(first)
        size = domctl.GETDOMAININFO_STRUCT.at(self.xen.interface).size
        while True:
            room = min(self._room, most)
            found = self.xen.caller.read_list(
                sysctl.GETDOMAININFOLIST, INFO, size, room,
                first_domain=first, max_domains=room,
            )  # fmt: skip
            if room == most:
                return found
            if len(found) < room:
                self._room = len(found) + len(found) // 8 + _ROOM
                return found
            self._room = room * 4

    def __getitem__(self, key: Key) -> Domain:
        """DomainNotFound, a KeyError, when there is none; Ambiguous when several living ones are meant.

        What is dying is found by its id, and by a name or UUID that nothing living has. StoreError when
        xenstore cannot be asked for a name; ValueError, TypeError for an invalid key.
        """
        from pyxc.domain.domain import Domain
        from pyxc.domain.lookup import lookup

        info = lookup(self.xen, key, self.infos)
        domain = Domain(self.xen, info.domid, info.uuid)
        domain.recognise()
        return domain

    def __iter__(self) -> Iterator[int]:
        return iter([info.domid for info in self.infos()])

    def __len__(self) -> int:
        return len(self.infos())

    def __repr__(self) -> str:
        return f"<Domains of {self.xen.link.target}>"

    def create(
        self,
        *,
        hvm: bool = False,
        hap: bool = False,
        iommu: bool = False,
        uuid: uuids.UUID | str | bytes | None = None,
        max_vcpus: int = 1,
        max_evtchn_port: int = _DEFAULT_LIMITS[0],
        max_grant_frames: int = _DEFAULT_LIMITS[1],
        max_maptrack_frames: int = _DEFAULT_LIMITS[2],
        ssidref: int | None = None,
        domid: int = DOMID_ANY,
    ) -> Domain:
        """A new domain with its vcpus, paused, without memory (domctl createdomain, max_vcpus).

        PV unless `hvm`; `hvm=True, hap=True` makes a PVH domain. `iommu` is for one that gets PCI devices:
        Unsupported before Xen 4.13, where every domain can get them. -1 takes the host's default. The UUID is
        random unless given. The hypervisor chooses the id unless `domid` names a free one (EEXIST where it is
        taken, EINVAL before Xen 4.14); since Xen 4.21 an id is lost if a creation with it is refused.
        `ssidref` is the number of its label (xen.flask.sid()), the one that guests have by default when None;
        a hypervisor without FLASK ignores it. Nothing stays behind when a step fails or is
        interrupted. Unsupported
        also: limits before Xen 4.12, `hap` before 3.3, and `hvm` before 3.1.
        """
        if hap and not hvm:
            raise ValueError("hap needs hvm: hardware-assisted paging is for HVM and PVH domains")
        handle = arguments.handle_or_new(uuid)
        xen = self.xen.interface.xen
        chosen = ((hvm, CreateFlag.HVM), (hap, CreateFlag.HAP), (iommu, CreateFlag.IOMMU))
        flags = sum(flag for wanted, flag in chosen if wanted)
        fields = {
            "ssidref": self._ssidref(ssidref),
            "handle": handle.bytes,
            "flags": flags,
            "max_vcpus": arguments.natural("max_vcpus", max_vcpus, MOST_VCPUS, 1),
            "max_evtchn_port": arguments.natural("max_evtchn_port", max_evtchn_port, _U32_MAX),
            "max_grant_frames": self._limit("max_grant_frames", max_grant_frames),
            "max_maptrack_frames": self._limit("max_maptrack_frames", max_maptrack_frames),
            "arch.emulation_flags": int(EmulationFlag.LAPIC) if hvm and xen >= _LAPIC_ALONE else 0,
        }
        limits = (max_evtchn_port, max_grant_frames, max_maptrack_frames)
        self._refuse_newer(hvm, hap, iommu, limits != _DEFAULT_LIMITS)
        wanted = domid if domid == DOMID_ANY else arguments.domid(domid)
        return self._create(handle, wanted, fields, max_vcpus)

    def build(
        self,
        kernel: Source,
        *,
        memory_kb: int,
        max_memory_kb: int | None = None,
        ramdisk: Source | None = None,
        command_line: str = "",
        kind: Kind | None = None,
        vcpus: int = 1,
        uuid: uuids.UUID | str | bytes | None = None,
        pool: Pool | int | None = None,
        cpus: Iterable[int] | None = None,
        nodes: Iterable[int] | None = None,
        cpu_policy: CpuPolicy | None = None,
        ssidref: int | None = None,
        iommu: bool = False,
        max_evtchn_port: int = 1023,
        max_grant_frames: int = -1,
        max_maptrack_frames: int = -1,
        paging_kb: int | None = None,
        progress: Progress | None = None,
    ) -> BuiltDomain:
        """A new guest with a kernel in its memory, paused before its first instruction.

        `kernel` and `ramdisk` are paths, or the bytes of the files: an ELF file or a bzImage, see
        pyxc.guest.images.Kernel. `kind` is "pvh" or "pv"; None takes PVH if the kernel's notes allow it.
        It may grow up to `max_memory_kb`: a PVH guest believes to have that and must give back what is more
        than `memory_kb` before it touches it, as Linux does by its balloon.
        `cpus` are those on which its vcpus may run, `nodes` those from which it gets memory;
        `cpu_policy` is what cpus show to it, None is what they show to its kind. For `ssidref`, `iommu` and
        the limits see create(). `paging_kb` is for Xen's own tables of a PVH guest, by
        default as much as xl gives. `progress` is called with the number of pages given, and of all pages.

        What the guest finds is known to Xen alone: nothing is written to xenstore. Nothing stays behind when
        a step fails or is interrupted. ValueError: this kernel cannot be such a guest, or not in so little
        memory; DecodeError: it is damaged. HypercallError ENOMEM: the host has not so much free memory.

        >>> web = xen.domains.build("/boot/vmlinuz", ramdisk="/boot/initrd.img", memory_kb=512 << 10)
        >>> web.kind, web.info().paused
        ('pvh', True)
        """
        from pyxc.guest import build  # what is needed to build is needed by few programs

        wanted = build.Wanted(
            kernel, memory_kb, max_memory_kb, ramdisk, command_line, kind, vcpus, uuid, pool, cpus, nodes,
            cpu_policy, ssidref, iommu, max_evtchn_port, max_grant_frames, max_maptrack_frames, paging_kb,
            progress,
        )  # fmt: skip
        making = build.Making(self.xen, self.create, self.just_made)
        return build.build(making, wanted)

    def _refuse_newer(self, hvm: bool, hap: bool, iommu: bool, limits: bool) -> None:
        """Unsupported for what this Xen cannot make a domain with."""
        newer = (
            (hvm, (3, 1), "createdomain can make HVM domains"),
            (hap, (3, 3), "createdomain can choose hap"),
            (limits, (4, 12), "createdomain takes limits"),
            (iommu, (4, 13), "createdomain can choose iommu"),
        )
        for wanted, since, what in newer:
            if wanted and self.xen.interface.xen < since:
                hint = f"{what} only since Xen {since[0]}.{since[1]}"
                raise errors.Unsupported(errno.ENOSYS, domctl.CREATEDOMAIN.full_name, hint=hint)

    def _ssidref(self, wanted: int | None) -> int:
        if wanted is None:
            from pyxc.abi import flask

            return flask.default_ssidref(self.xen.interface.xen)
        return arguments.natural("ssidref", wanted, _U32_MAX)

    def _limit(self, name: str, value: int) -> int:
        """A limit of grants; -1 is the host's default."""
        return self._default_limits[name] if value == -1 else arguments.natural(name, value, 2**31 - 1)

    @property
    def _default_limits(self) -> dict[str, int]:
        """Limits of grants that are the host's defaults: -1, which has to be spelled out before Xen 4.14."""
        return _DEFAULT_GRANTS if self.xen.interface.xen >= (4, 14) else _OLD_DEFAULT_GRANTS

    def _create(self, handle: uuids.UUID, wanted: int, fields: dict[str, Any], max_vcpus: int) -> Domain:
        from pyxc import undoing
        from pyxc.domain.domain import Domain

        if self.xen.caller.has_field(domctl.CREATEDOMAIN, "grant_opts"):
            fields["grant_opts"] = self.xen.grant_version
        with undoing.made(
            lambda: self.create_bare(wanted, **fields),
            self._destroy,
            lambda: self.just_made(handle),
            f"a domain with the UUID {handle} is left behind",
        ) as domid:
            domain = Domain(self.xen, domid, handle)
            domain.set_max_vcpus(max_vcpus)
        return domain

    def _destroy(self, domid: int) -> None:
        with suppress(errors.DomainNotFound):
            self.xen.call(domctl.DESTROYDOMAIN, domid)

    def just_made(self, handle: uuids.UUID) -> list[int]:
        """A domain of which nothing is known but its UUID, which others may have: it is still empty."""
        return [
            info.domid
            for info in self.infos()
            if info.uuid == handle and info.paused and not info.dying and not info.tot_pages
        ]

    def create_bare(self, domid: int = DOMID_ANY, /, **fields: Any) -> int:
        """A new domain as the fields of createdomain say, and nothing more: it has no vcpus; answers its id.

        For toolstacks that take the other steps themselves. Limits of grants that are not given are the
        host's defaults. TypeError for a field that no release has; of those that this interface does not have
        0 is left out, as are limits and `arch.emulation_flags`, for which each release has its own; any other
        is Unsupported. An id that no domain has any more, but that Xen has not freed yet, is waited for, 2
        seconds at most.
        """
        known = self._known({**self._default_limits, **fields})
        deadline = time.monotonic() + _IDS_PATIENCE_S
        while True:
            try:
                return int(self.xen.call(domctl.CREATEDOMAIN, domid, **known).field("domid"))
            except errors.HypercallError as error:
                taken = error.errno == errno.EEXIST and time.monotonic() < deadline
                if not (taken and self._may_be_freed(domid)):
                    raise
            time.sleep(_IDS_POLL_S)

    def _known(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields that this interface has. Unsupported: one that it has not would change the domain."""
        operation = domctl.CREATEDOMAIN
        layout = operation.at(self.xen.interface)
        unknown = {name: value for name, value in fields.items() if name not in layout.index}
        for name, value in unknown.items():
            if name not in _FIELDS:
                raise TypeError(f"{operation.full_name} has no field {name!r}")
            if value and name not in _HAS_DEFAULT:
                hint = f"this Xen's createdomain has no field {name!r}"
                raise errors.Unsupported(errno.ENOSYS, operation.full_name, hint=hint)
        return {name: value for name, value in fields.items() if name in layout.index}

    def _may_be_freed(self, domid: int) -> bool:
        """Whether an id that is not free belongs to no domain: its last one may just be gone."""
        return self.xen.interface.xen >= _IDS_APART and domid < DOMID_FIRST_RESERVED and domid not in self
