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
from pyxc.abi.domid import DOMID_ANY, DOMID_FIRST_RESERVED
from pyxc.domain.info import INFO, MOST_VCPUS, DomainInfo
from pyxc.host.host import Host

if TYPE_CHECKING:  # the rest is imported when a domain is wanted: most programs list them
    import uuid as uuids

    from pyxc.domain.domain import Domain
    from pyxc.domain.lookup import Key
    from pyxc.domain.vnuma import Vnuma
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
"""The first release that can emulate only a local APIC; 4.7 has all emulated devices or none."""
_DEFAULT_GRANTS = {"max_grant_frames": -1, "max_maptrack_frames": -1}
_FIELDS = frozenset(row.name for row in domctl.CREATEDOMAIN_STRUCT.rows if row.name)
_HAS_DEFAULT = frozenset((
    "max_vcpus", "max_evtchn_port", "max_grant_frames", "max_maptrack_frames", "grant_opts",
    "arch.emulation_flags",
))  # fmt: skip
"""Fields of createdomain that older releases decide themselves, or have another operation for."""
_IDS_APART = (4, 21)
"""The first release in which the id of a domain that has gone becomes free only a moment later."""
_IDS_PATIENCE_S, _IDS_POLL_S = 2.0, 0.005
_OLD_DEFAULT_GRANTS = {"max_grant_frames": 64, "max_maptrack_frames": 1024}


class Domains(Mapping[int, "Domain"]):
    """All domains: `xen.domains[3]`, `xen.domains["web1"]`, `xen.domains[UUID]`. Iterates over ids, in order.

    A string of digits is an id, too; and a Domain finds itself, if it is still the same one. Threads: safe to
    share.

    Example:

    >>> xen.domains["web1"] == xen.domains[1]
    True
    >>> list(xen.domains), 99 in xen.domains
    ([0, 1, 2, 3], False)
    """

    def __init__(self, xen: Host) -> None:
        self.xen = xen
        self._room = _ROOM

    def infos(self, first: int = 0, most: int = DOMID_FIRST_RESERVED) -> list[DomainInfo]:
        """All domains at one moment, in order of their ids (sysctl getdomaininfolist, public/sysctl.h).

        Or at most `most` of them, starting with the id `first`.

        Example:

        >>> [(info.domid, info.memory_kb) for info in xen.domains.infos(first=1)]
        [(1, 65536), (2, 131104), (3, 32768)]
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
        """DomainNotFound, a KeyError, if there is none; Ambiguous if several living domains match.

        A dying domain is found by its id, and by a name or UUID that no living domain has. StoreError if
        a name cannot be looked up; ValueError, TypeError for an invalid key.
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

    def _ipython_key_completions_(self) -> list[str]:
        """What IPython offers behind `xen.domains[`."""
        return [name for _, name in self._named() if name]

    def _repr_html_(self) -> str:
        from pyxc.call import notebook

        rows = (
            (info.domid, name, info.memory_kb >> 10, info.nr_online_vcpus, f"{info.cpu_time_ns / 1e9:.1f}")
            for info, name in self._named()
        )
        return notebook.table(("ID", "name", "MiB", "vcpus", "cpu s"), rows)

    def _named(self) -> Iterator[tuple[DomainInfo, str | None]]:
        """All domains with their names, as they are displayed."""
        from pyxc.store.names import readable

        infos = self.infos()
        names = self.xen.names.domain_names((info.domid, info.uuid) for info in infos)
        return zip(infos, map(readable, names))

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

        PV unless `hvm`; `hvm=True, hap=True` makes a PVH domain. `iommu` is for a domain that gets PCI
        devices: Unsupported before Xen 4.13, where every domain can get them. A limit of -1 is the host's
        default. The UUID is random by default. The hypervisor chooses the id unless `domid` names a free one
        (EEXIST if it is in use, EINVAL before Xen 4.14); since Xen 4.21 an id becomes unusable if a creation
        with it is refused. `ssidref` is the number of its label (xen.flask.sid()), by default that of guests;
        a hypervisor without FLASK ignores it. If a step fails or is interrupted, nothing remains. Also
        Unsupported: limits before Xen 4.12, `hap` before 3.3, and `hvm` before 3.1.

        Example:

        >>> pvh = xen.domains.create(hvm=True, hap=True, max_vcpus=2)
        >>> pvh.info().paused, pvh.info().nr_vcpus, pvh.info().memory_kb
        (True, 2, 0)
        """
        from pyxc.abi.domctl_create import CreateFlag, EmulationFlag

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
        vnuma: Vnuma | None = None,
        progress: Progress | None = None,
    ) -> BuiltDomain:
        """A new guest with a kernel in its memory, paused before its first instruction.

        `kernel` and `ramdisk` are paths, or the bytes of the files: an ELF file or a bzImage, see
        pyxc.guest.images.Kernel. `kind` is "pvh" or "pv"; None takes PVH if the kernel's notes allow it. The
        guest may grow up to `max_memory_kb`: a PVH guest sees that much memory, and must give back the part
        above `memory_kb` before it uses it, as Linux's balloon driver does. `cpus` are those on which its
        vcpus may run, `nodes` those from which it gets memory; `cpu_policy` None is the default of its kind.
        For `ssidref`, `iommu` and the limits see create(). `paging_kb` is for Xen's own tables of a PVH
        guest, by default as much as with xl. `vnuma` is its virtual NUMA topology, whose memory comes from
        the physical nodes, and from no others. `progress` is called with the number of pages that the domain
        has received, and the total.

        Nothing is written to xenstore. If a step fails or is interrupted, nothing remains. ValueError: this
        kernel cannot be such a guest, or needs more memory; DecodeError: it is damaged. HypercallError
        ENOMEM: the host has not enough free memory.

        Example:

        >>> kernel = pyxc.sim.kernel("pvh")     # on a real host: "/boot/vmlinuz"
        >>> web = xen.domains.build(kernel, command_line="console=hvc0", memory_kb=64 << 10)
        >>> web.kind, web.info().paused
        ('pvh', True)
        """
        from pyxc.guest import build, built  # few programs build guests

        wanted = build.Wanted(
            kernel, memory_kb, max_memory_kb, ramdisk, command_line, kind, vcpus, uuid, pool, cpus, nodes,
            cpu_policy, ssidref, iommu, max_evtchn_port, max_grant_frames, max_maptrack_frames, paging_kb,
            vnuma, progress,
        )  # fmt: skip
        making = built.Making(self.xen, self.create, self.just_made)
        return build.build(making, wanted)

    def _refuse_newer(self, hvm: bool, hap: bool, iommu: bool, limits: bool) -> None:
        """Unsupported for options that this Xen does not have."""
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
            from pyxc.abi.domctl_create import default_ssidref

            return default_ssidref(self.xen.interface.xen)
        return arguments.natural("ssidref", wanted, _U32_MAX)

    def _limit(self, name: str, value: int) -> int:
        """A limit of grants; -1 is the host's default."""
        return self._default_limits[name] if value == -1 else arguments.natural(name, value, 2**31 - 1)

    @property
    def _default_limits(self) -> dict[str, int]:
        """The host's default limits of grants: -1, which older releases than Xen 4.14 do not know."""
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
        """The new domains with this UUID, which other domains may have, too: those that are still empty."""
        return [
            info.domid
            for info in self.infos()
            if info.uuid == handle and info.paused and not info.dying and not info.tot_pages
        ]

    def create_bare(self, domid: int = DOMID_ANY, /, **fields: Any) -> int:
        """Make a domain with these fields of createdomain and nothing more, without vcpus; returns its id.

        For toolstacks that do the other steps themselves. Limits of grants default to the host's. TypeError
        for a field that no release has. A field that this interface does not have is omitted if its value is
        0, or if it is a limit or `arch.emulation_flags`, which each release handles in its own way; otherwise
        it is Unsupported. If no domain has the id but Xen has not freed it yet, this waits up to 2 seconds.
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
        """The fields that this interface has. Unsupported if a missing one would change the domain."""
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
        """Whether an id that is not free belongs to no domain: its last domain may have just gone."""
        return self.xen.interface.xen >= _IDS_APART and domid < DOMID_FIRST_RESERVED and domid not in self
