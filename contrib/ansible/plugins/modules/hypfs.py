#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A value of Xen's own file system."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: hypfs
short_description: Run-time parameters of a Xen host
description:
  - Sets an entry of Xen's file system (hypfs, Xen 4.14 and later), such as a run-time parameter.
options:
  path:
    description: Its path, such as C(/params/loglvl).
    type: str
    required: true
  value:
    description: Its value; C(1) and C(0) for what is on or off.
    type: str
    required: true
  executable:
    description: The pyxc command.
    type: str
    default: pyxc
author: [pyxc contributors (@pyxc)]
"""

EXAMPLES = r"""
- name: Xen logs more
  pyxc.xen.hypfs:
    path: /params/loglvl
    value: all
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
    hypfs_steps,
)


def main():
    module = AnsibleModule(
        {
            "path": {"type": "str", "required": True},
            "value": {"type": "str", "required": True},
            **EXECUTABLE,
        },
        supports_check_mode=True,
    )
    path, wanted = module.params["path"], module.params["value"]
    ask = asker(module)
    now = ask("hypfs", "cat", path)["value"]
    carry_out(module, ask, hypfs_steps(path, now, wanted), {"value": now}, {"value": wanted})


if __name__ == "__main__":
    main()
