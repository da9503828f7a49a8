# SPDX-License-Identifier: MIT
"""Parameters of HVM and PVH domains."""

from __future__ import annotations

from pyxc import arguments
from pyxc.abi import hvm
from pyxc.abi.hvm import HvmParam
from pyxc.domain.identity import Identity

_PARAM_MAX = 2**32 - 1
_VALUE_MAX = 2**64 - 1


class HvmParams:
    """The parameters of one HVM or PVH domain (hvm_op, public/hvm/params.h). Threads: safe to share.

    EINVAL for a PV domain, and for a parameter that this Xen does not have or does not disclose.

    Example:

    >>> hex(db1.hvm_params.read("CONSOLE_PFN"))
    '0xfefff'
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain

    def read(self, param: HvmParam | int | str) -> int:
        """The value of one parameter (hvm_op get_param)."""
        index = arguments.member("param", HvmParam, param, _PARAM_MAX)
        return int(self._domain.call(hvm.GET_PARAM, index=index).field("value"))

    def write(self, param: HvmParam | int | str, value: int) -> None:
        """Set one parameter (hvm_op set_param)."""
        index = arguments.member("param", HvmParam, param, _PARAM_MAX)
        arguments.natural("value", value, _VALUE_MAX)
        self._domain.change(hvm.SET_PARAM, index=index, value=value)

    def all(self) -> dict[HvmParam, int]:
        """All parameters that this Xen discloses, in one multicall (hvm_op get_param)."""
        caller, domid = self._domain.xen.caller, self._domain.domid
        batch = caller.batch(hvm.GET_PARAM, len(HvmParam), domid=domid, index=list(HvmParam))
        if all(batch.results):
            raise caller.error(hvm.GET_PARAM, -batch.results[0], domid)
        values = (batch.layout.unpack(answer)["value"] for answer in batch.answers)
        return {param: value for param, result, value in zip(HvmParam, batch.results, values) if result == 0}

    def __repr__(self) -> str:
        return f"<HvmParams of domain {self._domain.domid}>"
