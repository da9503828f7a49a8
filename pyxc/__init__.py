# SPDX-License-Identifier: MIT
"""Manage any 64-bit Xen from 32- or 64-bit Python, without libxc.

>>> import pyxc
>>> with pyxc.open() as xen:          # or pyxc.open("sim:xen-4.17"): simulated, no Xen needed
...     for info in xen.domains.infos():
...         print(info.domid, info.memory_kb, info.flags)
0 1228800 RUNNING
1 65536 BLOCKED
2 131104 HVM_GUEST|RUNNING|HAP
3 32768 PAUSED
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
"""As in typing, whose import takes longer than everything here: names are imported on first use."""

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyxc._core import PAGE_SIZE
    from pyxc.abi.cpu_policy import Featureset, Policy
    from pyxc.abi.domctl import DomainFlag, PageType, Scheduler, Trigger
    from pyxc.abi.domctl_create import CreateFlag
    from pyxc.abi.domctl_tsc import TscMode
    from pyxc.abi.event_channel import Status as ChannelStatus
    from pyxc.abi.event_channel import Virq
    from pyxc.abi.features import Feature
    from pyxc.abi.hvm import HvmParam
    from pyxc.abi.hvm_save import HvmRecordType
    from pyxc.abi.hypfs import Type as HypfsType
    from pyxc.abi.memory import MapSpace, MemoryType
    from pyxc.abi.sched import ShutdownReason
    from pyxc.abi.sysctl import Capability
    from pyxc.abi.trace import Runstate, TraceClass
    from pyxc.call.records import asdict
    from pyxc.domain.address_space import AddressSpace
    from pyxc.domain.affinity import Affinity
    from pyxc.domain.channels import Channel
    from pyxc.domain.console import Console
    from pyxc.domain.details import Details, DomainDetails
    from pyxc.domain.domain import Domain
    from pyxc.domain.domains import Domains
    from pyxc.domain.frame_runs import FrameRun
    from pyxc.domain.frames import FrameList
    from pyxc.domain.grants import GrantInfo, Lent
    from pyxc.domain.hvm_context import HvmContext, HvmRecord
    from pyxc.domain.info import DomainInfo
    from pyxc.domain.log_dirty import DirtyPages, LogDirty
    from pyxc.domain.memory import E820Entry, Memory, MemoryInfo, PodTarget
    from pyxc.domain.p2m import P2m
    from pyxc.domain.paging import Translation
    from pyxc.domain.pci import Pci, PciAddress
    from pyxc.domain.permissions import Permissions
    from pyxc.domain.registers import VcpuContext
    from pyxc.domain.state import DomainState
    from pyxc.domain.tsc import TscInfo
    from pyxc.domain.usage import DomainUsage, Sample, VcpuUsage
    from pyxc.domain.vcpus import Vcpu, VcpuInfo
    from pyxc.domain.vnuma import Vnuma, VnumaRange
    from pyxc.domain.watcher import DomainChange, DomainEvent, DomainWatcher
    from pyxc.errors import (
        Ambiguous,
        DecodeError,
        DomainGone,
        DomainNotFound,
        DomainStuck,
        Error,
        GuestSilent,
        GuestUnable,
        HypercallError,
        LabelNotFound,
        MigrationInDoubt,
        MissingLibrary,
        NotMapped,
        NotXenError,
        PermissionDenied,
        ReadOnlyError,
        StoreError,
        Unsupported,
        VersionMismatch,
    )
    from pyxc.guest.save import Live, SaveProgress
    from pyxc.host.backends import DiskCounters, NetworkCounters
    from pyxc.host.cpu_policy import CpuPolicy
    from pyxc.host.events import EventChannels
    from pyxc.host.flask import Boolean as FlaskBoolean
    from pyxc.host.hypfs import Entry as HypfsEntry
    from pyxc.host.livepatches import Livepatch
    from pyxc.host.lockprof import Lock, LockProfile
    from pyxc.host.perfc import Counter as PerfCounter
    from pyxc.host.physinfo import PhysInfo
    from pyxc.host.pools import Pool, PoolInfo, Pools
    from pyxc.host.runstates import BUCKETS_US, RunstateMeter, Runstates
    from pyxc.host.scheduling import (
        Credit2Params,
        Credit2PoolParams,
        CreditParams,
        CreditPoolParams,
        RtdsParams,
    )
    from pyxc.host.topology import CpuTopology, NumaNode
    from pyxc.host.trace_buffers import TraceBuffers, TraceInfo, TraceReader
    from pyxc.host.trace_records import Ordered as OrderedRecords
    from pyxc.host.trace_records import TraceRecord
    from pyxc.host.usage import HostUsage
    from pyxc.host.version import Build, Version
    from pyxc.opening import connect, open_store
    from pyxc.opening import open_xen as open
    from pyxc.store import Permission, StoreClient, Transaction
    from pyxc.store.names import readable
    from pyxc.store.usage import StoreUsage
    from pyxc.xen import Xen

__version__ = "0.1.0"

__all__ = [
    "AddressSpace",
    "Affinity",
    "Ambiguous",
    "BUCKETS_US",
    "Build",
    "Capability",
    "Channel",
    "ChannelStatus",
    "Console",
    "CpuPolicy",
    "CpuTopology",
    "CreateFlag",
    "Credit2Params",
    "Credit2PoolParams",
    "CreditParams",
    "CreditPoolParams",
    "DecodeError",
    "Details",
    "DirtyPages",
    "DiskCounters",
    "Domain",
    "DomainChange",
    "DomainDetails",
    "DomainEvent",
    "DomainFlag",
    "DomainGone",
    "DomainInfo",
    "DomainNotFound",
    "DomainState",
    "DomainStuck",
    "DomainUsage",
    "DomainWatcher",
    "Domains",
    "E820Entry",
    "Error",
    "Feature",
    "Featureset",
    "FlaskBoolean",
    "EventChannels",
    "FrameList",
    "FrameRun",
    "GrantInfo",
    "GuestSilent",
    "GuestUnable",
    "HostUsage",
    "HvmContext",
    "HvmParam",
    "HvmRecord",
    "HvmRecordType",
    "HypercallError",
    "HypfsEntry",
    "HypfsType",
    "LabelNotFound",
    "Lent",
    "Live",
    "Livepatch",
    "Lock",
    "LockProfile",
    "LogDirty",
    "MapSpace",
    "Memory",
    "MemoryInfo",
    "MemoryType",
    "MigrationInDoubt",
    "MissingLibrary",
    "NetworkCounters",
    "NotMapped",
    "NotXenError",
    "NumaNode",
    "OrderedRecords",
    "P2m",
    "PAGE_SIZE",
    "PageType",
    "Pci",
    "PciAddress",
    "PerfCounter",
    "Permission",
    "PermissionDenied",
    "Permissions",
    "PhysInfo",
    "PodTarget",
    "Policy",
    "Pool",
    "PoolInfo",
    "Pools",
    "ReadOnlyError",
    "RtdsParams",
    "Runstate",
    "RunstateMeter",
    "Runstates",
    "Sample",
    "SaveProgress",
    "Scheduler",
    "ShutdownReason",
    "StoreClient",
    "StoreError",
    "StoreUsage",
    "TraceBuffers",
    "TraceClass",
    "TraceInfo",
    "TraceReader",
    "TraceRecord",
    "Transaction",
    "Translation",
    "Trigger",
    "TscInfo",
    "TscMode",
    "Unsupported",
    "Vcpu",
    "VcpuContext",
    "VcpuInfo",
    "VcpuUsage",
    "Version",
    "VersionMismatch",
    "Virq",
    "Vnuma",
    "VnumaRange",
    "Xen",
    "asdict",
    "connect",
    "open",
    "open_store",
    "readable",
]

_MODULES = {
    "_core": "PAGE_SIZE",
    "abi.cpu_policy": "Featureset Policy",
    "abi.domctl": "DomainFlag PageType Scheduler Trigger",
    "abi.domctl_create": "CreateFlag",
    "abi.domctl_tsc": "TscMode",
    "abi.event_channel": "ChannelStatus Virq",
    "abi.features": "Feature",
    "abi.hvm": "HvmParam",
    "abi.hvm_save": "HvmRecordType",
    "abi.hypfs": "HypfsType",
    "abi.memory": "MapSpace MemoryType",
    "abi.sched": "ShutdownReason",
    "abi.sysctl": "Capability",
    "abi.trace": "Runstate TraceClass",
    "call.records": "asdict",
    "domain.address_space": "AddressSpace",
    "domain.affinity": "Affinity",
    "domain.channels": "Channel",
    "domain.console": "Console",
    "domain.details": "Details DomainDetails",
    "domain.domain": "Domain",
    "domain.domains": "Domains",
    "domain.frame_runs": "FrameRun",
    "domain.frames": "FrameList",
    "domain.grants": "GrantInfo Lent",
    "domain.hvm_context": "HvmContext HvmRecord",
    "domain.info": "DomainInfo",
    "domain.log_dirty": "DirtyPages LogDirty",
    "domain.memory": "E820Entry Memory MemoryInfo PodTarget",
    "domain.p2m": "P2m",
    "domain.paging": "Translation",
    "domain.pci": "Pci PciAddress",
    "domain.permissions": "Permissions",
    "domain.registers": "VcpuContext",
    "domain.state": "DomainState",
    "domain.tsc": "TscInfo",
    "domain.usage": "DomainUsage Sample VcpuUsage",
    "domain.vcpus": "Vcpu VcpuInfo",
    "domain.vnuma": "Vnuma VnumaRange",
    "domain.watcher": "DomainChange DomainEvent DomainWatcher",
    "errors": (
        "Ambiguous DecodeError DomainGone DomainNotFound DomainStuck Error GuestSilent "
        "GuestUnable HypercallError LabelNotFound MigrationInDoubt MissingLibrary NotMapped NotXenError "
        "PermissionDenied ReadOnlyError StoreError Unsupported VersionMismatch"
    ),
    "guest.save": "Live SaveProgress",
    "host.backends": "DiskCounters NetworkCounters",
    "host.cpu_policy": "CpuPolicy",
    "host.events": "EventChannels",
    "host.flask": "FlaskBoolean",
    "host.hypfs": "HypfsEntry",
    "host.livepatches": "Livepatch",
    "host.lockprof": "Lock LockProfile",
    "host.perfc": "PerfCounter",
    "host.physinfo": "PhysInfo",
    "host.pools": "Pool PoolInfo Pools",
    "host.runstates": "BUCKETS_US RunstateMeter Runstates",
    "host.scheduling": "Credit2Params Credit2PoolParams CreditParams CreditPoolParams RtdsParams",
    "host.topology": "CpuTopology NumaNode",
    "host.trace_buffers": "TraceBuffers TraceInfo TraceReader",
    "host.trace_records": "OrderedRecords TraceRecord",
    "host.usage": "HostUsage",
    "host.version": "Build Version",
    "opening": "connect open_store open",
    "store": "Permission StoreClient Transaction",
    "store.names": "readable",
    "store.usage": "StoreUsage",
    "xen": "Xen",
}
"""The modules of the names in __all__, which are imported on first use."""

_OTHERWISE = {
    "ChannelStatus": "Status",
    "FlaskBoolean": "Boolean",
    "HypfsEntry": "Entry",
    "HypfsType": "Type",
    "OrderedRecords": "Ordered",
    "PerfCounter": "Counter",
    "open": "open_xen",
}
"""Names that differ from those in their modules."""

_LATE = ("difflib", "gzip", "hashlib", "socket", "uuid")
"""Modules from elsewhere that functions of this package import."""

_APART = frozenset(f"pyxc.{name}" for name in ("__main__", "cli", "compat", "debug", "metrics"))
"""Modules that the library does not import: a program does, or not."""

_PACKAGES = frozenset("abi call compat debug domain errors files guest host link metrics sim store".split())

_HOME = {name: f"pyxc.{module}" for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:  # or a type checker would accept every name

    def __getattr__(name: str) -> object:
        """A public name on first use (PEP 562)."""
        from importlib import import_module

        if name in _PACKAGES:
            return import_module(f"pyxc.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'pyxc' has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOME[name]), _OTHERWISE.get(name, name))
        return found


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__, *_PACKAGES})


def _finish_imports() -> None:
    """Before a fork beside other threads, import what functions import.

    A thread that imports a module holds its lock. In the child of a fork at that moment, the lock is never
    released, and the child would wait for it at its own first use of the module.
    """
    threading = sys.modules.get("threading")
    unused = not any(name.startswith("pyxc.") for name in sys.modules)
    if unused or threading is None or threading.active_count() == 1:
        return
    from importlib import import_module

    for name in _LATE:
        import_module(name)
    # Once in use, the simulator has imported all of itself.
    _import_all(__path__, "pyxc.", {"pyxc.sim", *(_APART - sys.modules.keys())})


def _import_all(path: Iterable[str], prefix: str, apart: set[str]) -> None:
    """Import the modules and packages in a package, except those `apart`."""
    from importlib import import_module
    from pkgutil import iter_modules

    for _, name, is_package in iter_modules(path, prefix):
        if name not in apart:
            module = import_module(name)
            if is_package:
                _import_all(module.__path__, f"{name}.", apart)


os.register_at_fork(before=_finish_imports)
