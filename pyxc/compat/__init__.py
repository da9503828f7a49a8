# SPDX-License-Identifier: MIT
"""xen.lowlevel for programs that were written for Xen's own Python bindings, which they then do without.

`install()` at their start, or `python3 -m pyxc.compat run PROGRAM` without a change of them. Which hypervisor
they find, the real one or a simulated one, PYXC_TARGET of the environment says.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

_MODULES = ("xc", "xs")


def install() -> None:
    """From now on `import xen.lowlevel.xc` and `import xen.lowlevel.xs` find pyxc, in this process.

    Other modules of a package xen that is installed stay importable.
    """
    found = importlib.util.find_spec("xen")
    package, lowlevel = ModuleType("xen"), ModuleType("xen.lowlevel")
    package.__path__ = list(found.submodule_search_locations or []) if found else []
    lowlevel.__path__ = []
    setattr(package, "lowlevel", lowlevel)  # noqa: B010
    sys.modules.update({"xen": package, "xen.lowlevel": lowlevel})
    for name in _MODULES:
        if importlib.util.find_spec(f"{__name__}.{name}"):
            module = importlib.import_module(f"{__name__}.{name}")
            setattr(lowlevel, name, module)
            sys.modules[f"xen.lowlevel.{name}"] = module
