#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a domain gets of the processors."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: scheduler
short_description: Weights and caps of domains of a Xen host
description:
  - Sets the weight and the cap of a domain under the schedulers credit2 and credit.
options:
  name:
    description: The domain's name.
    type: str
    required: true
  scheduler:
    description: The scheduler of its cpu pool.
    type: str
    choices: [credit2, credit]
    default: credit2
  weight:
    description: Its share relative to other domains. Without, it stays.
    type: int
  cap:
    description: The most processor time, in percent of a processor; 0 is no limit. Without, it stays.
    type: int
  executable:
    description: The pyxc command.
    type: str
    default: pyxc
author: [pyxc contributors (@pyxc)]
"""

EXAMPLES = r"""
- name: The backup may use half a processor
  pyxc.xen.scheduler:
    name: backup
    weight: 64
    cap: 50
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
    scheduler_steps,
)


def main():
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "scheduler": {"type": "str", "default": "credit2", "choices": ["credit2", "credit"]},
            "weight": {"type": "int"},
            "cap": {"type": "int"},
            **EXECUTABLE,
        },
        supports_check_mode=True,
    )
    wanted = module.params
    ask = asker(module)
    (now,) = ask("sched-" + wanted["scheduler"], "--domain", wanted["name"])["domains"]
    before = {"weight": now["weight"], "cap": now["cap"]}
    steps, change = scheduler_steps(
        wanted["scheduler"], wanted["name"], before, {key: wanted[key] for key in before}
    )
    carry_out(module, ask, steps, before, dict(before, **change))


if __name__ == "__main__":
    main()
