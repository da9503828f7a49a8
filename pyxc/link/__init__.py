# SPDX-License-Identifier: MIT
"""The interface through which hypercalls reach a real, simulated or recorded hypervisor."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pyxc._core import ForeignMap, Pool
from pyxc.store.channel import Channel

Gate = Literal["auto", "never"]
"""Whether a 32-bit process may enter a 64-bit kernel as 64-bit code, if necessary."""


class EventDevice(Protocol):
    """Event channels of the domain in which this process runs: the ports that were bound through this device.

    No thread may wait on its descriptor after close(). Threads: safe to share.
    """

    def fileno(self) -> int:
        """A descriptor to wait on: readable when a port has fired."""

    def request(self, name: str, *numbers: int) -> int:
        """One request to the device, "bind_virq" and the like: its result, or a negative errno."""

    def take(self) -> int:
        """A port that has fired, which is masked until unmask(); 0 for none, or -EFBIG: events were lost."""

    def unmask(self, port: int) -> None:
        """Let a port fire again, at once if there was an event in the meantime."""

    def close(self) -> None:
        """Close all its ports."""


class Question(Protocol):
    """A call that takes no more than a domid, made ready."""

    def ask(self, domid: int | None) -> Any:
        """A record, or a negative errno."""


class Direct(Protocol):
    """Whole calls by the device itself, in C, like exchange() of pyxc.link.exchange, and prepared queries."""

    def exchange(
        self,
        op: int,
        request: bytes,
        buffers: tuple[tuple[int, bytes | int], ...] = (),
        before: int = -1,
        after: int = -1,
    ) -> tuple[int, bytes, Sequence[bytes]]:
        """See pyxc.link.exchange.exchange()."""

    def prepare(self, op: int, request: bytes, domid_at: int, reader: Any, body: int) -> Question:
        """A question that takes no more than a domid."""


class Link(Protocol):
    """A number and up to five u64 in, an int out; buffers by address.

    Threads: safe to share; in a child after fork it refuses.
    """

    @property
    def target(self) -> str:
        """Its target: the path of a device, or "sim:PROFILE"."""

    @property
    def byteorder(self) -> Literal["little", "big"]:
        """The hypervisor's: "little" or "big"."""

    @property
    def kernel_bits(self) -> int:
        """The word size of the kernel that issues the hypercalls, which is that of native structures."""

    @property
    def gated(self) -> bool:
        """Whether its ioctls go through the 64-bit gate of a 32-bit process."""

    @property
    def direct(self) -> Direct | None:
        """The device's own whole calls; None if each call must go through hypercall()."""

    @property
    def pool(self) -> Pool:
        """Memory that the hypervisor can read and write."""

    @property
    def maps(self) -> list[ForeignMap]:
        """Foreign mappings that are open."""

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        """The result, or a negative errno in Xen's numbering."""

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        """A device model operation on a domain: its result, or a negative errno, and the resulting
        buffers."""

    def restrict(self, domid: int) -> int:
        """Permanently restrict this link to mappings of, and device model operations on, one domain.

        Its event channel devices can bind ports to this domain only, connections to xenstore end, and it
        opens nothing more. 0, or a negative errno.
        """

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        """Map frames of a domain, in order. OSError if the call fails; errors of frames are in the map."""

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        """Map frames of a resource of a domain."""

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        """Frames of a resource."""

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        """Map pages that a domain grants to this one, by their references. OSError."""

    def lend_pages(self, domid: int, count: int, writable: bool = False) -> tuple[list[int], ForeignMap]:
        """Grant new pages of this domain to another one: references, and the pages. OSError."""

    def open_events(self) -> EventDevice:
        """Open an event channel device. NotXenError if there is none, or no permission."""

    def connect_store(self) -> Channel:
        """Open a connection to the xenstore of that host. StoreError if there is none."""

    @property
    def kernel_files(self) -> str | None:
        """The root directory of this domain's kernel files: "/" for sys and proc.

        None if there are none: for a recording, and by default for a simulated host.
        """

    def clock_ns(self) -> int:
        """Time on the host; only differences are meaningful."""

    def close(self) -> None:
        """Unmap and close everything; BufferError if a memoryview still holds a mapping."""


def unrecorded(link: Link) -> Link | None:
    """The link behind a recorder; None for a recording, which has no hypervisor."""
    found: Link | None = getattr(link, "unrecorded", link)
    return found
