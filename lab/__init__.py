# SPDX-License-Identifier: MIT
"""The lab: real Xen in QEMU, on a plain Debian machine.

``python3 -m lab`` boots every hypervisor that config.py declares, each with a Debian dom0, and runs
tests/real inside. Other programs use the same machine through one call, :func:`lab.vm.run`::

    boot = vm.Boot(config.XEN_4_17_AMD64, packages.archives("amd64"), {Path("probe.py"): "/root/probe.py"})
    result = vm.run(boot, "python3 /root/probe.py > /results/probe.json")
    if result.outcome is vm.Outcome.PASSED:
        print(result.files["probe.json"])
"""
