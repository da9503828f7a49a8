#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A domain in a state."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: domain
short_description: Build, start, pause and end domains of a Xen host
description:
  - Brings a domain into a state, with the pyxc command of its dom0. Nothing happens to one that has it.
options:
  name:
    description: Its name.
    type: str
    required: true
  state:
    description:
      - C(present) builds and starts it where it is not there; C(running) and C(paused) see to that as well.
      - C(absent) asks the guest to shut down, and then destroys the domain.
      - C(saved) writes the guest to I(file) and ends it. C(running) and C(paused) restore it from there, and
        remove the file, because its disks go on.
    type: str
    choices: [present, running, paused, absent, saved]
    default: running
  config:
    description: A configuration file on the host, as in xl.cfg(5), to build it from; its name is I(name).
    type: path
  file:
    description: Where the guest is saved, on the host.
    type: path
  force:
    description: Destroy it without asking the guest.
    type: bool
    default: false
  timeout:
    description: Seconds that the guest may take to shut down, or to suspend for C(saved).
    type: int
    default: 60
  executable:
    description: The pyxc command.
    type: str
    default: pyxc
author: [pyxc contributors (@pyxc)]
"""

EXAMPLES = r"""
- name: The web server runs
  pyxc.xen.domain:
    name: web1
    state: running
    config: /etc/xen/web1.cfg

- name: The database sleeps while its host is repaired
  pyxc.xen.domain:
    name: db1
    state: saved
    file: /var/lib/xen/save/db1

- name: The old one has gone
  pyxc.xen.domain:
    name: web0
    state: absent
    timeout: 300
"""

RETURN = r"""
state:
  description: Its state in the end.
  type: str
  returned: always
commands:
  description: What was done, or in check mode would be.
  type: list
  elements: list
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyxc.xen.plugins.module_utils.pyxc import (
    EXECUTABLE,
    asker,
    domain_named,
    domain_steps,
    state_of,
)


def main():
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "state": {
                "type": "str", "default": "running",
                "choices": ["present", "running", "paused", "absent", "saved"],
            },
            "config": {"type": "path"},
            "file": {"type": "path"},
            "force": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
            **EXECUTABLE,
        },
        supports_check_mode=True,
    )  # fmt: skip
    wanted = module.params
    ask = asker(module)
    file = wanted["file"]
    before = state_of(domain_named(ask, wanted["name"]))
    if before == "absent" and wanted["state"] != "absent" and file and os.path.exists(file):
        before = "saved"
    try:
        steps, after = domain_steps(
            before,
            wanted["state"],
            wanted["name"],
            wanted["config"],
            wanted["force"],
            wanted["timeout"],
            file,
        )
    except ValueError as error:
        module.fail_json(msg=str(error))
    if not module.check_mode:
        for words in steps:
            ask(*words)
        if before == "saved" and steps:
            os.remove(file)
    diff = {"before": {"state": before}, "after": {"state": after}}
    module.exit_json(changed=bool(steps), state=after, commands=steps, diff=diff)


if __name__ == "__main__":
    main()
