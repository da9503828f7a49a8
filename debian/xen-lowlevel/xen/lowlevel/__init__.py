# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc and xen.lowlevel.xs, which are pyxc.compat's."""

from xen.lowlevel import xc, xs

__all__ = ["xc", "xs"]
