# SPDX-License-Identifier: MIT
"""One side of bench.overhead: python3 -m bench.overhead_side SIDE DIRECTORY CALL=TIMES...

Makes each call so many times, and twice as many, with a mark for callgrind after either. SIDE is "pyxc", or
"xc" for the module xen.lowlevel.xc in DIRECTORY.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress

Calls = dict[str, Callable[[], object]]
WARM_UP = 20


def of_pyxc() -> Calls:
    import pyxc
    from bench.in_dom0 import describe, open_and_ask
    from pyxc.abi import version

    xen = pyxc.open(names=False)
    return {
        "call": lambda: xen.call(version.VERSION),
        "information": lambda: describe(xen),
        "info": xen.domains[0].info,
        "physinfo": xen.physinfo,
        "list": xen.domains.infos,
        "open": lambda: pyxc.open().close(),
        "open and ask": open_and_ask,
    }


def of_xc(directory: str) -> Calls:
    sys.path.append(directory)
    module = importlib.import_module("xen.lowlevel.xc")
    xc = module.xc()
    return {
        "xeninfo": xc.xeninfo,
        "getinfo": lambda: xc.domain_getinfo(0, 1),
        "physinfo": xc.physinfo,
        "list": xc.domain_getinfo,
        "open": module.xc,
        "open and ask": lambda: module.xc().domain_getinfo(0, 1),
    }


def mark(name: str) -> None:
    """Have callgrind write what it has counted since the last mark; see fake_privcmd.c."""
    with suppress(OSError):
        os.close(os.open(f"/dev/xen/mark-{name}", os.O_RDONLY))


def main(side: str, directory: str, *wanted: str) -> None:
    calls = of_pyxc() if side == "pyxc" else of_xc(directory)
    for name, times in (word.split("=") for word in wanted):
        call = calls[name]
        for _ in range(WARM_UP):
            call()
        mark("ready")
        for number in (1, 2):
            for _ in range(number * int(times)):
                call()
            mark(f"{name}-{number}")


if __name__ == "__main__":
    main(*sys.argv[1:])
