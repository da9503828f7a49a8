# SPDX-License-Identifier: MIT
"""The way of a call: how an operation becomes a hypercall, and an answer a record."""
