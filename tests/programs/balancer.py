#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A memory balancer, as toolstacks write them for Xen's own Python modules: it knows nothing of pyxc.

    balancer.py ROUNDS

Guests say what they use in memory/meminfo ("USED" in KiB), which is watched. After each change what is free
on the host, up to 64 MiB, is shared out among them: their limit and target follow. A line of JSON for each
round.
"""

import contextlib
import json
import sys

import xen.lowlevel

RESERVE_KB = 64 * 1024
SLACK_KB = 1024
PAGE_KB = 4


class Guest:
    """What is known of a guest. These objects are the tokens of its watch."""

    def __init__(self, domid):
        self.domid = domid
        self.path = f"/local/domain/{domid}/memory/meminfo"
        self.used_kb = None
        self.target_kb = None


class Balancer:
    def __init__(self):
        self.xc = xen.lowlevel.xc.xc()
        self.xs = xen.lowlevel.xs.xs()
        self.guests = {}
        self.domains = object()

    def refresh(self):
        """Guests that came are watched, those that went are not any more."""
        there = {domid for domid in self.xs.ls("", "/local/domain") or [] if domid != "0"}
        for domid in there - set(self.guests):
            self.guests[domid] = guest = Guest(domid)
            self.xs.watch(guest.path, guest)
        for domid in set(self.guests) - there:
            gone = self.guests.pop(domid)
            self.xs.unwatch(gone.path, gone)

    def wait(self):
        """The next thing that happened."""
        path, token = self.xs.read_watch()
        if token is self.domains:
            self.refresh()
            return False
        used = self.xs.read("", token.path)
        if used is None:
            return False
        changed = token.used_kb != int(used)
        token.used_kb = int(used)
        return changed

    def balance(self):
        """Give every guest what it uses and an equal part of the rest."""
        info = self.xc.physinfo()
        assert info["free_memory"] <= info["total_memory"]
        told = {guest.domid: guest for guest in self.guests.values() if guest.used_kb is not None}
        domains = {str(dom["domid"]): dom for dom in self.xc.domain_getinfo()}
        told = {domid: guest for domid, guest in told.items() if domid in domains}
        share_kb = min(info["free_memory"] // 4, RESERVE_KB) // max(1, len(told)) // PAGE_KB * PAGE_KB
        for domid, guest in sorted(told.items()):
            guest.target_kb = guest.used_kb + share_kb
            self.xc.domain_setmaxmem(int(domid), guest.target_kb + SLACK_KB)
            # A PV guest has no such target for Xen: the node alone is for it.
            with contextlib.suppress(xen.lowlevel.xc.Error):
                self.xc.domain_set_target_mem(int(domid), guest.target_kb)
            self.xs.write("", f"/local/domain/{domid}/memory/target", str(guest.target_kb))
        return {domid: guest.target_kb for domid, guest in told.items()}

    def run(self, rounds):
        self.xs.watch("@introduceDomain", self.domains)
        self.xs.watch("@releaseDomain", self.domains)
        self.refresh()
        while rounds:
            if self.wait():
                print(json.dumps(self.balance()), flush=True)
                rounds -= 1


if __name__ == "__main__":
    Balancer().run(int(sys.argv[1]))
