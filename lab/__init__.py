# SPDX-License-Identifier: MIT
"""The lab: real Xen in QEMU, on an ordinary Debian machine.

``python3 -m lab`` boots each hypervisor that config.py declares, with a Debian dom0, and runs tests/real in
dom0. Other programs boot machines with :func:`lab.vm.run`::

    boot = vm.Boot(config.XEN_4_17_AMD64, packages.archives("amd64"), {Path("probe.py"): "/root/probe.py"})
    result = vm.run(boot, "python3 /root/probe.py > /results/probe.json")
    if result.outcome is vm.Outcome.PASSED:
        print(result.files["probe.json"])
"""
