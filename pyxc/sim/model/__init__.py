# SPDX-License-Identifier: MIT
"""The state of a simulated host."""
