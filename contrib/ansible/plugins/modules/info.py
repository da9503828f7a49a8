#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of a Xen host."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: info
short_description: Facts of a Xen host, its domains and cpu pools
description:
  - Asks the pyxc command of a dom0, with every release of Xen, without XAPI and libvirt. It changes nothing.
options:
  executable:
    description: The pyxc command.
    type: str
    default: pyxc
author: [pyxc contributors (@pyxc)]
"""

EXAMPLES = r"""
- name: What is there
  pyxc.xen.info:
  register: xen

- ansible.builtin.debug:
    msg: "{{ xen.domains | map(attribute='name') | list }} on Xen {{ xen.host.xen_version }}"
"""

RETURN = r"""
host:
  description: Version, cpus and memory, as C(pyxc --json info) has them.
  type: dict
  returned: always
domains:
  description: Domains, as C(pyxc --json list) has them.
  type: list
  elements: dict
  returned: always
pools:
  description: Cpu pools, as C(pyxc --json cpupool-list) has them.
  type: list
  elements: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pyxc.xen.plugins.module_utils.pyxc import asker


def main():
    module = AnsibleModule({"executable": {"type": "str", "default": "pyxc"}}, supports_check_mode=True)
    ask = asker(module)
    host = ask("info")
    host.pop("schema", None)
    module.exit_json(
        changed=False, host=host, domains=ask("list")["domains"], pools=ask("cpupool-list")["pools"]
    )


if __name__ == "__main__":
    main()
