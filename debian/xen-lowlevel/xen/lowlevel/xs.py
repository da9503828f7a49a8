# SPDX-License-Identifier: MIT
"""See pyxc.compat.xs."""

from pyxc.compat.xs import Error, xs

__all__ = ["Error", "xs"]
