# SPDX-License-Identifier: MIT
"""Xen's Python modules, as far as pyxc has them: xen.lowlevel. Others of a package xen stay importable."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
