# SPDX-License-Identifier: MIT
"""All commands, put together."""

from __future__ import annotations

from pyxc.cli.commands import (
    demo,
    domain,
    file,
    guest,
    host,
    hypervisor,
    label,
    list,
    memory,
    policy,
    pool,
    scheduler,
    store,
    stream,
    top,
    vcpu,
)
from pyxc.cli.parser import Program


def build() -> Program:
    """The whole command line, as the help shows it."""
    program = Program()
    for module in (
        list, top, domain, guest, vcpu, memory, scheduler, pool,
        host, hypervisor, policy, store, label, file, stream,
        demo,
    ):  # fmt: skip
        module.add(program)
    return program
