# SPDX-License-Identifier: MIT
"""All commands, put together."""

from __future__ import annotations

from pyxc.cli import (
    demo,
    domain_commands,
    file_commands,
    host_commands,
    hypervisor_commands,
    label_commands,
    listing,
    memory_commands,
    policy_commands,
    pool_commands,
    scheduler_commands,
    store_commands,
    top,
    vcpu_commands,
)
from pyxc.cli.parser import Program


def build() -> Program:
    """The whole command line, as the help shows it."""
    program = Program()
    for module in (
        listing, top, domain_commands, vcpu_commands, memory_commands, scheduler_commands, pool_commands,
        host_commands, hypervisor_commands, policy_commands, store_commands, label_commands, file_commands,
        demo,
    ):  # fmt: skip
        module.add(program)
    return program
