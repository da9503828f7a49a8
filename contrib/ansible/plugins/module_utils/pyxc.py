# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules have in common: asking a host by its pyxc command, and what has to be done there.

Nothing here imports pyxc: the command is a process of its own, with JSON between.
"""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import json

EXECUTABLE = {"executable": {"type": "str", "default": "pyxc"}}


def asker(module):
    """A function that runs the pyxc command with --json on the host of a module: words to an object.

    `missing` is what it returns where the command fails with status 1; None: that ends the module.
    """
    program = module.get_bin_path(module.params.get("executable") or "pyxc", required=True)

    def ask(*words, **options):
        status, out, err = module.run_command([program, "--json"] + list(words))
        if status == 1 and options.get("missing") is not None:
            return options["missing"]
        if status != 0:
            module.fail_json(msg="pyxc %s failed: %s" % (" ".join(words), err.strip()), rc=status)
        return json.loads(out) if out.strip() else {}

    return ask


def carry_out(module, ask, steps, before, after):
    """Run the commands, unless this is a check, and end the module with what has changed."""
    if not module.check_mode:
        for words in steps:
            ask(*words)
    module.exit_json(changed=bool(steps), commands=steps, diff={"before": before, "after": after})


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


def domain_steps(now, wanted, name, config=None, force=False, timeout=60, file=None):
    """The commands that bring a domain from a state to another, and the state that it has then.

    `file` is where a guest is saved, or will be. ValueError for a domain that has to be built without a
    configuration, and for one that cannot be saved.
    """
    if wanted == "absent":
        ask_first = [["shutdown", "--wait", "--timeout", str(timeout), name]] if now == "running" else []
        steps = {"absent": []}.get(now, ([] if force else ask_first) + [["destroy", name]])
        return steps, "absent"
    if wanted == "saved":
        return _steps_to_save(now, name, file, timeout), "saved"
    if now == "saved":
        pause = ["--paused"] if wanted == "paused" else []
        return ([], now) if wanted == "present" else ([["restore"] + pause + [file]], wanted)
    if now in ("absent", "stopped"):
        if wanted == "present" and now == "stopped":
            return [], now
        if not config:
            raise ValueError("domain %s is %s: config is needed to build it" % (name, now))
        # The file may have another name; with that the domain would never be found.
        named = 'name="%s"' % name.replace("\\", "\\\\").replace('"', '\\"')
        build = ["create", "--quiet"] + (["--paused"] if wanted == "paused" else []) + [config, named]
        before = [["destroy", name]] if now == "stopped" else []
        return before + [build], "paused" if wanted == "paused" else "running"
    steps = {("running", "paused"): [["unpause", name]], ("paused", "running"): [["pause", name]]}
    return steps.get((wanted, now), []), now if wanted == "present" else wanted


def _steps_to_save(now, name, file, timeout):
    if not file:
        raise ValueError("file is needed to save domain %s" % name)
    if now == "saved":
        return []
    if now in ("absent", "stopped"):
        raise ValueError("domain %s is %s: it cannot be saved" % (name, now))
    wake = [["unpause", name]] if now == "paused" else []
    return wake + [["save", "--timeout", str(timeout), name, file]]


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


def scheduler_steps(scheduler, name, now, wanted):
    """The commands that give a domain parameters; `now` is as the command of the scheduler has them."""
    change = {key: value for key, value in wanted.items() if value is not None and now[key] != value}
    if not change:
        return [], change
    options = [word for key in sorted(change) for word in ("--" + key, str(change[key]))]
    return [["sched-" + scheduler, "--domain", name] + options], change


def store_steps(path, now, wanted):
    """The commands that give a node of xenstore a value; None: the node does not exist."""
    if now == wanted:
        return []
    return [["store", "rm", path]] if wanted is None else [["store", "write", path, wanted]]


def hypfs_steps(path, now, wanted):
    """The commands that give an entry of Xen's file system a value; `now` may be a truth or a number."""
    value = str(int(now)) if isinstance(now, bool) else str(now)
    return [] if wanted == value else [["hypfs", "write", path, wanted]]


def flask_steps(now, enforcing, booleans):
    """The commands that change the security policy; `now` has "enforcing" and "booleans", by name.

    ValueError for a boolean that the policy does not have.
    """
    steps = []
    if enforcing is not None and enforcing != now["enforcing"]:
        steps.append(["setenforce", "1" if enforcing else "0"])
    for name in sorted(booleans):
        if name not in now["booleans"]:
            raise ValueError("the policy has no boolean %s" % name)
        if booleans[name] != now["booleans"][name]:
            steps.append(["set-bool", name, "1" if booleans[name] else "0"])
    return steps


def livepatch_steps(name, now, wanted, file=None):
    """The commands that bring a live patch into a state; `now` is "absent", "checked" or "applied".

    ValueError for a patch that has to be uploaded without a file.
    """
    if now == wanted:
        return []
    if wanted == "absent":
        revert = [["livepatch", "revert", name]] if now == "applied" else []
        return revert + [["livepatch", "unload", name]]
    if wanted == "checked" and now == "applied":
        return [["livepatch", "revert", name]]
    if now == "absent" and not file:
        raise ValueError("file is needed to upload the live patch %s" % name)
    upload = [["livepatch", "upload", name, file]] if now == "absent" else []
    return upload + ([["livepatch", "apply", name]] if wanted == "applied" else [])
