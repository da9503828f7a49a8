# SPDX-License-Identifier: MIT
"""What the simulated hypervisor does with each operation; one file for each of pyxc.abi."""
