#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node of xenstore."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: store
short_description: Nodes of xenstore on a Xen host
description:
  - Gives a node of xenstore a value, or removes it with everything below it.
options:
  path:
    description: Its absolute path.
    type: str
    required: true
  value:
    description: Its value, for C(present).
    type: str
    default: ""
  state:
    description: Whether it should exist.
    type: str
    choices: [present, absent]
    default: present
  executable:
    description: The pyxc command.
    type: str
    default: pyxc
author: [pyxc contributors (@pyxc)]
"""

EXAMPLES = r"""
- name: Backups know when the last one ended
  pyxc.xen.store:
    path: /tool/backup/last
    value: "2026-11-25"
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
    store_steps,
)


def main():
    module = AnsibleModule(
        {
            "path": {"type": "str", "required": True},
            "value": {"type": "str", "default": ""},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            **EXECUTABLE,
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    wanted = module.params["value"] if module.params["state"] == "present" else None
    ask = asker(module)
    (node,) = ask("store", "exists", path, missing={"nodes": [{"exists": False}]})["nodes"]
    now = ask("store", "read", path)["nodes"][0]["value"] if node["exists"] else None
    carry_out(module, ask, store_steps(path, now, wanted), {"value": now}, {"value": wanted})


if __name__ == "__main__":
    main()
