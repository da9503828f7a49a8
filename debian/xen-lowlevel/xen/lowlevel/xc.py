# SPDX-License-Identifier: MIT
"""See pyxc.compat.xc."""

from pyxc.compat.xc import XEN_SCHEDULER_CREDIT, XEN_SCHEDULER_CREDIT2, XEN_SCHEDULER_SEDF, Error, xc

__all__ = ["XEN_SCHEDULER_CREDIT", "XEN_SCHEDULER_CREDIT2", "XEN_SCHEDULER_SEDF", "Error", "xc"]
