# SPDX-License-Identifier: MIT
"""The benchmark: pyxc, xen.lowlevel.xc and C on libxenctrl, side by side in one dom0 of a real Xen.

``python3 -m bench`` (__main__.py) builds the sides and boots; in_dom0.py measures there, with peer.c as
the C side and a guest of guest.py; report.py makes tables of the numbers and knows the goals.
"""
