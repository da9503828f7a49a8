# SPDX-License-Identifier: MIT
"""How the hypervisor was built and what it offers to guests (xen_version)."""

from __future__ import annotations

from callscripts import Script, Volatile
from pyxc.abi import version

VOLATILE = Volatile(
    fields="buf len extraversion compiler compile_by compile_domain compile_date changeset "
    "commandline".split(),
    results=(version.BUILD_ID, version.COMMANDLINE2, version.EXTRAVERSION2),
)


def run(script: Script) -> None:
    for operation in (
        version.VERSION, version.EXTRAVERSION, version.COMPILE_INFO, version.CAPABILITIES, version.CHANGESET,
        version.PLATFORM_PARAMETERS, version.PAGESIZE, version.GUEST_HANDLE, version.COMMANDLINE,
    ):  # fmt: skip
        script.step("success", operation)
    script.step("success", version.GET_FEATURES, submap_idx=0)
    script.step("missing submap", version.GET_FEATURES, submap_idx=9)
    for operation in (
        version.BUILD_ID, version.EXTRAVERSION2, version.CAPABILITIES2, version.CHANGESET2,
        version.COMMANDLINE2,
    ):  # fmt: skip
        script.step("success", operation, len=4092)
        script.step("short buffer", operation, len=1)
