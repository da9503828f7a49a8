# SPDX-License-Identifier: MIT
"""The files that pyxc writes, and what it notes beside their contents."""
