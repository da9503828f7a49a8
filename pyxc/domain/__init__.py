# SPDX-License-Identifier: MIT
"""Domains: their identity, and everything that can be read from and done to each."""
