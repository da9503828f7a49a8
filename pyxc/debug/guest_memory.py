# SPDX-License-Identifier: MIT
"""A guest as debuggers need it: physical and virtual memory, registers, and VMCOREINFO."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from pyxc import errors
from pyxc.domain.address_space import Physical, Virtual
from pyxc.domain.domain import Domain
from pyxc.guest import vmcoreinfo

if TYPE_CHECKING:  # for those who ask for it
    from pyxc.debug.memory_without_xen import MemoryWithoutXen

PHYSICAL = -1
"""In place of a vcpu: an address of physical memory."""
WITHOUT_XEN = -2
"""The same, with page tables as if the guest ran without Xen: those of a PV guest name guest frames."""


class GuestFacts(NamedTuple):
    """A guest: whether its frames are translated (HVM and PVH), bytes of its physical memory, its vcpus.

    `physical_bytes` is 0 if the memory cannot be read by physical address, as of a 32-bit PV guest.
    """

    domid: int
    uuid: str
    is_hvm: bool
    physical_bytes: int
    nr_vcpus: int


class GuestMemory(Protocol):
    """Memory of a guest on this host, or on another one."""

    @property
    def facts(self) -> GuestFacts: ...

    def read(self, vcpu: int, address: int, size: int) -> bytes:
        """Bytes at a virtual address of a vcpu, or PHYSICAL, or WITHOUT_XEN. NotMapped."""

    def registers(self, vcpu: int) -> dict[str, int]: ...

    def refresh(self) -> None:
        """Look again which memory is where."""

    def vmcoreinfo(self) -> bytes:
        """LookupError if the guest has none."""


class DomainMemory:
    """The memory of a domain of this host; close() unmaps it. Threads: one at a time.

    Example:

    >>> with DomainMemory(db1) as guest:
    ...     guest.facts.nr_vcpus, guest.read(0, 0xFFFF_FFFF_8010_0000, 3), guest.read(PHYSICAL, 0x100000, 3)
    (1, b'db1', b'db1')
    """

    def __init__(self, domain: Domain, *, writable: bool = False) -> None:
        self.domain = domain
        self._writable = writable
        self._spaces: dict[int, Physical | Virtual] = {}
        self._tabled: MemoryWithoutXen | None = None
        info = domain.info()
        try:
            size = self._space(PHYSICAL).size
        except errors.Unsupported:
            size = 0
        self.facts = GuestFacts(domain.domid, str(domain.uuid), info.is_hvm, size, info.nr_vcpus)

    def _space(self, vcpu: int) -> Physical | Virtual:
        found = self._spaces.get(vcpu)
        if found is None:
            memory = self.domain.memory
            if vcpu == PHYSICAL:
                found = memory.physical(writable=self._writable)
            else:
                found = memory.virtual(self.domain.vcpu(vcpu), writable=self._writable)
            self._spaces[vcpu] = found
        return found

    def read(self, vcpu: int, address: int, size: int) -> bytes:
        if vcpu == WITHOUT_XEN:
            return self._without_xen().read(address, size)
        return self._space(vcpu).read(address, size)

    def _without_xen(self) -> Physical | MemoryWithoutXen:
        physical = self._physical()
        if self.facts.is_hvm:
            return physical
        if self._tabled is None:
            from pyxc.debug.memory_without_xen import MemoryWithoutXen

            self._tabled = MemoryWithoutXen(self.domain, physical)
        return self._tabled

    def _physical(self) -> Physical:
        space = self._space(PHYSICAL)
        assert isinstance(space, Physical)
        return space

    def open_windows(self) -> Mapping[int, memoryview]:
        """The physical memory that is mapped now, by address >> WINDOW_BITS; for those who read very often.

        A window is closed while others are read, if there are too many: release views of it before that.
        """
        return self._physical().open_windows

    def write(self, vcpu: int, address: int, data: bytes) -> None:
        """ReadOnlyError unless it was opened with `writable`; ValueError for WITHOUT_XEN."""
        if vcpu == WITHOUT_XEN:
            raise ValueError("page tables of guest frames can only be read")
        self._space(vcpu).write(address, data)

    def registers(self, vcpu: int) -> dict[str, int]:
        return dict(self.domain.vcpu(vcpu).context())

    def vmcoreinfo(self) -> bytes:
        return vmcoreinfo.find(self._space(PHYSICAL))

    def refresh(self) -> None:
        """Look again which memory is where; virtual memory is then that of the vcpus' present page tables."""
        physical = self._spaces.get(PHYSICAL)
        for space in self._spaces.values():
            space.close()
        self._spaces.clear()
        self._tabled = None
        if physical is not None:
            self._spaces[PHYSICAL] = physical

    def close(self) -> None:
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
