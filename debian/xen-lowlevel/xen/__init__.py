# SPDX-License-Identifier: MIT
"""Xen's Python modules, as far as pyxc has them: xen.lowlevel."""
