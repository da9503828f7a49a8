# SPDX-License-Identifier: MIT
"""Commands about the host and its hypervisor: info, dmesg, debug-keys."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import hypfs_value, scheduler_name
from pyxc.cli.parser import Program
from pyxc.cli.session import opened
from pyxc.cli.status import UsageError

_FOLLOW_S = 0.5
_INTERFACES = ("domctl_version", "sysctl_version", "dom0_op_version")
_MB_PAGES = 2**20 // pyxc.PAGE_SIZE


def add(program: Program) -> None:
    info = program.add("info", show_info, "describe the host and its hypervisor")
    info.add_argument(
        "-v", "--verbose", action="store_true", help="also show the interface that pyxc detected"
    )
    info.add_argument("-n", "--numa", action="store_true", help="also show the topology and NUMA nodes")
    dmesg = program.add("dmesg", show_console, "print the hypervisor's messages")
    dmesg.add_argument("-c", "--clear", action="store_true", help="clear them after printing")
    dmesg.add_argument("-f", "--follow", action="store_true", help="keep printing new ones until interrupted")
    parameters = program.add("set-parameters", set_parameters, "set parameters of the running hypervisor")
    parameters.add_argument("settings", metavar="NAME=VALUE", nargs="+", help="as on its command line")
    keys = program.add("debug-keys", press_keys, "send debug keys to the hypervisor; dmesg shows its output")
    keys.add_argument("keys", metavar="KEYS", help="h lists all keys in dmesg")


def show_info(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        xen.read_facts()
        host, physical = _host(xen), xen.physinfo()
        virtual = _virt_caps(xen.platform)
        if args.json:
            numa = {"cpu_topology": _cpus(xen), "numa_nodes": _nodes(xen)} if args.numa else {}
            output.report(
                args.json,
                **host,
                **numa,
                **_physical_json(physical, virtual),
                **_hypervisor_json(xen),
                **_interface(xen),
            )
            return 0
        _print(host)
        _print(_physical(physical))
        output.lines([f"{'virt_caps':<23}:{''.join(f' {name}' for name in virtual)}"])
        _print(_memory(physical))
        if args.numa:
            output.lines(_topology(xen))
        _print(_hypervisor(xen))
        if args.verbose:
            _print({key: _spelled(key, value) for key, value in _interface(xen).items()})
    return 0


def _print(fields: Mapping[str, object]) -> None:
    """A line for every known value."""
    output.lines(f"{key:<23}: {value}" for key, value in fields.items() if value is not None)


def _host(xen: pyxc.Xen) -> dict[str, str | None]:
    """What the kernel says of itself, where the target is a device of this machine.

    A simulated host has no kernel, and that of a recorded one is unknown.
    """
    if not xen.link.target.startswith("/"):
        return {"host": xen.link.target, "release": None, "version": None, "machine": None}
    name = os.uname()
    return {"host": name.nodename, "release": name.release, "version": name.version, "machine": name.machine}


def _physical(info: pyxc.PhysInfo) -> dict[str, object]:
    return {
        "nr_cpus": info.nr_cpus,
        "max_cpu_id": info.max_cpu_id,
        "nr_nodes": info.nr_nodes,
        "cores_per_socket": info.cores_per_socket,
        "threads_per_core": info.threads_per_core,
        "cpu_mhz": f"{info.cpu_khz // 1000}.{info.cpu_khz % 1000:03}",
        "hw_caps": ":".join(f"{word:08x}" for word in info.hw_cap),
    }


def _memory(info: pyxc.PhysInfo) -> dict[str, object]:
    """In MiB, as xl."""
    claimed = info.outstanding_pages
    return {
        "total_memory": info.total_pages // _MB_PAGES,
        "free_memory": (info.free_pages - (claimed or 0)) // _MB_PAGES,
        "outstanding_claims": None if claimed is None else claimed // _MB_PAGES,
    }


def _topology(xen: pyxc.Xen) -> Iterator[str]:
    """As xl, but for the nodes of PCI devices."""
    yield f"{'cpu_topology':<23}:"
    yield "cpu:    core    socket     node"
    for at in _cpus(xen):
        yield "{cpu:3}:    {core:4}     {socket:4}     {node:4}".format_map(at)
    yield f"{'numa_info':<23}:"
    yield "node:    memsize    memfree    distances"
    for node in _nodes(xen):
        if node["size_bytes"] is None:
            continue
        size, free = node["size_bytes"] >> 20, (node["free_bytes"] or 0) >> 20
        distances = ",".join("?" if far is None else str(far) for far in node["distances"])
        yield f"{node['node']:4}:    {size:6}     {free:6}      {distances}"


def _cpus(xen: pyxc.Xen) -> list[dict[str, Any]]:
    """Those that are online."""
    return [at._asdict() for at in xen.topology() if at.core is not None]


def _nodes(xen: pyxc.Xen) -> list[dict[str, Any]]:
    return [
        {
            "node": node.node,
            "size_bytes": node.size_bytes,
            "free_bytes": node.free_bytes,
            "distances": list(node.distances),
        }
        for node in xen.numa()
    ]


def _physical_json(info: pyxc.PhysInfo, virt_caps: list[str]) -> dict[str, object]:
    fields = _physical(info)
    del fields["cpu_mhz"]
    return fields | {
        "cpu_khz": info.cpu_khz,
        "hw_caps": list(info.hw_cap),
        "virt_caps": virt_caps,
        "total_memory_kb": info.total_memory_kb,
        "free_memory_kb": info.free_memory_kb,
        "scrub_memory_kb": info.scrub_memory_kb,
        "outstanding_memory_kb": info.outstanding_memory_kb,
    }


def _virt_caps(found: pyxc.Capability) -> list[str]:
    """Names that xl has for capabilities, in its order."""
    direct = pyxc.Capability.DIRECTIO
    names = {
        "pv": pyxc.Capability.PV,
        "hvm": pyxc.Capability.HVM,
        "hvm_directio": pyxc.Capability.HVM | direct,
        "pv_directio": pyxc.Capability.PV | direct,
        "hap": pyxc.Capability.HAP,
        "shadow": pyxc.Capability.SHADOW,
        "iommu_hap_pt_share": pyxc.Capability.IOMMU_HAP_PT_SHARE,
        "vmtrace": pyxc.Capability.VMTRACE,
        "vpmu": pyxc.Capability.VPMU,
        "gnttab-v1": pyxc.Capability.GNTTAB_V1,
        "gnttab-v2": pyxc.Capability.GNTTAB_V2,
    }
    return [name for name, wanted in names.items() if found & wanted == wanted]


def _hypervisor(xen: pyxc.Xen) -> dict[str, object]:
    build = xen.build
    return {
        "xen_major": xen.version.major,
        "xen_minor": xen.version.minor,
        "xen_extra": xen.version.extra,
        "xen_version": xen.version,
        "xen_caps": " ".join(xen.capabilities),
        "xen_scheduler": scheduler_name(xen.scheduler),
        "xen_pagesize": pyxc.PAGE_SIZE,
        "platform_params": f"virt_start={xen.virt_start:#x}",
        "xen_changeset": build.changeset,
        "xen_commandline": xen.commandline,
        "cc_compiler": build.compiler,
        "cc_compile_by": build.compile_by,
        "cc_compile_domain": build.compile_domain,
        "cc_compile_date": build.compile_date,
        "build_id": build.build_id or "",
    }


def _hypervisor_json(xen: pyxc.Xen) -> dict[str, object]:
    fields = _hypervisor(xen)
    del fields["platform_params"], fields["xen_pagesize"]
    return fields | {
        "xen_version": str(xen.version),
        "xen_caps": list(xen.capabilities),
        "xen_pagesize_bytes": pyxc.PAGE_SIZE,
        "virt_start": xen.virt_start,
        "build_id": xen.build.build_id,
    }


def _interface(xen: pyxc.Xen) -> dict[str, Any]:
    """How pyxc speaks with it."""
    return {
        "pyxc_version": pyxc.__version__,
        "pyxc_target": xen.link.target,
        "domctl_version": xen.interface.number("domctl") or None,
        "sysctl_version": xen.interface.number("sysctl") or None,
        "dom0_op_version": xen.interface.dom0_op or None,
        "kernel_bits": xen.link.kernel_bits,
        "gated": xen.link.gated,
    }


def _spelled(key: str, value: object) -> object:
    """Interface versions are hexadecimal in Xen's headers."""
    return f"{value:#x}" if value and key in _INTERFACES else value


def show_console(args: argparse.Namespace) -> int:
    if args.follow and (args.clear or args.json):
        raise UsageError("--follow cannot be used with --clear or --json")
    with opened(args) as xen:
        if args.follow:
            _follow(xen)
        text = _text(xen.console.clear() if args.clear else xen.console.read())
    if args.json:
        output.report(args.json, text=text)
    else:
        output.write(_harmless(text))
    return 0


def _follow(xen: pyxc.Xen) -> NoReturn:
    """Ends by an interrupt only."""
    index = None
    while True:
        data, index = xen.console.read_from(index)
        output.write(_harmless(_text(data)))
        output.flush()
        time.sleep(_FOLLOW_S)


def _harmless(text: str) -> str:
    """Guests can write to Xen's console, too."""
    return output.harmless(text.replace("\r\n", "\n"), "\n\t")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def set_parameters(args: argparse.Namespace) -> int:
    """Through the hypervisor's file system, as xl does."""
    settings = [word.partition("=") for text in args.settings for word in text.split()]
    for name, equals, _ in settings:
        if not equals or not name or "/" in name:
            raise UsageError(f"{name!r}: expected NAME=VALUE")
    with opened(args) as xen:
        for name, _, value in settings:
            path = f"/params/{name}"
            xen.hypfs.write(path, hypfs_value(xen.hypfs.entry(path).type, value))
    if args.json:
        output.report(args.json, parameters=[{"name": name, "value": value} for name, _, value in settings])
    return 0


def press_keys(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        xen.debug_keys(args.keys)
    if args.json:
        output.report(args.json, keys=args.keys)
    return 0
