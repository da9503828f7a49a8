# SPDX-License-Identifier: MIT
"""Virtual cpus: where they run, where they may run, and their registers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

from pyxc import arguments
from pyxc.abi import domctl
from pyxc.call.records import Record
from pyxc.domain import affinity
from pyxc.domain.affinity import Affinity
from pyxc.host.host import Host

if TYPE_CHECKING:  # imported on first use: a list of vcpus needs none
    from pyxc.domain.identity import Identity
    from pyxc.domain.paging import Translation
    from pyxc.domain.registers import VcpuContext
    from pyxc.host.scheduling import RtdsParams


class VcpuInfo(NamedTuple):
    """A vcpu at one moment (domctl getvcpuinfo). `cpu` is the physical cpu on which it runs or last ran.

    Example:

    >>> web.vcpu(0).info()
    VcpuInfo(domid=1, vcpu=0, online=True, blocked=True, running=False, cpu_time_ns=5000000000, cpu=0)
    """

    domid: int
    vcpu: int
    online: bool
    blocked: bool
    running: bool
    cpu_time_ns: int
    cpu: int


INFO = Record(VcpuInfo, domctl.GETVCPUINFO, cpu_time_ns="cpu_time")


class Vcpu:
    """One vcpu of a domain. Threads: safe to share.

    Example:

    >>> web.vcpu(0).info().cpu_time_ns
    5000000000
    >>> web.vcpu(1).set_affinity(hard=[1])
    Affinity(hard=frozenset({1}), soft=frozenset({0, 1}))
    """

    def __init__(self, domain: Identity, index: int) -> None:
        self.domain = domain
        self.index = index

    def info(self) -> VcpuInfo:
        """Its present state (domctl getvcpuinfo). DomainNotFound if the domain or the vcpu does not exist."""
        reply = self.domain.call(domctl.GETVCPUINFO, vcpu=self.index)
        return INFO.at(self._xen.interface).one(reply.answer)

    def online(self) -> bool:
        """Whether the guest has it online (domctl getvcpuinfo)."""
        return self.info().online

    def affinity(self) -> Affinity:
        """Where it may and prefers to run (domctl getvcpuaffinity)."""
        return affinity.read(self._xen, self.domain.domid, self.index)

    def set_affinity(
        self,
        hard: Iterable[int] | None = None,
        soft: Iterable[int] | None = None,
        *,
        force: bool = False,
    ) -> Affinity:
        """Change where it may and prefers to run; None keeps a set (domctl setvcpuaffinity).

        `force` also ends a temporary affinity, which a guest's kernel set for itself, as dom0's does to speak
        with firmware.

        Returns both sets as the hypervisor now has them, including cpus outside the domain's pool, on which
        it does not run. ValueError for a cpu that the host does not have and for an empty hard set; EINVAL if
        the domain's pool has none of the hard set. Unsupported for soft before Xen 4.5.
        """
        count = self._xen.nr_cpus
        hard_set, soft_set = [
            None if wanted is None else arguments.cpus(name, wanted, count)
            for name, wanted in (("hard", hard), ("soft", soft))
        ]
        if hard_set is None and soft_set is None:
            raise ValueError("neither hard nor soft affinity is given")
        if hard_set is not None and not hard_set:
            raise ValueError("hard is empty: expected at least one cpu")
        operation, fields = affinity.assignment(self._xen, hard_set, soft_set, force)
        self.domain.change(operation, vcpu=self.index, **fields)
        return self.affinity()

    def scheduling(self) -> RtdsParams | None:
        """Its rtds parameters (domctl scheduler_op getvcpuinfo). None without rtds, and before Xen 4.7."""
        from pyxc.domain import scheduling

        found = scheduling.read_vcpus(self.domain, [self.index])
        return None if found is None else found[0]

    def set_scheduling(
        self,
        *,
        period_us: int | None = None,
        budget_us: int | None = None,
        extratime: bool | None = None,
    ) -> None:
        """Change its rtds parameters; None keeps a value (domctl scheduler_op putvcpuinfo).

        ValueError under another scheduler and before Xen 4.7, for less than 10 microseconds, and for more
        budget than period.
        """
        from pyxc.domain import scheduling

        scheduling.write_vcpu(
            self.domain, self.index, period_us=period_us, budget_us=budget_us, extratime=extratime
        )

    def context(self) -> VcpuContext:
        """Its registers (domctl getvcpucontext), 32-bit or 64-bit like the guest. Xen stops the vcpu
        meanwhile.

        OSError EINVAL for the calling vcpu, ENODATA for one that was never initialised.

        Example:

        >>> hex(web.vcpu(0).context()["rip"])
        '0xffffffff810003aa'
        """
        from pyxc.domain.registers import VcpuContext

        width = self.domain.guest_bits()
        size = VcpuContext.size(64, self._xen.interface)
        reply = self.domain.call(domctl.GETVCPUCONTEXT, vcpu=self.index, ctxt=size)
        return VcpuContext.decode(reply.buffers["ctxt"], width, self._xen.interface)

    def set_context(self, context: VcpuContext) -> None:
        """Replace all its registers (domctl setvcpucontext). Pause the domain first.

        This initialises a PV vcpu; for an HVM vcpu use Domain.hvm_context.load(). It is then online if
        ContextFlag.ONLINE (pyxc.abi.arch.x86) is in the register "flags". EINVAL: Xen rejects the registers.

        Example:

        >>> web.pause()
        >>> context = web.vcpu(0).context()
        >>> web.vcpu(0).set_context(context.replace(rax=1))
        >>> web.vcpu(0).context()["rax"]
        1
        """
        width = self.domain.guest_bits()
        if context.width != width:
            raise ValueError(f"a {context.width}-bit context does not fit this {width}-bit guest")
        self.domain.change(domctl.SETVCPUCONTEXT, vcpu=self.index, ctxt=context.encode())

    def translate(self, address: int) -> Translation:
        """The memory behind a virtual address, by its page tables (domctl getvcpucontext).

        NotMapped if there is none; DecodeError for page tables that no processor accepts. For more than one
        address use domain.memory.virtual().

        Example:

        >>> web.vcpu(0).translate(0xFFFF_C900_0000_1000).page_bits
        12
        """
        from pyxc.domain import address_space, paging
        from pyxc.domain.mapping import Mapping

        how = paging.of_vcpu(self.domain, self.index)
        with address_space.Virtual(Mapping(self.domain), how) as space:
            return space.translate(address)

    def reset(self) -> None:
        """Reset it to its initial state: offline, without registers (domctl setvcpucontext without a
        context)."""
        self.domain.change(domctl.SETVCPUCONTEXT, vcpu=self.index)

    @property
    def _xen(self) -> Host:
        return self.domain.xen

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vcpu):
            return NotImplemented
        return (self.domain, self.index) == (other.domain, other.index)

    def __hash__(self) -> int:
        return hash((self.domain, self.index))

    def __str__(self) -> str:
        return f"vcpu {self.index} of domain {self.domain.domid}"

    def __repr__(self) -> str:
        return f"<Vcpu {self.index} of domain {self.domain.domid}>"


class Vcpus(Sequence[Vcpu]):
    """The vcpus of a domain, online or not. Threads: safe to share.

    Example:

    >>> [vcpu.cpu_time_ns for vcpu in web.vcpus.infos()]
    [5000000000, 6000000000]
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain

    def __len__(self) -> int:
        return self._domain.info().nr_vcpus

    @overload
    def __getitem__(self, index: int) -> Vcpu: ...
    @overload
    def __getitem__(self, index: slice) -> list[Vcpu]: ...
    def __getitem__(self, index: int | slice) -> Vcpu | list[Vcpu]:
        count = len(self)
        if not isinstance(index, slice) and not -count <= index < count:
            raise IndexError(f"domain {self._domain.domid} has {count} vcpus, not a vcpu {index}")
        chosen = range(count)[index]
        return (
            Vcpu(self._domain, chosen) if isinstance(chosen, int) else [Vcpu(self._domain, i) for i in chosen]
        )

    def scheduling(self) -> list[RtdsParams] | None:
        """Their rtds parameters (domctl scheduler_op getvcpuinfo). None without rtds, and before Xen 4.7."""
        from pyxc.domain import scheduling

        return scheduling.read_vcpus(self._domain, range(len(self)))

    def infos(self) -> list[VcpuInfo]:
        """All of them at once (domctl getvcpuinfo, in one multicall)."""
        info = self._domain.info()
        return read_infos(self._domain.xen, [info.domid] * info.nr_vcpus, list(range(info.nr_vcpus)))

    def __repr__(self) -> str:
        return f"<Vcpus of domain {self._domain.domid}>"


def read_infos(xen: Host, domids: Sequence[int], vcpus: Sequence[int]) -> list[VcpuInfo]:
    """Many vcpus in one multicall, without those that have gone."""
    batch = xen.caller.batch(domctl.GETVCPUINFO, len(vcpus), INFO, domid=domids, vcpu=vcpus)
    if not any(batch.results):
        return batch.records
    return [info for info, result in zip(batch.records, batch.results) if result == 0]
