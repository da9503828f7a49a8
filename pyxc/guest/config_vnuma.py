# SPDX-License-Identifier: MIT
"""Virtual NUMA nodes in xl's syntax: vnuma = [["pnode=0", "size=512", "vcpus=0-1", "vdistances=10,20"]]."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pyxc._core import PAGE_SIZE
from pyxc.abi.page import PAGE_KB
from pyxc.domain.info import MOST_VCPUS
from pyxc.domain.vnuma import Vnuma, VnumaRange
from pyxc.guest import build_pvh
from pyxc.guest.config_syntax import Setting
from pyxc.guest.images import Kind

_NODES_MOST = 32
_MIB_MOST = 1 << 30
_NEAR, _FAR = 10, 20
_KEYS = ("pnode", "size", "vcpus", "vdistances")


class VnumaNode(NamedTuple):
    """A virtual NUMA node: the host's node for its memory, the memory in KiB, its vcpus, and distances.

    `distances` has one for each node of the guest; empty: 10 to itself, 20 to others.
    """

    physical: int
    memory_kb: int
    vcpus: tuple[int, ...]
    distances: tuple[int, ...] = ()


def nodes(setting: Setting) -> tuple[VnumaNode, ...]:
    """Parse the nodes of a guest. ValueError."""
    if not isinstance(setting.value, list) or not 0 < len(setting.value) <= _NODES_MOST:
        raise ValueError(f"expected a list of 1 to {_NODES_MOST} nodes")
    found = tuple(_node(value) for value in setting.value)
    vcpus = sorted(vcpu for node in found for vcpu in node.vcpus)
    if vcpus != list(range(len(vcpus))):
        raise ValueError("each vcpu, from 0 on, must be in one of the nodes")
    if any(len(node.distances) not in (0, len(found)) for node in found):
        raise ValueError(f"vdistances must have one distance for each of the {len(found)} nodes")
    return found


def _node(value: object) -> VnumaNode:
    if not isinstance(value, list):
        raise ValueError('expected a list for each node, as ["pnode=0", "size=512", "vcpus=0-1"]')
    fields = {}
    for word in value:
        key, _, text = str(word).partition("=")
        if key not in _KEYS:
            raise ValueError(f"{word!r:.80} is not supported: expected {', '.join(_KEYS)}")
        fields[key] = text
    for key in _KEYS[:3]:
        if key not in fields:
            raise ValueError(f"a node has no {key}")
    distances = tuple(_number(text, 254) for text in fields.get("vdistances", "").split(",") if text)
    physical, memory_kb = _number(fields["pnode"], 63), _number(fields["size"], _MIB_MOST) << 10
    return VnumaNode(physical, memory_kb, _vcpus(fields["vcpus"]), distances)


def _vcpus(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        start = _number(first, MOST_VCPUS - 1)
        found.extend(range(start, (_number(last, MOST_VCPUS - 1) if last else start) + 1))
    return tuple(found)


def _number(text: str, most: int) -> int:
    if not text.strip().isascii() or not text.strip().isdigit() or int(text[:20]) > most:
        raise ValueError(f"{text!r:.40} is not a number up to {most}")
    return int(text)


def topology(found: tuple[VnumaNode, ...], kind: Kind | None) -> Vnuma:
    """The topology of a guest with these nodes, one or more, which have its memory in their order."""
    counts = [node.memory_kb // PAGE_KB for node in found]
    ram = build_pvh.memory(sum(counts)) if kind == "pvh" else (range(sum(counts)),)
    far = [tuple(_NEAR if one == other else _FAR for other in range(len(found))) for one in range(len(found))]
    owner = {vcpu: index for index, node in enumerate(found) for vcpu in node.vcpus}
    return Vnuma(
        tuple(node.distances or usual for node, usual in zip(found, far)),
        tuple(owner[vcpu] for vcpu in sorted(owner)),
        tuple(_ranges(ram, counts)),
        tuple(node.physical for node in found),
    )


def _ranges(ram: Iterable[range], counts: list[int]) -> Iterable[VnumaRange]:
    """The memory of each node; a node around the hole below 4 GiB has two parts."""
    node, left = 0, counts[0]
    for part in ram:
        at = part.start
        while at < part.stop:
            if not left:
                node, left = node + 1, counts[node + 1]
                continue
            taken = min(left, part.stop - at)
            yield VnumaRange(at * PAGE_SIZE, (at + taken) * PAGE_SIZE, node)
            at, left = at + taken, left - taken
