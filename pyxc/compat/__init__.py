# SPDX-License-Identifier: MIT
"""xen.lowlevel for programs that were written for Xen's own Python bindings, which they then do without.

`install()` at their start, or `python3 -m pyxc.compat run PROGRAM` without a change of them. Which hypervisor
they find, the real one or a simulated one, PYXC_TARGET of the environment says.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

_MODULES = ("xc", "xs")


class _Elsewhere(Sequence[str]):
    """Where other modules of a package xen are, by sys.path as it is when one of them is imported."""

    def _places(self) -> list[str]:
        found = PathFinder.find_spec("xen")
        return list(found.submodule_search_locations or ()) if found else []

    def __iter__(self) -> Iterator[str]:
        return iter(self._places())

    def __getitem__(self, index: Any) -> Any:
        return self._places()[index]

    def __len__(self) -> int:
        return len(self._places())


def install() -> None:
    """From now on `import xen.lowlevel.xc` and `import xen.lowlevel.xs` find pyxc, in this process.

    Other modules of a package xen that is on sys.path, now or later, stay importable.
    """
    package, lowlevel = ModuleType("xen"), ModuleType("xen.lowlevel")
    lowlevel.__path__ = []
    vars(package).update(__path__=_Elsewhere(), lowlevel=lowlevel)
    sys.modules.update({"xen": package, "xen.lowlevel": lowlevel})
    for name in _MODULES:
        if importlib.util.find_spec(f"{__name__}.{name}"):
            module = importlib.import_module(f"{__name__}.{name}")
            setattr(lowlevel, name, module)
            sys.modules[f"xen.lowlevel.{name}"] = module
