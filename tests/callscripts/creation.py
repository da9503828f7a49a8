# SPDX-License-Identifier: MIT
"""How domains come to be."""

from __future__ import annotations

from callscripts import WRONG_VERSION, Script
from pyxc.abi import domctl

ANY_DOMID = 0x7FF5


def run(script: Script) -> None:
    layout = domctl.CREATEDOMAIN.at(script.xen.interface)
    usual = {"ssidref": script.ssidref, "handle": bytes(range(16)), "max_vcpus": 1, "max_evtchn_port": 1023,
             "grant_opts": 1, "max_grant_frames": 4, "max_maptrack_frames": 4}  # fmt: skip
    fields = {name: value for name, value in usual.items() if name in layout.index}
    script.step("occupied domid", domctl.CREATEDOMAIN, script.pv(), **fields)
    mistakes: dict[str, dict[str, int]] = {
        "no vcpus": {"max_vcpus": 0},
        "too many vcpus": {"max_vcpus": 1 << 20},
        "unknown flags": {"flags": 1 << 31},
        "hap without hvm": {"flags": 2},
        "no grant version": {"grant_opts": 0},
    }
    for case, mistake in mistakes.items():
        if mistake.keys() <= layout.index.keys():
            script.step(case, domctl.CREATEDOMAIN, ANY_DOMID, **{**fields, **mistake})
    reply = script.step("success", domctl.CREATEDOMAIN, ANY_DOMID, **fields)
    if reply is not None:
        script.xen.call(domctl.DESTROYDOMAIN, reply.field("domid"))
    script.without_mistakes(domctl.CREATEDOMAIN)
    script.step("wrong interface version", domctl.CREATEDOMAIN, ANY_DOMID, interface_version=WRONG_VERSION)
