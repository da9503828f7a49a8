# SPDX-License-Identifier: MIT
"""All commands: each is added by the module of its topic, which is imported when it is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module

from pyxc.cli.parser import Program

TOPICS = {
    "list": "list claims vcpu-list",
    "top": "top",
    "stats": "stats",
    "exporter": "exporter",
    "domain": "pause unpause destroy trigger create-empty mem-max dump-core",
    "create": "create",
    "guest": "shutdown reboot sysrq vcpu-set mem-set domid domname rename",
    "console": "console",
    "vcpu": "vcpu-pin context",
    "memory": "frames",
    "scheduler": "sched-credit sched-credit2 sched-rtds",
    "pool": (
        "cpupool-list cpupool-create cpupool-destroy cpupool-rename cpupool-cpu-add cpupool-cpu-remove "
        "cpupool-migrate"
    ),
    "host": "info dmesg debug-keys",
    "hypervisor": "perf hypfs livepatch cpu-policy",
    "policy": "getenforce setenforce loadpolicy get-bool set-bool",
    "store": "store",
    "label": "label",
    "file": "inspect verify",
    "stream": "stream",
    "doctor": "doctor",
    "demo": "demo",
}
"""The first words of the commands that each module adds, in the order of the help."""


def build(words: Sequence[str] | None = None) -> Program:
    """The command line: whole, or as much of it as these words ask for."""
    program = Program()
    for topic in TOPICS if words is None else _wanted(words, program.command_of(words)):
        import_module(f"pyxc.cli.commands.{topic}").add(program)
    return program


def _wanted(words: Sequence[str], command: str | None) -> Iterable[str]:
    """The topic of a command; all for the help and a word that is no command, none without a command."""
    if command is None and not {"-h", "--help"}.intersection(words):
        return ()
    return [topic for topic, commands in TOPICS.items() if command in commands.split()] or TOPICS
