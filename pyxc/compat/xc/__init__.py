# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc, for programs that were written for libxc's Python binding.

The names, arguments, results and errors are those of the binding of Xen 4.15 to 4.22, whatever release runs;
its bugs are not: docs/from-xen-lowlevel.md lists them. The methods act on whatever domain has an id at the
moment. Programs that can choose find more in pyxc.
"""

from __future__ import annotations

from pyxc.abi.domctl import Scheduler
from pyxc.compat.xc.base import Error
from pyxc.compat.xc.building import Building
from pyxc.compat.xc.devices import Devices
from pyxc.compat.xc.domains import Domains
from pyxc.compat.xc.flask import Flask
from pyxc.compat.xc.gone import Gone
from pyxc.compat.xc.host import Host
from pyxc.compat.xc.memory import Memory
from pyxc.compat.xc.scheduling import Scheduling

__all__ = ["XEN_SCHEDULER_CREDIT", "XEN_SCHEDULER_CREDIT2", "XEN_SCHEDULER_SEDF", "Error", "xc"]

XEN_SCHEDULER_SEDF = int(Scheduler.SEDF)
"""To Xen 4.5; xend compares with it."""
XEN_SCHEDULER_CREDIT = int(Scheduler.CREDIT)
XEN_SCHEDULER_CREDIT2 = int(Scheduler.CREDIT2)


class xc(Domains, Building, Memory, Host, Devices, Scheduling, Flask, Gone):
    """An open hypervisor: this host's, or the one that PYXC_TARGET names. Threads: safe to share.

    Every method raises Error when it fails, TypeError and OverflowError for arguments that C would not take.
    """
