# SPDX-License-Identifier: MIT
"""Write docs/from-xl.md: what to use instead of xl. Called as PYTHONPATH=. tools/from_xl.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyxc.cli.commands import build

PAGE = Path(__file__).resolve().parent.parent / "docs" / "from-xl.md"

HEAD = """<!-- SPDX-License-Identifier: MIT -->
<!-- written by tools/from_xl.py. -->
# From xl and its neighbours

For administrators who know xl: what to type instead. Commands that xl has, too, have the same names,
arguments and output; all commands also have `--json`, `--jsonl` and `--csv`. `pyxc help COMMAND` describes a
command."""

XL = (
    "block-attach block-detach block-list button-press cd-eject cd-insert channel-list claims "
    "config-update console cpupool-cpu-add cpupool-cpu-remove cpupool-create cpupool-destroy cpupool-list "
    "cpupool-migrate cpupool-numa-split cpupool-rename create debug-keys destroy devd dmesg domid domname "
    "dump-core getenforce info list loadpolicy mem-max mem-set migrate network-attach network-detach "
    "network-list pause pci-assignable-add pci-assignable-list pci-assignable-remove pci-attach "
    "pci-detach pci-list psr-cat-set psr-cat-show psr-cmt-attach psr-cmt-detach psr-cmt-show psr-hwinfo "
    "psr-mba-set psr-mba-show qemu-monitor-command reboot remus rename restore resume save sched-credit "
    "sched-credit2 sched-rtds set-parameters setenforce sharing shutdown suspend sysrq top trigger "
    "unpause uptime usb-list usbctrl-attach usbctrl-detach usbdev-attach usbdev-detach vcpu-list vcpu-pin "
    "vcpu-set vkb-list vm-list vncviewer vtpm-attach vtpm-detach vtpm-list"
)
"""Of Xen 4.17's xl, without help."""

_EMULATED = "for guests with an emulator (QEMU)"
_LIBXL = "needs libxl"
REASONS = {
    "cd-": _EMULATED,
    "config-update": "pyxc stores no configurations",
    "devd": "`pyxc run` stays with one guest; driver domains need libxl",
    "pci-": "needs libxl; `domain.pci` in Python does the hypervisor's part",
    "psr-": "not implemented",
    "qemu-": _EMULATED,
    "remus": _LIBXL,
    "usb": _LIBXL,
    "vkb": _LIBXL,
    "vncviewer": _EMULATED,
    "vtpm": _LIBXL,
}

OTHERS = {
    "xentop": [
        ("xentop", "top", "the same keys: D N B V R S Q and the arrows"),
        ("xentop -b", "top -b", "the same columns; the first table has percentages, too"),
    ],
    "xenstore-*": [
        ("xenstore-ls", "store ls", ""),
        ("xenstore-list", "store list", ""),
        ("xenstore-read", "store read", ""),
        ("xenstore-write", "store write", ""),
        ("xenstore-rm", "store rm", ""),
        ("xenstore-exists", "store exists", ""),
        ("xenstore-chmod", "store chmod", ""),
        ("xenstore-watch", "store watch", ""),
        ("xenstore-control", "store control", ""),
    ],
    "xenpm": [
        ("xenpm get-cpuidle-states, get-cpufreq-states", "stats", "idle and performance states of all cpus"),
        ("xenpm get-cpufreq-para", "pm get-cpufreq-para", ""),
        ("xenpm set-scaling-governor", "pm set-scaling-governor", ""),
        ("xenpm set-scaling-maxfreq", "pm set-scaling-maxfreq", ""),
        ("xenpm set-scaling-minfreq", "pm set-scaling-minfreq", ""),
        ("xenpm set-scaling-speed", "pm set-scaling-speed", ""),
        ("xenpm set-sampling-rate", "pm set-sampling-rate", ""),
        ("xenpm set-up-threshold", "pm set-up-threshold", ""),
        ("xenpm enable-turbo-mode", "pm enable-turbo-mode", ""),
        ("xenpm disable-turbo-mode", "pm disable-turbo-mode", ""),
        ("xenpm set-max-cstate", "pm set-max-cstate", ""),
        ("xenpm set-sched-smt, set-cpufreq-cppc", None, "not implemented"),
    ],
    "xenctx": [
        ("xenctx DOMAIN VCPU", "context", ""),
        ("xenctx -a", "context", "shows all vcpus by default"),
    ],
    "xentrace, xenalyze": [
        ("xentrace", "trace record", "the same file format"),
        ("xenalyze", "trace report", "run, wait and steal times of vcpus"),
        ("xentrace_format", "trace perfetto", "for the Perfetto viewer in a browser"),
    ],
    "other tools": [
        ("lsevtchn", "lsevtchn", ""),
        ("xen-livepatch list", "livepatch list", ""),
        *(
            (f"xen-livepatch {name}", f"livepatch {name}", "")
            for name in ("upload", "load", "apply", "replace", "revert", "unload")
        ),
        ("xenperf", "perf", ""),
        ("xenhypfs", "hypfs ls", "and cat, tree, write"),
        ("xenlockprof", "lockprof", ""),
        ("xencov, xen-hvmctx", None, "`domain.hvm_context()` in Python replaces xen-hvmctx"),
        ("xen-cpuid -p", "cpu-policy", ""),
        ("flask-get-bool, flask-set-bool", "get-bool", "and set-bool"),
        ("flask-getenforce, -setenforce, -loadpolicy", "getenforce", "and setenforce, loadpolicy"),
        ("verify-stream-v2", "stream verify", ""),
    ],
}


def page() -> str:
    purposes = {name: parser.description or "" for name, parser in build().commands.items()}
    return "\n".join([HEAD, *_xl(purposes), *_others(purposes), *_beyond(purposes)]) + "\n"


def _xl(purposes: dict[str, str]) -> Iterator[str]:
    yield from _table("xl", "xl")
    for name in XL.split():
        if name in purposes:
            yield f"| {name} | `pyxc {name}` | {purposes[name]} |"
        else:
            reason = next(reason for start, reason in REASONS.items() if name.startswith(start))
            yield f"| {name} | - | {reason} |"


def _others(purposes: dict[str, str]) -> Iterator[str]:
    for tool, rows in OTHERS.items():
        yield from _table(tool, tool)
        for peer, ours, note in rows:
            if ours is None:
                yield f"| {peer} | - | {note} |"
                continue
            purpose = purposes[ours.removesuffix(" -b")]
            yield f"| {peer} | `pyxc {ours}` | {note or purpose} |"


def _beyond(purposes: dict[str, str]) -> Iterator[str]:
    """Commands that stand in none of the tables above."""
    named = {*XL.split(), *(ours for rows in OTHERS.values() for _, ours, _ in rows)}
    yield from _table("Only in pyxc", "command", columns=2)
    yield from (f"| `pyxc {name}` | {purpose} |" for name, purpose in purposes.items() if name not in named)


def _table(title: str, first: str, columns: int = 3) -> Iterator[str]:
    heads = [first, "pyxc", ""] if columns == 3 else [first, ""]
    yield from (f"\n## {title}\n", f"| {' | '.join(heads)} |".replace("  ", " "), "|" + "---|" * columns)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
