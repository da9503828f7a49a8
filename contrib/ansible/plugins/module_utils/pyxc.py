# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules have in common: asking a host by its pyxc command, and what has to be done there.

Nothing here imports pyxc: the command is a process of its own, with JSON between.
"""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import json


def asker(module):
    """A function that runs the pyxc command with --json on the host of a module: words to an object."""
    program = module.get_bin_path(module.params.get("executable") or "pyxc", required=True)

    def ask(*words):
        status, out, err = module.run_command([program, "--json"] + list(words))
        if status != 0:
            module.fail_json(msg="pyxc %s failed: %s" % (" ".join(words), err.strip()), rc=status)
        return json.loads(out) if out.strip() else {}

    return ask


def domain_named(ask, name):
    """The domain of a name that is not on its way out; None where there is none."""
    found = [one for one in ask("list")["domains"] if one["name"] == name and "dying" not in one["flags"]]
    return found[0] if found else None


def state_of(domain):
    """absent, stopped (it has shut down, and is still there), paused or running."""
    if domain is None:
        return "absent"
    if "shutdown" in domain["flags"]:
        return "stopped"
    return "paused" if "paused" in domain["flags"] else "running"


def domain_steps(now, wanted, name, config=None, force=False, timeout=60):
    """The commands that bring a domain from a state to another, and the state that it has then.

    ValueError for a domain that has to be built without a configuration.
    """
    if wanted == "absent":
        ask_first = [["shutdown", "--wait", "--timeout", str(timeout), name]] if now == "running" else []
        steps = {"absent": []}.get(now, ([] if force else ask_first) + [["destroy", name]])
        return steps, "absent"
    if now in ("absent", "stopped"):
        if wanted == "present" and now == "stopped":
            return [], now
        if not config:
            raise ValueError("domain %s is %s: config is needed to build it" % (name, now))
        build = ["create", "--quiet"] + (["--paused"] if wanted == "paused" else []) + [config]
        before = [["destroy", name]] if now == "stopped" else []
        return before + [build], "paused" if wanted == "paused" else "running"
    steps = {("running", "paused"): [["unpause", name]], ("paused", "running"): [["pause", name]]}
    return steps.get((wanted, now), []), now if wanted == "present" else wanted


def pool_steps(now, name, wanted, scheduler=None, cpus=None):
    """The commands that make a cpu pool what is wanted; `now` is as cpupool-list has it, or None.

    ValueError for a scheduler that another one would have to replace.
    """
    if wanted == "absent":
        return [["cpupool-destroy", name]] if now else []
    words = ",".join(map(str, sorted(cpus or ())))
    if now is None:
        made = ["cpupool-create", "--name", name]
        made += ["--sched", scheduler] if scheduler else []
        return [made + (["--cpus", words] if words else [])]
    if scheduler and now["scheduler"] != scheduler:
        raise ValueError("cpu pool %s has the scheduler %s, which stays" % (name, now["scheduler"]))
    if cpus is None:
        return []
    more, fewer = sorted(set(cpus) - set(now["cpus"])), sorted(set(now["cpus"]) - set(cpus))
    steps = [["cpupool-cpu-add", name, ",".join(map(str, more))]] if more else []
    return steps + ([["cpupool-cpu-remove", name, ",".join(map(str, fewer))]] if fewer else [])
