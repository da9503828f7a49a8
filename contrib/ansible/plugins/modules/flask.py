#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The security policy in force."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: flask
short_description: The security policy (FLASK) of a Xen host
description:
  - Enforces the security policy or not, and sets its booleans.
options:
  enforcing:
    description: Whether what it forbids is refused, not only logged. Without, this stays.
    type: bool
  booleans:
    description: Names of booleans, and whether each is on. Others stay.
    type: dict
    default: {}
  executable:
    description: The pyxc command.
    type: str
    default: pyxc
author: [pyxc contributors (@pyxc)]
"""

EXAMPLES = r"""
- name: Guests must not write to Xen's console
  pyxc.xen.flask:
    enforcing: true
    booleans: {guest_writeconsole: false}
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
    flask_steps,
)


def main():
    module = AnsibleModule(
        {
            "enforcing": {"type": "bool"},
            "booleans": {"type": "dict", "default": {}},
            **EXECUTABLE,
        },
        supports_check_mode=True,
    )
    ask = asker(module)
    now = {
        "enforcing": ask("getenforce")["enforcing"],
        "booleans": {one["name"]: one["value"] for one in ask("get-bool")["booleans"]},
    }
    try:
        booleans = {name: module.boolean(value) for name, value in module.params["booleans"].items()}
        steps = flask_steps(now, module.params["enforcing"], booleans)
    except (TypeError, ValueError) as error:
        module.fail_json(msg=str(error))
    wanted = module.params["enforcing"]
    after = {
        "enforcing": now["enforcing"] if wanted is None else wanted,
        "booleans": dict(now["booleans"], **booleans),
    }
    carry_out(module, ask, steps, now, after)


if __name__ == "__main__":
    main()
