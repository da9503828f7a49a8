# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guests of dom0s as an inventory."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
name: guests
short_description: Guests of Xen hosts
description:
  - Asks dom0s over ssh for their domains, by their pyxc command, and lists the guests with what xenstore says
    of their addresses. A dom0 that does not answer is left out with a warning.
options:
  plugin:
    description: C(pyxc.xen.guests).
    required: true
    choices: [pyxc.xen.guests]
  hosts:
    description: Dom0s, as ssh knows them; C(localhost) is asked without ssh.
    type: list
    elements: str
    required: true
  executable:
    description: The pyxc command of a dom0.
    type: str
    default: pyxc
  ssh_arguments:
    description: More arguments of ssh, such as C(-F) and a configuration file.
    type: list
    elements: str
    default: []
  ssh_timeout:
    description: Seconds that a dom0 may take to answer.
    type: int
    default: 10
"""

EXAMPLES = r"""
# guests.pyxc.yml
plugin: pyxc.xen.guests
hosts: [xen1.example, xen2.example]
"""

import json
import subprocess

from ansible.plugins.inventory import BaseInventoryPlugin


class InventoryModule(BaseInventoryPlugin):
    NAME = "pyxc.xen.guests"

    def verify_file(self, path):
        """Files that end in pyxc.yml."""
        return super(InventoryModule, self).verify_file(path) and path.endswith(("pyxc.yml", "pyxc.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super(InventoryModule, self).parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.inventory.add_group("xen_hosts")
        for host in self.get_option("hosts"):
            self.inventory.add_host(host, group="xen_hosts")
            try:
                domains = self._ask(host, "list")["domains"]
            except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
                self.display.warning("%s is left out: %s" % (host, error))
                continue
            group = self.inventory.add_group("guests_of_" + "".join(c if c.isalnum() else "_" for c in host))
            for domain in domains:
                if domain["domid"] and domain["name"] and "dying" not in domain["flags"]:
                    self._add(host, group, domain)

    def _add(self, host, group, domain):
        name = domain["name"]
        self.inventory.add_host(name, group=group)
        self.inventory.add_host(name, group=self.inventory.add_group("xen_guests"))
        for key in ("domid", "uuid", "type", "memory_kb", "vcpus", "flags"):
            self.inventory.set_variable(name, "xen_" + key, domain[key])
        self.inventory.set_variable(name, "xen_host", host)
        address = self._address(host, domain["domid"])
        if address:
            self.inventory.set_variable(name, "ansible_host", address)

    def _address(self, host, domid):
        """What the guest's agent has written of its first interface, if anything."""
        for path in ("attr/vif/0/ipv4/0", "attr/eth0/ip", "attr/vif/0/ipv6/0"):
            try:
                found = self._ask(host, "store", "read", "/local/domain/%d/%s" % (domid, path))
            except (OSError, ValueError, subprocess.SubprocessError):
                continue
            values = [node.get("value") for node in found.get("nodes", ())]
            if values and values[0]:
                return values[0]
        return None

    def _ask(self, host, *words):
        """An object that the pyxc command of a dom0 prints."""
        command = [self.get_option("executable"), "--json"] + list(words)
        if host != "localhost":
            ssh = ["ssh", "-o", "BatchMode=yes"] + self.get_option("ssh_arguments")
            command = ssh + [host, "--"] + command
        timeout = self.get_option("ssh_timeout")
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
        return json.loads(done.stdout)
