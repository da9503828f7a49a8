#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A few lines for Python-Xen 0.0.3 (pyxen, of the Python package index), which is a library for such modules.

with_pyxen.py                    one line of JSON: the hypervisor and its domains
with_pyxen.py ACTION NAME        pause, shutdown, reboot or destroy a domain
"""

import json
import sys

import pyxen


def main(words):
    session = pyxen.Session()
    if words:
        action, name = words
        domain = session.find_domain(name.encode())
        return domain.state() if getattr(domain, action)() is None else None
    hypervisor = session.Hypervisor()
    info = hypervisor.info()
    return {
        "info": {key: info[key] for key in ("nr_cpus", "free_memory", "xen_major", "xen_minor", "virt_caps")},
        "dmesg": len(hypervisor.dmesg()),
        "domains": {domain.domid: [domain.name.decode(), domain.state()] for domain in session.domain_list()},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
