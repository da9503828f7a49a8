# SPDX-License-Identifier: MIT
"""Manage any 64-bit Xen from any Python, without libxc.

>>> import pyxc
>>> with pyxc.open() as xen:          # or pyxc.open("sim:xen-4.17"): simulated, no Xen needed
...     for info in xen.domains.infos():
...         print(info.domid, info.memory_kb, info.flags)
"""

from __future__ import annotations

from pyxc.abi.domctl import CreateFlag, DomainFlag, PageType
from pyxc.abi.event_channel import Status as ChannelStatus
from pyxc.abi.event_channel import Virq
from pyxc.abi.hvm import HvmParam
from pyxc.abi.sched import ShutdownReason
from pyxc.abi.sysctl import Capability
from pyxc.abi.version import Feature
from pyxc.affinity import Affinity
from pyxc.channels import Channel
from pyxc.context import VcpuContext
from pyxc.domain import Domain, DomainInfo
from pyxc.domains import Domains
from pyxc.errors import (
    DecodeError,
    DomainGone,
    DomainNotFound,
    DomainStuck,
    Error,
    HypercallError,
    LabelNotFound,
    NotXenError,
    PermissionDenied,
    ReadOnlyError,
    StoreError,
    Unsupported,
    VersionMismatch,
)
from pyxc.events import EventChannels
from pyxc.frames import FrameList
from pyxc.grants import GrantInfo, Lent
from pyxc.host import Build, CpuTopology, NumaNode, PhysInfo, Version
from pyxc.memory import Memory, MemoryInfo
from pyxc.opening import connect, open_store
from pyxc.opening import open_xen as open
from pyxc.p2m import P2m
from pyxc.store import Permission, StoreClient
from pyxc.vcpu import Vcpu, VcpuInfo
from pyxc.watcher import DomainChange, DomainEvent, DomainWatcher
from pyxc.xen import Xen

__version__ = "0.1.0"

__all__ = [
    "Affinity",
    "Build",
    "Capability",
    "Channel",
    "ChannelStatus",
    "CpuTopology",
    "CreateFlag",
    "DecodeError",
    "Domain",
    "DomainChange",
    "DomainEvent",
    "DomainFlag",
    "DomainGone",
    "DomainInfo",
    "DomainNotFound",
    "DomainStuck",
    "DomainWatcher",
    "Domains",
    "Error",
    "Feature",
    "EventChannels",
    "FrameList",
    "GrantInfo",
    "HvmParam",
    "HypercallError",
    "LabelNotFound",
    "Lent",
    "Memory",
    "MemoryInfo",
    "NotXenError",
    "NumaNode",
    "P2m",
    "PageType",
    "Permission",
    "PermissionDenied",
    "PhysInfo",
    "ReadOnlyError",
    "ShutdownReason",
    "StoreClient",
    "StoreError",
    "Unsupported",
    "Vcpu",
    "VcpuContext",
    "VcpuInfo",
    "Version",
    "VersionMismatch",
    "Virq",
    "Xen",
    "connect",
    "open",
    "open_store",
]
