# SPDX-License-Identifier: MIT
"""Metrics of a Xen host for Prometheus: what is measured, in its text format, and ways to hand it over.

>>> from pyxc.metrics import Exporter
>>> exporter = Exporter(pyxc.open("sim:xen-4.17", readonly=True))
>>> print(exporter.render())
# HELP ...
"""

from __future__ import annotations

from pyxc.metrics.exporter import Exporter
from pyxc.metrics.family import Family
from pyxc.metrics.listening import Refused, activated, on_loopback, on_path
from pyxc.metrics.privileges import drop_root
from pyxc.metrics.server import serve
from pyxc.metrics.steal import StealMeter
from pyxc.metrics.textfile import write_textfile

__all__ = [
    "Exporter",
    "Family",
    "Refused",
    "StealMeter",
    "activated",
    "drop_root",
    "on_loopback",
    "on_path",
    "serve",
    "write_textfile",
]
