# SPDX-License-Identifier: MIT
"""What is inside the hypervisor: perf, lockprof, hypfs, livepatch, cpu-policy."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Iterator
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import hypfs_value
from pyxc.cli.parser import Program
from pyxc.cli.session import find, opened
from pyxc.cli.status import Failed, UsageError

_READ_MOST = 4 << 20
_POLICIES = {policy.name.lower().replace("_", "-"): policy for policy in pyxc.Policy}


def add(program: Program) -> None:
    perf = program.add("perf", show_counters, "show the hypervisor's performance counters")
    perf.add_argument("-f", "--full", action="store_true", help="show each value, not only the totals")
    perf.add_argument("-r", "--reset", action="store_true", help="reset them to zero instead of showing them")
    locks = program.add("lockprof", show_locks, "show how the hypervisor's locks are used")
    locks.add_argument("-r", "--reset", action="store_true", help="reset them instead of showing them")
    program.add_group("hypfs", "read and write the hypervisor's file system")
    ls = program.add("hypfs ls", list_entries, "list a directory")
    ls.add_argument("path", metavar="PATH", nargs="?", default="/", help="default: the root")
    program.add("hypfs tree", list_tree, "list the whole file system")
    cat = program.add("hypfs cat", show_value, "print a value")
    cat.add_argument("path", metavar="PATH")
    write = program.add("hypfs write", write_value, "change a value")
    write.add_argument("path", metavar="PATH")
    write.add_argument("value", metavar="VALUE", help="a number, 1 or 0 (on or off), or text")
    _add_livepatches(program)
    policy = program.add("cpu-policy", show_policy, "show a cpu policy: CPUID leaves and MSRs")
    policy.add_argument("domain", metavar="DOMAIN", nargs="?", help="id, name or UUID: its policy")
    policy.add_argument("--policy", choices=sorted(_POLICIES), help="a policy of the host (default: host)")


def _add_livepatches(program: Program) -> None:
    program.add_group("livepatch", "show and change the live patches of the hypervisor")
    program.add("livepatch list", list_patches, "list the uploaded patches")
    upload = program.add("livepatch upload", upload_patch, "upload a patch, without applying it")
    upload.add_argument("name", metavar="NAME", help="its name from now on")
    upload.add_argument("file", metavar="FILE")
    load = program.add("livepatch load", load_patch, "upload and apply a patch; its name is the file's")
    load.add_argument("file", metavar="FILE", help="NAME.livepatch")
    purposes = {
        "apply": "apply an uploaded patch",
        "replace": "apply a patch in place of all applied ones",
        "revert": "undo the application of the last applied patch",
        "unload": "forget a patch that is not applied",
    }
    for action, purpose in purposes.items():
        parser = program.add(f"livepatch {action}", change_patch, purpose)
        parser.add_argument("name", metavar="NAME")
        parser.set_defaults(action=action)
    for name in ("livepatch load", "livepatch apply"):
        program.commands[name].add_argument(
            "--nodeps", action="store_true", help="also if it was made for other patches below it"
        )


def show_counters(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        if args.reset:
            xen.perfc.reset()
        counters = [] if args.reset else xen.perfc.read()
        nr_cpus = xen.nr_cpus
    if args.json:
        output.report(args.json, counters=[counter._asdict() for counter in counters])
    else:
        output.lines(_counter(counter, args.full, nr_cpus) for counter in counters)
    return 0


def _counter(counter: pyxc.PerfCounter, full: bool, nr_cpus: int) -> str:
    """The sum, and the values of counters that have one for each cpu, unless all are zero."""
    shown = full or (counter.total and len(counter.values) <= nr_cpus)
    values = "".join(f" {value:10}" for value in counter.values) if shown else ""
    return f"{counter.name:<35} T={counter.total:10} {values}"


def show_locks(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        if args.reset:
            xen.lockprof.reset()
            profile = None
        else:
            profile = xen.lockprof.read()
    if args.json:
        locks = [lock._asdict() for lock in profile.locks] if profile else []
        output.report(args.json, time_ns=profile and profile.time_ns, locks=locks)
    elif profile:
        output.lines(_profile(profile))
    return 0


def _profile(profile: pyxc.LockProfile) -> Iterator[str]:
    """What xenlockprof prints."""
    if missing := profile.nr_locks - len(profile.locks):
        yield f"data incomplete, {missing} records are missing!"
        yield ""
    for lock in profile.locks:
        held, waited = (f"{ns / 1e9:20.9f}s" for ns in (lock.lock_time_ns, lock.block_time_ns))
        yield f"{lock!s:<50}: lock:{lock.lock_cnt:12}({held}), block:{lock.block_cnt:12}({waited})"
    yield f"total profiling time: {profile.time_ns / 1e9:20.9f}s"
    yield f"total locked time:    {sum(lock.lock_time_ns for lock in profile.locks) / 1e9:20.9f}s"
    yield f"total blocked time:   {sum(lock.block_time_ns for lock in profile.locks) / 1e9:20.9f}s"


def list_entries(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        entries = xen.hypfs.entries(args.path)
    if args.json:
        output.report(args.json, entries=[_entry_json(entry) for entry in entries])
    else:
        output.lines(
            f"{f'<{entry.type.name.lower()}>':<8} r{'w' if entry.writable else '-'} {entry.name}"
            for entry in entries
        )
    return 0


def list_tree(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        entries = list(xen.hypfs.walk())
    if args.json:
        output.report(args.json, entries=[_entry_json(entry) for entry in entries])
    else:
        output.lines(["/", *map(_branch, entries)])
    return 0


def _branch(entry: pyxc.HypfsEntry) -> str:
    """A name, further to the right the deeper it is."""
    slash = "/" if entry.type is pyxc.HypfsType.DIR else ""
    return f"{'  ' * entry.path.count('/')}{entry.name}{slash}"


def _entry_json(entry: pyxc.HypfsEntry) -> dict[str, Any]:
    return {
        **entry._asdict(),
        "type": entry.type.name.lower(),
        "encoding": entry.encoding.name.lower(),
    }


def show_value(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        value = _read(xen, args.path)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if args.json:
        output.report(args.json, path=args.path, value=text)
    else:
        output.lines(str(int(text) if isinstance(text, bool) else text).split("\n"))
    return 0


def _read(xen: pyxc.Xen, path: str) -> bytes | str | int | bool:
    try:
        return xen.hypfs.read(path)
    except pyxc.HypercallError as error:
        if error.errno == errno.ENOENT:
            raise Failed(f"{path}: no such entry") from error
        raise


def write_value(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        kind = xen.hypfs.entry(args.path).type
        xen.hypfs.write(args.path, hypfs_value(kind, args.value))
    if args.json:
        output.report(args.json, path=args.path)
    return 0


def list_patches(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        patches = xen.livepatches.all()
    if args.json:
        output.report(args.json, livepatches=[_patch_json(patch) for patch in patches])
        return 0
    output.lines([f"{'ID':<40}| status     | metadata", f"{'-' * 40}+------------+{'-' * 15}"])
    output.lines(map(_patch, patches))
    return 0


def upload_patch(args: argparse.Namespace) -> int:
    payload = _payload(args.file)
    with opened(args) as xen:
        xen.livepatches.upload(args.name, payload)
        return _changed(args, xen)


def _payload(path: str) -> bytes:
    """The contents of a file, or so much that Xen refuses it."""
    with open(path, "rb") as file:
        return file.read(_READ_MOST)


def load_patch(args: argparse.Namespace) -> int:
    args.name = os.path.basename(args.file).removesuffix(".livepatch")
    payload = _payload(args.file)
    with opened(args) as xen:
        xen.livepatches.load(args.name, payload, nodeps=args.nodeps)
        return _changed(args, xen)


def change_patch(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        options = {"nodeps": True} if getattr(args, "nodeps", False) else {}
        getattr(xen.livepatches, args.action)(args.name, **options)
        return _changed(args, xen)


def _changed(args: argparse.Namespace, xen: pyxc.Xen) -> int:
    if args.json:
        unloaded = getattr(args, "action", "") == "unload"
        state = None if unloaded else xen.livepatches.status(args.name).state.name.lower()
        output.report(args.json, name=args.name, state=state)
    return 0


def _patch(patch: pyxc.Livepatch) -> str:
    state = patch.status.state.name + ("" if not patch.status.error else f" ({patch.status.error})")
    return f"{patch.name:<40}| {state:<11}| {';'.join(patch.metadata or ())}".rstrip()


def _patch_json(patch: pyxc.Livepatch) -> dict[str, Any]:
    metadata = None if patch.metadata is None else list(patch.metadata)
    status = {"state": patch.status.state.name.lower(), "error": patch.status.error}
    return {"name": patch.name, **status, "metadata": metadata}


def show_policy(args: argparse.Namespace) -> int:
    if args.domain and args.policy:
        raise UsageError("--policy selects a policy of the host: it cannot be used with DOMAIN")
    with opened(args) as xen:
        if args.domain:
            policy = find(xen, args.domain).cpu_policy()
        else:
            policy = xen.cpu_policies.host(_POLICIES[args.policy or "host"])
    if args.json:
        leaves = [
            {**leaf._asdict(), "subleaf": leaf.subleaf if leaf.has_subleaf else None}
            for leaf in policy.leaves
        ]
        output.report(args.json, leaves=leaves, msrs=[msr._asdict() for msr in policy.msrs])
    else:
        output.lines(_policy_lines(policy))
    return 0


def _policy_lines(policy: pyxc.CpuPolicy) -> list[str]:
    """As `xen-cpuid -p` prints them."""
    leaves = [
        f"  {leaf.leaf:08x}:{leaf.subleaf:08x} -> {leaf.a:08x}:{leaf.b:08x}:{leaf.c:08x}:{leaf.d:08x}"
        for leaf in policy.leaves
    ]
    msrs = [f"  {msr.idx:08x} -> {msr.val:016x}" for msr in policy.msrs]
    return [" CPUID:", "  leaf     subleaf  -> eax      ebx      ecx      edx", *leaves,
            " MSRs:", "  index    -> value", *msrs]  # fmt: skip
