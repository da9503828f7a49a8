# SPDX-License-Identifier: MIT
"""The lab: real Xen in QEMU, on a plain Debian machine.

``python3 -m lab`` boots every hypervisor that config.py declares, each with a Debian dom0, and runs tests/real
inside. Other programs (bench/) use the same machine through one call, :func:`lab.vm.run`.
"""
