#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A monitor of a host, as daemons write them for Xen's own Python modules: it knows nothing of pyxc.

monitor.py                  one line of JSON: the host, and what its domains did between two looks
monitor.py ACTION NAME      pause, unpause, shutdown, resume or destroy a domain
"""

import json
import sys
import time

from xen.lowlevel import xc, xs

ACTIONS = {
    "pause": (),
    "unpause": (),
    "shutdown": (0,),
    "resume": (1,),
    "destroy": (),
}
MOST_CPUS = 128
INTERVAL_S = 0.2


class Monitor:
    def __init__(self):
        self.xc = xc.xc()
        self.xs = xs.xs()

    def name(self, domid):
        """What a domain is called, read in one transaction with whether it has a console."""
        while True:
            transaction = self.xs.transaction_start()
            path = self.xs.get_domain_path(domid)
            name = self.xs.read(transaction, path + "/name")
            self.xs.read(transaction, path + "/console/tty")
            if self.xs.transaction_end(transaction):
                return None if name is None else name.decode()

    def look(self):
        """Times of domains and cpus, in nanoseconds."""
        domains = {info["domid"]: info for info in self.xc.domain_getinfo(0, 1024)}
        idle = [cpu["idletime"] for cpu in self.xc.getcpuinfo(MOST_CPUS)]
        return time.monotonic(), domains, idle

    def report(self):
        physinfo, xeninfo = self.xc.physinfo(), self.xc.xeninfo()
        before, first, idle_before = self.look()
        time.sleep(INTERVAL_S)
        after, second, idle_after = self.look()
        passed = (after - before) * 1e9
        domains = []
        for domid, info in sorted(second.items()):
            ran = info["cpu_time"] - first.get(domid, info)["cpu_time"]
            vcpus = [self.xc.vcpu_getinfo(domid, vcpu) for vcpu in range(info["max_vcpu_id"] + 1)]
            domains.append(
                {
                    "domid": domid,
                    "name": self.name(domid),
                    "cpu_percent": 100 * ran / passed,
                    "mem_kb": info["mem_kb"],
                    "state": [key for key in ("running", "blocked", "paused", "shutdown") if info[key]],
                    "cpus": sorted({cpu for vcpu in vcpus for cpu in vcpu["cpumap"]}),
                }
            )
        return {
            "xen": "{xen_major}.{xen_minor}{xen_extra}".format(**xeninfo),
            "hvm": "hvm" in physinfo["virt_caps"].split(),
            "cpus": physinfo["nr_cpus"],
            "free_kb": physinfo["free_memory"],
            "idle_percent": [100 * (b - a) / passed for a, b in zip(idle_before, idle_after)],
            "domains": domains,
        }

    def act(self, action, name):
        for info in self.xc.domain_getinfo():
            if self.name(info["domid"]) == name:
                return getattr(self.xc, "domain_" + action)(info["domid"], *ACTIONS[action])
        sys.exit(f"no domain is called {name}")


if __name__ == "__main__":
    monitor = Monitor()
    if len(sys.argv) == 1:
        print(json.dumps(monitor.report()))
    else:
        try:
            monitor.act(*sys.argv[1:])
        except xc.Error as error:
            sys.exit(f"{' '.join(sys.argv[1:])}: {error.args[1]}")
