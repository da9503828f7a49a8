#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A live patch of the hypervisor."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: livepatch
short_description: Live patches of a Xen host
description:
  - Uploads, applies, reverts or removes a live patch of the running hypervisor.
  - Only the patch that was applied last can be reverted.
options:
  name:
    description: Its name.
    type: str
    required: true
  file:
    description: The patch, on the host, to upload it from.
    type: path
  state:
    description: C(checked) is uploaded, and not applied.
    type: str
    choices: [applied, checked, absent]
    default: applied
  executable:
    description: The pyxc command.
    type: str
    default: pyxc
author: [pyxc contributors (@pyxc)]
"""

EXAMPLES = r"""
- name: A hole is closed without a reboot
  pyxc.xen.livepatch:
    name: xsa-500
    file: /usr/lib/xen/xsa-500.livepatch
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
    livepatch_steps,
)


def main():
    module = AnsibleModule(
        {
            "name": {"type": "str", "required": True},
            "file": {"type": "path"},
            "state": {"type": "str", "default": "applied", "choices": ["applied", "checked", "absent"]},
            **EXECUTABLE,
        },
        supports_check_mode=True,
    )
    name, wanted = module.params["name"], module.params["state"]
    ask = asker(module)
    states = {patch["name"]: patch["state"] for patch in ask("livepatch", "list")["livepatches"]}
    now = states.get(name, "absent")
    try:
        steps = livepatch_steps(name, now, wanted, module.params["file"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    carry_out(module, ask, steps, {"state": now}, {"state": wanted})


if __name__ == "__main__":
    main()
