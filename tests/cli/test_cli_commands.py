# SPDX-License-Identifier: MIT
"""What each command does to the host, what it prints, and its JSON."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

import cores
import pytest
from streams import SAVED

from pyxc import HvmParam, Scheduler, ShutdownReason, connect
from pyxc.abi.livepatch import State
from pyxc.cli.commands import build
from pyxc.sim.model import lifecycle
from pyxc.sim.model.cpupools import CpuPool
from pyxc.sim.model.frequencies import Frequencies
from pyxc.sim.model.livepatches import Patch

WEB1 = "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"
EVERY_COMMAND = {
    "list": ["list"],
    "claims": ["claims"],
    "vm-list": ["vm-list"],
    "sharing": ["sharing"],
    "uptime": ["uptime"],
    "lsevtchn": ["lsevtchn", "web1"],
    "channel-list": ["channel-list", "web1"],
    "pci-list": ["pci-list", "web1"],
    "pci-assignable-list": ["pci-assignable-list"],
    "pci-assignable-add": ["pci-assignable-add", "--dry-run", "03:00.0"],
    "pci-assignable-remove": ["pci-assignable-remove", "--dry-run", "03:00.0"],
    "suspend": ["suspend", "web1"],
    "button-press": ["button-press", "db1", "power"],
    "set-parameters": ["set-parameters", "loglvl=none"],
    "cpupool-numa-split": ["cpupool-numa-split"],
    "store exists": ["store", "exists", "/local", "--target", "sim:"],
    "store chmod": ["store", "chmod", "/tool", "n0", "r1", "--target", "sim:"],
    "vcpu-list": ["vcpu-list"],
    "top": ["top", "-d", "0.01"],
    "stats": ["stats"],
    "exporter": ["exporter", "--once"],
    "trace record": ["trace", "record", "--seconds", "0.01", "NEW"],
    "trace report": ["trace", "report", "TRACE"],
    "trace perfetto": ["trace", "perfetto", "TRACE", "NEW"],
    "trace off": ["trace", "off"],
    "pause": ["pause", "web1"],
    "unpause": ["unpause", "build"],
    "destroy": ["destroy", "build"],
    "shutdown": ["shutdown", "web1"],
    "reboot": ["reboot", "web1"],
    "create": ["create", "CONFIG"],
    "run": ["run", "CONFIG"],
    "block-attach": ["block-attach", "web1", "phy:/dev/a,xvdb,w"],
    "block-detach": ["block-detach", "--force", "web1", "xvda"],
    "block-list": ["block-list", "web1"],
    "network-attach": ["network-attach", "web1", "bridge=br1"],
    "network-detach": ["network-detach", "--force", "web1", "0"],
    "network-list": ["network-list", "web1"],
    "console": ["console", "web1"],
    "sysrq": ["sysrq", "web1", "s"],
    "vcpu-set": ["vcpu-set", "web1", "1"],
    "mem-set": ["mem-set", "web1", "32"],
    "domid": ["domid", "web1"],
    "domname": ["domname", "1"],
    "rename": ["rename", "web1", "web2"],
    "trigger": ["trigger", "web1", "nmi"],
    "create-empty": ["create-empty"],
    "mem-max": ["mem-max", "web1", "128"],
    "dump-core": ["dump-core", "build", "CORE"],
    "vcpu-pin": ["vcpu-pin", "web1", "0", "0"],
    "context": ["context", "web1"],
    "frames": ["frames", "web1"],
    "map": ["map", "web1"],
    "dirty": ["dirty", "db1", "-d", "0.001"],
    "sched-credit": ["sched-credit"],
    "sched-credit2": ["sched-credit2", "-d", "web1", "-w", "512"],
    "sched-rtds": ["sched-rtds"],
    "cpupool-list": ["cpupool-list"],
    "cpupool-create": ["cpupool-create", "-s", "credit", "-c", "1"],
    "cpupool-destroy": ["cpupool-destroy", "1"],
    "cpupool-rename": ["cpupool-rename", "1", "spare"],
    "cpupool-cpu-add": ["cpupool-cpu-add", "1", "1"],
    "cpupool-cpu-remove": ["cpupool-cpu-remove", "0", "0"],
    "cpupool-migrate": ["cpupool-migrate", "web1", "0"],
    "info": ["info"],
    "dmesg": ["dmesg"],
    "debug-keys": ["debug-keys", "h"],
    "perf": ["perf"],
    "lockprof": ["lockprof"],
    "hypfs ls": ["hypfs", "ls"],
    "hypfs tree": ["hypfs", "tree"],
    "hypfs cat": ["hypfs", "cat", "/params/loglvl"],
    "hypfs write": ["hypfs", "write", "/params/loglvl", "none"],
    "livepatch list": ["livepatch", "list"],
    "livepatch upload": ["livepatch", "upload", "a", "PATCH"],
    "livepatch load": ["livepatch", "load", "PATCH"],
    "livepatch apply": ["livepatch", "apply", "checked"],
    "livepatch replace": ["livepatch", "replace", "checked"],
    "livepatch revert": ["livepatch", "revert", "applied"],
    "livepatch unload": ["livepatch", "unload", "checked"],
    "pm get-cpufreq-para": ["pm", "get-cpufreq-para"],
    "pm set-scaling-governor": ["pm", "set-scaling-governor", "performance"],
    "pm set-scaling-maxfreq": ["pm", "set-scaling-maxfreq", "1800000"],
    "pm set-scaling-minfreq": ["pm", "set-scaling-minfreq", "0", "1800000"],
    "pm set-scaling-speed": ["pm", "set-scaling-speed", "1800000"],
    "pm set-sampling-rate": ["pm", "set-sampling-rate", "10000"],
    "pm set-up-threshold": ["pm", "set-up-threshold", "50"],
    "pm enable-turbo-mode": ["pm", "enable-turbo-mode"],
    "pm disable-turbo-mode": ["pm", "disable-turbo-mode"],
    "pm set-max-cstate": ["pm", "set-max-cstate", "unlimited"],
    "cpu-policy": ["cpu-policy", "web1"],
    "getenforce": ["getenforce"],
    "setenforce": ["setenforce", "0"],
    "loadpolicy": ["loadpolicy", "POLICY"],
    "get-bool": ["get-bool"],
    "set-bool": ["set-bool", "prot_doms_locked", "on"],
    "store ls": ["store", "ls", "/local", "--target", "sim:"],
    "store list": ["store", "list", "/local", "--target", "sim:"],
    "store read": ["store", "read", "/local", "--target", "sim:"],
    "store write": ["store", "write", "/local/note", "1", "--target", "sim:"],
    "store rm": ["store", "rm", "/local/note", "--target", "sim:"],
    "store features": ["store", "features", "--target", "sim:"],
    "store control": ["store", "control", "help", "--target", "sim:"],
    "store quota": ["store", "quota", "nodes", "--target", "sim:"],
    "store top": ["store", "top", "--target", "sim:"],
    "store watch": ["store", "watch", "-n", "1", "/local", "--target", "sim:"],
    "demo": ["demo", "--target", "sim:"],
    "sim": ["sim", "--list"],
    "label get": ["label", "get", "CORE"],
    "label set": ["label", "set", "--no-validate", "tenant1:vm_r:web_t:s0", "CORE"],
    "label rm": ["label", "rm", "CORE"],
    "label check": ["label", "check", "--seclabel", "tenant1:vm_r:web_t:s0", "CORE"],
    "inspect": ["inspect", "CORE"],
    "verify": ["verify", "CORE"],
    "save": ["save", "-F", "db1", "NEW"],
    "restore": ["restore", "--name", "db2", "--uuid", "11111111-2222-4333-8444-555555555555", "DB1"],
    "migrate": ["migrate", "-F", "-s", "", "db1", "RECEIVER"],
    "migrate-receive": ["migrate-receive"],
    "stream inspect": ["stream", "inspect", "SAVED"],
    "stream verify": ["stream", "verify", "SAVED"],
    "core info": ["core", "info", "DUMP"],
    "core convert": ["core", "convert", "DUMP", "NEW"],
    "core extract": ["core", "extract", "DUMP", "0", "NEW"],
    "doctor": ["doctor"],
    "resume": ["resume", "db1"],
    "topology": ["topology"],
    "memory": ["memory"],
    "watch": ["watch", "-t", "0.01"],
    "shell": ["shell"],
    "gdb": ["gdb", "web1"],
    "drgn": ["drgn", "db1"],
    "memory-server": ["memory-server", "db1"],
}


def test_dump_core(pyxc, host, tmp_path):
    file = tmp_path / "core"
    words = ("dump-core", "--provenance", "none", "--live", "web1", str(file))
    assert pyxc(*words) == (0, "", "")
    size = file.stat().st_size
    assert size > host.domains[1].tot_pages * 4096
    told = pyxc(*words, "--json").json
    assert {name: told[name] for name in ("domid", "nr_pages", "nr_missing", "nr_vcpus")} == {
        "domid": 1, "nr_pages": host.domains[1].tot_pages, "nr_missing": 0, "nr_vcpus": 2,
    }  # fmt: skip
    assert pyxc("dump-core", "nobody", str(file)).status != 0
    assert file.stat().st_size == size


@pytest.fixture
def trace(tmp_path):
    """The name of a trace without records."""
    path = tmp_path / "trace"
    path.write_bytes((0x2001F003).to_bytes(4, "little") + bytes(8))
    return str(path)


@pytest.mark.parametrize("name", build().commands)
def test_every_command_has_json(
    pyxc, guarded, core, policy, guest_config, trace, name, monkeypatch, tmp_path, receiver, request
):
    """On a host with an empty cpu pool, a free cpu, and a xenstored that is newer than its hypervisor."""
    monkeypatch.setattr(guarded.store.host, "since", lambda *release: True)
    if name != "cpupool-numa-split":
        guarded.pools[1] = CpuPool(1, Scheduler.CREDIT)
    guarded.pools[0].cpus = 0b11 if name == "cpupool-cpu-remove" else 0b01
    guarded.serve_devices()
    guarded.livepatches += [Patch("applied", State.APPLIED, applied=1), Patch("checked", State.CHECKED)]
    guarded.frequencies = Frequencies(governor="userspace" if "speed" in name else "ondemand")
    if "detach" in name:
        pyxc("block-attach", "web1", "phy:/dev/a,xvda,w")
        pyxc("network-attach", "web1")
    if name.startswith("pci-assignable-"):
        guarded.kernel_files = str(tmp_path)
        for directory in ("devices/0000:03:00.0", "drivers/pciback"):
            (tmp_path / "sys/bus/pci" / directory).mkdir(parents=True)
    if name == "resume":
        lifecycle.shut_down(guarded, guarded.domains[2], ShutdownReason.SUSPEND)
    if name == "suspend":
        guarded.script(1).obey()
    if name == "run":
        guarded.when_started(lambda guest: guest.stop())
    if name == "migrate-receive":
        request.getfixturevalue("incoming")
    if name == "restore":
        pyxc("save", "-F", "-c", "db1", str(tmp_path / "db1.save"))
    files = {"CORE": core, "POLICY": policy, "CONFIG": guest_config, "SAVED": str(SAVED / "pv.save.gz")}
    files |= {"TRACE": trace, "NEW": str(tmp_path / "new"), "DB1": str(tmp_path / "db1.save")}
    files |= {"RECEIVER": receiver, "DUMP": str(tmp_path / "dump")}
    (tmp_path / "dump").write_bytes(cores.core({0: b"page"}, [cores.context(cr3=0x1000)]))
    files |= {"PATCH": str(tmp_path / "fix.livepatch")}
    (tmp_path / "fix.livepatch").write_bytes(b"\x7fELF")
    outcome = pyxc("--json", *(files.get(word, word) for word in EVERY_COMMAND[name]))
    assert (outcome.status, outcome.err) == (15 if name == "doctor" else 0, "")
    assert outcome.json["schema"] == 1


def test_list_json(pyxc, host):
    domains = {domain["name"]: domain for domain in pyxc("list", "--json").json["domains"]}
    assert domains["web1"] == {
        "domid": 1,
        "name": "web1",
        "uuid": WEB1,
        "type": "pv",
        "state": "blocked",
        "flags": ["blocked"],
        "shutdown_reason": None,
        "memory_kb": 65536,
        "outstanding_memory_kb": 0,
        "max_memory_kb": 66560,
        "vcpus": 2,
        "online_vcpus": 2,
        "cpu_time_ns": 11_000_000_000,
        "cpupool": 0,
        "ssidref": 0,
        "label": None,
        "unique_id": None,
    }
    assert domains["db1"]["type"] == "hvm"
    assert domains["Domain-0"]["max_memory_kb"] is None
    assert "hap" in domains["db1"]["flags"]


def test_unique_ids_in_json(pyxc):
    domains = pyxc("list", "--json", "--target", "sim:xen-4.22").json["domains"]
    assert len({domain["unique_id"] for domain in domains} - {None}) == len(domains)


def test_a_shutdown_reason_in_json(pyxc, host):
    with connect(host.connect("sim:xen-4.17")) as xen:
        xen.domains["web1"].shutdown(ShutdownReason.CRASH)
    assert pyxc("list", "web1", "--json").json["domains"][0]["shutdown_reason"] == "crash"
    assert "sc-  " in pyxc("list", "web1").out


def test_pause_nests_and_unpause_undoes(pyxc, host):
    assert pyxc("pause", "web1", WEB1).status == 0
    assert "paused" in _flags(pyxc, "web1")
    pyxc("unpause", "1")
    assert "paused" in _flags(pyxc, "web1")
    pyxc("unpause", "1")
    assert "paused" not in _flags(pyxc, "web1")


def test_pause_is_silent(pyxc, host):
    assert pyxc("pause", "web1") == (0, "", "")


def test_create_and_destroy(pyxc, host):
    uuid = "11111111-2222-3333-4444-555555555555"
    assert pyxc("create-empty", "--hvm", "--hap", "--uuid", uuid, "--vcpus", "3").out == "4\n"
    made = pyxc("list", "4", "--json").json["domains"][0]
    assert (made["uuid"], made["type"], made["vcpus"], made["memory_kb"]) == (uuid, "hvm", 3, 0)
    assert made["flags"] == ["hvm_guest", "paused", "hap"]
    assert pyxc("destroy", uuid).status == 0
    assert pyxc("list", "4").status == 5


def test_mem_max(pyxc, host):
    assert pyxc("mem-max", "web1", "70000k") == (0, "", "")
    assert pyxc("list", "web1", "--json").json["domains"][0]["max_memory_kb"] == 70000
    assert pyxc("mem-max", "web1", "1g", "--json").json["max_memory_kb"] == 1 << 20


def test_vcpu_pin(pyxc, host):
    assert pyxc("vcpu-pin", "web1", "1", "1", "0-1") == (0, "", "")
    assert [row.split()[-3:] for row in pyxc("vcpu-list", "web1").out.splitlines()[1:]] == [
        ["all", "/", "all"],
        ["1", "/", "all"],
    ]
    pyxc("vcpu-pin", "web1", "all", "-", "all,^1")
    shown = pyxc("vcpu-list", "web1", "--json").json["vcpus"]
    assert [(vcpu["hard_affinity"], vcpu["soft_affinity"]) for vcpu in shown] == [([0, 1], [0]), ([1], [0])]


def test_context_of_one_and_of_all(pyxc, host):
    both = pyxc("context", "web1", "--json").json["vcpus"]
    assert [vcpu["vcpu"] for vcpu in both] == [0, 1]
    assert both[0]["registers"]["rip"] == 0xFFFFFFFF810003AA
    one = pyxc("context", "web1", "1").out.splitlines()
    assert one[0] == "vcpu 1:"
    rip = next(line for line in one if " rip " in line)
    assert "rip ffffffff810003aa" in rip
    assert len({len(line) for line in one[1:]}) <= 2


def test_a_vcpu_that_was_never_initialised(pyxc, host):
    pyxc("create-empty", "--vcpus", "1")
    assert pyxc("context", "4").out == "vcpu 0: never initialised\n"
    empty = {"vcpu": 0, "width_bits": None, "registers": None}
    assert pyxc("context", "4", "--json").json["vcpus"] == [empty]


def test_frames(pyxc, host):
    everything = pyxc("frames", "web1", "--all", "--json").json
    assert (everything["total"], everything["translated"]) == (16384, False)
    assert len(set(everything["frames"])) == 16384
    lines = pyxc("frames", "web1", "--count", "2").out.splitlines()
    assert lines[0] == "# domain 1: 16384 mfns from p2m_vaddr"
    assert lines[1:3] == [hex(frame) for frame in everything["frames"][:2]]
    assert lines[3] == "# 16382 more; --all shows them"


def test_frame_types(pyxc, host):
    typed = pyxc("frames", "web1", "--types", "--all", "--json").json
    root = next(i for i, kind in enumerate(typed["types"]) if kind == "l4tab")
    assert typed["pinned"][root]
    assert typed["types"].count("notab") > 16000
    text = pyxc("frames", "web1", "--types", "--all").out
    assert f"{typed['frames'][root]:#x} l4tab pinned\n" in text


def test_p2m(pyxc, host):
    mapped = pyxc("frames", "web1", "--p2m", "--all", "--json").json
    frames = pyxc("frames", "web1", "--all", "--json").json["frames"]
    assert sorted(entry for entry in mapped["entries"] if entry is not None) == sorted(frames)
    text = pyxc("frames", "web1", "--p2m", "--all").out.splitlines()
    assert text[1] == f"0x0 {mapped['entries'][0]:#x}"
    hole = mapped["entries"].index(None)
    assert text[1 + hole] == f"{hole:#x} -"


def test_info(pyxc, host):
    lines = dict(line.split(":", 1) for line in pyxc("info").out.splitlines())
    keys = {key.strip(): value.strip() for key, value in lines.items()}
    assert keys["xen_version"] == "4.17.7"
    assert keys["nr_cpus"] == "2"
    assert keys["virt_caps"].split()[:2] == ["pv", "hvm"]
    assert int(keys["total_memory"]) == pyxc("info", "--json").json["total_memory_kb"] // 1024
    assert all(len(key) == 23 for key in lines)
    assert "pyxc_target" not in keys


def test_info_of_a_simulated_host_is_not_this_host(pyxc, host):
    text = pyxc("info", "-v").out
    assert "host                   : sim:xen-4.17\n" in text
    assert os.uname().release not in text
    assert "domctl_version         : 0x15\n" in text


def test_debug_keys_answer_in_dmesg(pyxc, host):
    before = pyxc("dmesg").out
    assert pyxc("debug-keys", "h") == (0, "", "")
    assert pyxc("dmesg").out.startswith(before)
    assert "'h' pressed" in pyxc("dmesg").out[len(before) :]


def test_dmesg_clear(pyxc, host):
    first = pyxc("dmesg").out
    assert first.startswith("(XEN)")
    assert pyxc("dmesg", "-c").out == first
    assert pyxc("dmesg", "--json").json["text"] == ""


def test_demo_shows_hypervisors_of_today_and_of_2006_and_what_it_ran(pyxc):
    outcome = pyxc("demo")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.count(">>> xen = pyxc.open(") == 3
    for shown in ("xen=(4, 22)", "xen=(4, 14)", "'web1'", '["web1"].pause()\n', "\nTrue\n", "'rip': '0x"):
        assert shown in outcome.out
    for shown in ("arch='ppc64', byteorder='big'", "'msr': '0x", "16384 mfns from getmemlist2"):
        assert shown in outcome.out


def test_demo_ends_with_commands_that_exist(pyxc):
    offered = re.findall(r"^\$ (.*)$", pyxc("demo", "--target", "sim:").out, re.MULTILINE)
    assert len(offered) == 3
    for line in offered:
        words = [word for word in shlex.split(line) if word != "-i"]
        subprocess.run(words, check=True, capture_output=True)


def test_resume(pyxc, host):
    assert pyxc("resume", "db1").err == "pyxc: db1: domain 2 has not suspended\n"
    lifecycle.shut_down(host, host.domains[2], ShutdownReason.SUSPEND)
    host.domains[2].dirty = {1}
    assert "domain 2 (db1): it has suspended" in pyxc("doctor").out
    assert pyxc("resume", "db1") == (0, "", "")
    assert (host.domains[2].shutdown_code, host.domains[2].dirty) == (None, None)


def test_demo_is_for_simulated_hypervisors_only(pyxc):
    assert pyxc("demo", "--target", "real").status == 2
    stories = pyxc("demo", "--target", "sim:xen-4.10", "--json").json["demo"]
    assert [story["target"] for story in stories] == ["sim:xen-4.10"]


def _flags(pyxc, domain):
    return pyxc("list", domain, "--json").json["domains"][0]["flags"]


def test_triggers(pyxc, host):
    assert pyxc("trigger", "web1", "nmi", "1") == (0, "", "")
    assert pyxc("trigger", "db1", "power") == (0, "", "")
    host.domains[2].params[HvmParam.ACPI_S_STATE] = 3
    assert pyxc("trigger", "db1", "s3resume").status == 0
    assert (host.domains[1].triggered, host.domains[2].triggered) == ([(0, 1)], [(3, 0)])
    assert host.domains[2].params[HvmParam.ACPI_S_STATE] == 0


def test_triggers_that_go_nowhere(pyxc, host):
    assert pyxc("trigger", "web1", "power").status == 1
    assert pyxc("trigger", "web1", "reset").status == 6
    assert pyxc("trigger", "web1", "bang").status == 2
    assert pyxc("trigger", "web1", "nmi", "7").status == 1
