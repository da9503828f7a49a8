# SPDX-License-Identifier: MIT
"""All commands: each is added by the module of its topic, which is imported when it is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module

from pyxc.cli.parser import Program

SECTIONS = {
    "domains": {
        "list": "list claims",
        "vcpu_list": "vcpu-list",
        "top": "top",
        "inventory": "vm-list sharing uptime lsevtchn",
        "survey": "topology memory watch",
        "domain": "pause unpause resume destroy trigger create-empty mem-max",
        "dump": "dump-core",
    },
    "guests": {
        "create": "create",
        "run": "run",
        "guest": "shutdown reboot suspend button-press sysrq vcpu-set mem-set domid domname rename",
        "console": "console",
        "device": ("block-attach block-detach block-list network-attach network-detach network-list"),
        "attached": "channel-list pci-list pci-assignable-list pci-assignable-add pci-assignable-remove",
        "move": "save restore migrate migrate-receive",
    },
    "vcpus, scheduling and pools": {
        "vcpu": "vcpu-pin context",
        "scheduler": "sched-credit sched-credit2 sched-rtds",
        "pool": (
            "cpupool-list cpupool-create cpupool-numa-split cpupool-destroy cpupool-rename cpupool-cpu-add "
            "cpupool-cpu-remove cpupool-migrate"
        ),
    },
    "memory": {"memory": "frames", "map": "map", "dirty": "dirty", "debug": "gdb drgn memory-server"},
    "host": {
        "host": "info dmesg debug-keys set-parameters",
        "hypervisor": "perf lockprof hypfs livepatch cpu-policy",
        "power": "pm",
        "doctor": "doctor",
    },
    "numbers": {"stats": "stats", "exporter": "exporter", "trace": "trace"},
    "security": {"policy": "getenforce setenforce loadpolicy get-bool set-bool", "label": "label"},
    "xenstore": {"store": "store"},
    "files": {"file": "inspect verify", "stream": "stream", "core": "core"},
    "to begin with": {"demo": "demo", "shell": "shell", "simulate": "sim"},
}
"""The headings of the help, the modules under them, and the first words of the commands that each adds."""

TOPICS = {topic: names for topics in SECTIONS.values() for topic, names in topics.items()}
NAMES = tuple(name for names in TOPICS.values() for name in names.split())


def build(words: Sequence[str] | None = None) -> Program:
    """The command line: whole, or as much of it as these words ask for."""
    program = Program()
    for topic in TOPICS if words is None else _wanted(words, program.command_of(words)):
        import_module(f"pyxc.cli.commands.{topic}").add(program)
    program.parser.ending = lambda: _ending(program)
    return program


def _ending(program: Program) -> str:
    """What --help ends with: all commands by topic, units, simulated hosts and examples."""
    from pyxc import sim
    from pyxc.cli import overview

    def rows(topics: dict[str, str]) -> list[tuple[str, str]]:
        names = " ".join(topics.values()).split()
        return [(name, program.parser.commands[name].description or "") for name in names]

    listed = overview.commands({heading: rows(topics) for heading, topics in SECTIONS.items()})
    targets = " ".join(target.removeprefix("sim:") for target in sim.PROFILES)
    return "\n".join([*listed, overview.END.format(targets=overview.filled(targets))])


def _wanted(words: Sequence[str], command: str | None) -> Iterable[str]:
    """The topic of a command; all for the help, none for what is no command and without one."""
    if command is None:
        return TOPICS if {"-h", "--help"}.intersection(words) else ()
    return [topic for topic, commands in TOPICS.items() if command in commands.split()]
