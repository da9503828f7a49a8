# SPDX-License-Identifier: MIT
"""Domains: who they are, and what can be asked of and done to each."""
