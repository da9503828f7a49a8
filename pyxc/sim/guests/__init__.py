# SPDX-License-Identifier: MIT
"""Guests that live on a simulated host."""
