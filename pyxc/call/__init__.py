# SPDX-License-Identifier: MIT
"""The path of a call: from an operation to a hypercall, and from its result to a record."""
