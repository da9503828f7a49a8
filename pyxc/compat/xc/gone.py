# SPDX-License-Identifier: MIT
"""Methods of xen.lowlevel.xc in earlier releases that no longer exist, and the reasons.

xend of Xen 4.1 calls all of these.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, SupportsIndex

from pyxc.compat.xc import base as c
from pyxc.compat.xc.base import Handle, failed, raises_error

_BUILDER = "pyxc does not build HVM guests; the original removed it in Xen 4.7"
_CPUID = "since Xen 4.13 cpuid settings are lists of leaves, not strings of bits"
_SEDF = "the sedf scheduler was removed in Xen 4.6"
_TMEM = "transcendent memory (tmem) was removed in Xen 4.13"
_IA64 = "it was for ia64, which Xen dropped in 4.2"


_GONE = {
    "hvm_build": _BUILDER,
    "domain_set_cpuid": _CPUID,
    "domain_check_cpuid": _CPUID,
    "domain_disable_migrate": "Xen 4.15 removed this flag: keep it in the toolstack",
    "domain_set_machine_address_size": "Xen 4.13 removed limits on the machine addresses of domains",
    "domain_suppress_spurious_page_faults": "Xen 4.13 removed this workaround for guests of 2009",
    "sedf_domain_get": _SEDF,
    "sedf_domain_set": _SEDF,
    "tmem_control": _TMEM,
    "tmem_shared_auth": _TMEM,
    "tmem_auth": _TMEM,
    "nvram_init": _IA64,
    "set_os_type": _IA64,
}


@raises_error
class Gone(Handle):
    """The removed methods."""

    def domain_set_policy_cpuid(self, dom: SupportsIndex, /) -> int:
        """Give a domain the usual cpuid settings: Xen itself has done that since 4.13, so nothing is left.

         dom [int]: the domain's id

        Returns: [int] 0.
        """
        self._domain(c.domid(dom))
        return 0


def _gone(name: str, reason: str) -> Callable[..., Any]:
    """A removed method: whatever its arguments, it raises Error (ENOSYS) with the reason."""

    def method(self: Handle, *_: object, **__: object) -> Any:
        raise failed(errno.ENOSYS, f"{name}: {reason}")

    method.__name__, method.__qualname__ = name, f"Gone.{name}"
    method.__doc__ = f"Raise Error (ENOSYS): {reason}."
    return method


for _name, _reason in _GONE.items():
    setattr(Gone, _name, _gone(_name, _reason))
