# SPDX-License-Identifier: MIT
"""Guests from the inside of their memory: what Xen calls libxenguest."""
