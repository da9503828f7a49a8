# SPDX-License-Identifier: MIT
"""The check of the security policy before each domctl: a class of objects, and a permission.

As Xen's own hooks ask (flask_domctl in xsm/flask/hooks.c); the object is the domain. Creation asks itself.
"""

from __future__ import annotations

from typing import Final

from pyxc.abi import cpu_policy, domctl, domctl_debug, domctl_hvm, domctl_paging, domctl_tsc
from pyxc.abi.operation import Operation

GUARDS: Final[dict[Operation, tuple[str, str]]] = {
    domctl.DESTROYDOMAIN: ("domain", "destroy"),
    domctl.PAUSEDOMAIN: ("domain", "pause"),
    domctl.UNPAUSEDOMAIN: ("domain", "unpause"),
    domctl.RESUMEDOMAIN: ("domain", "resume"),
    domctl.MAX_MEM: ("domain", "setdomainmaxmem"),
    domctl.MAX_VCPUS: ("domain", "max_vcpus"),
    domctl.SETDOMAINHANDLE: ("domain", "setdomainhandle"),
    domctl.SETVCPUAFFINITY: ("domain", "setaffinity"),
    domctl.GETVCPUAFFINITY: ("domain", "getaffinity"),
    domctl.SETNODEAFFINITY: ("domain", "setnodeaffinity"),
    domctl.GETNODEAFFINITY: ("domain", "getnodeaffinity"),
    domctl.GETVCPUINFO: ("domain", "getvcpuinfo"),
    domctl.SETVCPUCONTEXT: ("domain", "setvcpucontext"),
    domctl.GETVCPUCONTEXT: ("domain", "getvcpucontext"),
    domctl.SET_ADDRESS_SIZE: ("domain", "setaddrsize"),
    domctl.GET_ADDRESS_SIZE: ("domain", "getaddrsize"),
    domctl.HYPERCALL_INIT: ("domain", "hypercall"),
    domctl.GETPAGEFRAMEINFO3: ("mmu", "pageinfo"),
    domctl.SETDEBUGGING: ("domain", "setdebugging"),
    domctl_debug.DEBUG_OP: ("domain", "setdebugging"),
    domctl_debug.GDBSX_PAUSEVCPU: ("domain", "setdebugging"),
    domctl_debug.GDBSX_UNPAUSEVCPU: ("domain", "setdebugging"),
    domctl_debug.GDBSX_DOMSTATUS: ("domain", "setdebugging"),
    domctl.SETTIMEOFFSET: ("domain", "settime"),
    domctl.SENDTRIGGER: ("domain", "trigger"),
    domctl_hvm.GETHVMCONTEXT: ("hvm", "gethvmc"),
    domctl_hvm.GETHVMCONTEXT_PARTIAL: ("hvm", "gethvmc"),
    domctl_hvm.SETHVMCONTEXT: ("hvm", "sethvmc"),
    domctl_paging.SET_PAGING_MEMPOOL_SIZE: ("domain", "setpagingmempool"),
    domctl_paging.GET_PAGING_MEMPOOL_SIZE: ("domain", "getpagingmempool"),
    domctl_tsc.GETTSCINFO: ("domain2", "gettsc"),
    domctl_tsc.SETTSCINFO: ("domain2", "settsc"),
    cpu_policy.SET_DOMAIN_CPU_POLICY: ("domain2", "set_cpu_policy"),
    cpu_policy.GET_DOMAIN_CPU_POLICY: ("domain2", "get_cpu_policy"),
}

BY_COMMAND: Final = {operation.command: guard for operation, guard in GUARDS.items()}
