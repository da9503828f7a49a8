#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A cpu pool as it should be."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: cpupool
short_description: Cpu pools of a Xen host
description:
  - Makes a cpu pool with a scheduler and cpus, changes its cpus, or removes it. Cpus must be free.
options:
  name:
    description: Its name.
    type: str
    required: true
  state:
    description: Whether it should be there. One that has domains is not removed.
    type: str
    choices: [present, absent]
    default: present
  scheduler:
    description: The scheduler of a new pool; the one of an existing pool stays, and another is an error.
    type: str
  cpus:
    description: Exactly these physical cpus. Without, those of an existing pool stay.
    type: list
    elements: int
  executable:
    description: The pyxc command.
    type: str
    default: pyxc
author: [pyxc contributors (@pyxc)]
"""

EXAMPLES = r"""
- name: Two cpus for what is in a hurry
  pyxc.xen.cpupool:
    name: fast
    scheduler: rtds
    cpus: [6, 7]
"""

RETURN = r"""
commands:
  description: What was done, or in check mode would be.
  type: list
  elements: list
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyxc.xen.plugins.module_utils.pyxc import (
    EXECUTABLE,
    asker,
    carry_out,
    pool_steps,
)


def main():
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "scheduler": {"type": "str"},
            "cpus": {"type": "list", "elements": "int"},
            **EXECUTABLE,
        },
        supports_check_mode=True,
    )
    wanted = module.params
    ask = asker(module)
    found = [pool for pool in ask("cpupool-list")["pools"] if pool["name"] == wanted["name"]]
    now = found[0] if found else None
    try:
        steps = pool_steps(now, wanted["name"], wanted["state"], wanted["scheduler"], wanted["cpus"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    before = {"cpus": now["cpus"], "scheduler": now["scheduler"]} if now else {}
    after = dict(before)
    if wanted["state"] == "absent":
        after = {}
    elif steps:
        after["scheduler"] = wanted["scheduler"] or before.get("scheduler")
        after["cpus"] = before.get("cpus", []) if wanted["cpus"] is None else sorted(wanted["cpus"])
    carry_out(module, ask, steps, before, after)


if __name__ == "__main__":
    main()
