# SPDX-License-Identifier: MIT
"""Each command with a fault at each step, without memory, with a xenstored that is silent, slow, ended or
refuses, and with an output that takes nothing: one line and a documented status, never a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from steps import INTERRUPT, REQUEST, WHOLE, Fault, Kind, Steps

from pyxc import opening, sim
from pyxc.abi.livepatch import State
from pyxc.cli import main
from pyxc.cli.commands import build
from pyxc.cli.status import Status
from pyxc.errors import StoreError
from pyxc.sim.model.frequencies import Frequencies
from pyxc.sim.model.livepatches import Patch
from pyxc.store.channel import Channel
from pyxc.store.names import Names
from pyxc.store.session import Session

COMMANDS: dict[str, str] = {
    "resume": "resume db1", "topology": "topology", "memory": "memory", "watch": "watch -t 0.001",
    "shell": "shell -c xen.domains[1].info()",
    "vm-list": "vm-list", "sharing": "sharing", "uptime": "uptime", "lsevtchn": "lsevtchn web1",
    "channel-list": "channel-list web1", "pci-list": "pci-list web1",
    "pci-assignable-list": "pci-assignable-list",
    "pci-assignable-add": "pci-assignable-add 03:00.0",
    "pci-assignable-remove": "pci-assignable-remove 03:00.0",
    "suspend": "suspend web1 --timeout 0.01",
    "button-press": "button-press db1 power", "set-parameters": "set-parameters loglvl=none",
    "cpupool-numa-split": "cpupool-numa-split", "store exists": "store exists /local",
    "store chmod": "store chmod -r /tool n0 r1",
    "list": "list -v -Z -c -n", "claims": "claims", "vcpu-list": "vcpu-list", "top": "top -i 1 -d 0.001",
    "pause": "pause web1", "unpause": "unpause build", "destroy": "destroy build",
    "trigger": "trigger db1 power", "create-empty": "create-empty --hvm --hap", "mem-max": "mem-max web1 64",
    "dump-core": "dump-core build {out}", "vcpu-pin": "vcpu-pin web1 all 0", "context": "context web1",
    "frames": "frames web1", "map": "map db1", "dirty": "dirty db1 -i 2 -d 0.001",
    "sched-credit": "sched-credit", "sched-credit2": "sched-credit2 -d web1 -w 100",
    "sched-rtds": "sched-rtds", "cpupool-list": "cpupool-list -c", "cpupool-create": "cpupool-create -n fast",
    "cpupool-destroy": "cpupool-destroy spare", "cpupool-rename": "cpupool-rename Pool-0 main",
    "cpupool-cpu-add": "cpupool-cpu-add Pool-0 1", "cpupool-cpu-remove": "cpupool-cpu-remove Pool-0 1",
    "cpupool-migrate": "cpupool-migrate web1 Pool-0", "info": "info -v -n", "dmesg": "dmesg -c",
    "debug-keys": "debug-keys h", "perf": "perf", "lockprof": "lockprof",
    "hypfs ls": "hypfs ls", "hypfs tree": "hypfs tree",
    "hypfs cat": "hypfs cat /buildinfo/config", "hypfs write": "hypfs write /params/dom0 x",
    "livepatch list": "livepatch list", "cpu-policy": "cpu-policy web1", "getenforce": "getenforce",
    "setenforce": "setenforce 0", "loadpolicy": "loadpolicy {policy}", "get-bool": "get-bool",
    "set-bool": "set-bool prot_doms_locked on", "store ls": "store ls", "store list": "store list /local",
    "store read": "store read /local/domain/1/name", "store write": "store write /a b /c d",
    "store rm": "store rm /tool", "store watch": "store watch -n 1 /local/domain/1",
    "label get": "label get {file}", "label set": "label set --no-validate a:b:c:d {file}",
    "label rm": "label rm {file}", "label check": "label check --domain web1 {file}",
    "inspect": "inspect {file}", "verify": "verify {file}", "stream inspect": "stream inspect {file}",
    "stream verify": "stream verify {file}", "doctor": "doctor {directory}", "demo": "demo",
    "sim": "sim --list",
    "core info": "core info {file}", "core extract": "core extract {file} 0 {out}",
    "core convert": "core convert {file} {out}",
    "domid": "domid web1", "domname": "domname 1",
    "rename": "rename web1 web9", "shutdown": "shutdown web1", "reboot": "reboot web1",
    "sysrq": "sysrq web1 s", "mem-set": "mem-set web1 32 --timeout 0", "vcpu-set": "vcpu-set web1 1",
    "console": "console --last web1", "create": "create {config}",
    "run": "run {config}", "block-attach": "block-attach web1 phy:/dev/a,xvda,w",
    "block-detach": "block-detach --timeout 0.01 web1 xvda", "block-list": "block-list web1 db1",
    "network-attach": "network-attach web1", "network-detach": "network-detach --timeout 0.01 web1 0",
    "network-list": "network-list web1 db1", "stats": "stats -i 1 -d 0.001", "exporter": "exporter --once",
    "trace record": "trace record --seconds 0.001 {out}", "trace report": "trace report {file}",
    "trace perfetto": "trace perfetto {file} {out}", "trace off": "trace off",
    "store features": "store features", "store control": "store control help",
    "store quota": "store quota nodes", "store top": "store top", "save": "save -F db1 {out}",
    "restore": "restore {file}", "migrate": "migrate --timeout 1 --tunnel false web1 nowhere",
    "migrate-receive": "migrate-receive", "gdb": "gdb --stdio web1", "drgn": "drgn web1 {file}",
    "memory-server": "memory-server --stdio web1",
    "livepatch upload": "livepatch upload b {file}", "livepatch load": "livepatch load {file}",
    "livepatch apply": "livepatch apply a", "livepatch replace": "livepatch replace a",
    "livepatch revert": "livepatch revert a", "livepatch unload": "livepatch unload a",
    "pm get-cpufreq-para": "pm get-cpufreq-para 0",
    "pm set-scaling-governor": "pm set-scaling-governor 0 performance",
    "pm set-scaling-maxfreq": "pm set-scaling-maxfreq 0 1800000",
    "pm set-scaling-minfreq": "pm set-scaling-minfreq 0 1800000",
    "pm set-scaling-speed": "pm set-scaling-speed 0 1800000",
    "pm set-sampling-rate": "pm set-sampling-rate 0 9",
    "pm set-up-threshold": "pm set-up-threshold 0 50", "pm enable-turbo-mode": "pm enable-turbo-mode 0",
    "pm disable-turbo-mode": "pm disable-turbo-mode 0", "pm set-max-cstate": "pm set-max-cstate 1",
}  # fmt: skip
"""Each command with arguments that make it do something."""

REMARKS = (
    "Shutting down domain ",
    "Rebooting domain ",
    "Parsing config from ",
    "on_reboot=",
    "shop ",
    "no cpu pool is ",
    "asking domain ",
)
"""What some commands print on standard error beside errors, most of it as xl does."""

ERRNOS = (errno.EPERM, errno.ENOMEM, errno.EFAULT, errno.ESRCH, errno.EINVAL, errno.ENOSYS, errno.EBUSY)
_TARGET = "sim:xen-4.17-xsm"
_GLANCE_S, _PATIENCE_S = 0.01, 0.03


class Outcome(NamedTuple):
    """What a command came to."""

    status: object
    out: str
    err: str

    @property
    def wrong(self) -> str:
        """What must not be."""
        if not isinstance(self.status, int) or self.status not in set(Status):
            return f"it ends with {self.status!r}"
        lines = self.err.splitlines()
        if any(not line.startswith(("pyxc: ", *REMARKS)) for line in lines):
            return f"it prints {self.err!r}"
        said = [line for line in lines if not line.startswith(("pyxc: warning: ", *REMARKS))]
        silent = self.status in (Status.OK, Status.INTERRUPTED, Status.BROKEN_PIPE)
        return "" if silent or said or self.out else f"it ends with {self.status} without a word"


class Bench:
    """A simulated host on which one command after the other is run, and the files that commands take."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.words = {name: directory / name for name in ("out", "policy", "file", "config", "kernel")}
        self.words["kernel"].write_bytes(sim.kernel("pvh"))
        self.words["config"].write_text(f"name='shop'; memory=4; kernel='{self.words['kernel']}'")
        self.words["directory"] = directory
        self.words["policy"].write_bytes((0xF97CFF8C).to_bytes(4, "little") + bytes(100))
        self.words["file"].write_bytes(b"\x7fELF, and no file of pyxc's")
        self.link: Any = None
        patch.setattr(opening, "open_link", lambda target, gate="auto": self.link)

    def boot(self) -> Steps:
        self.host = host = sim.Hypervisor(sim.named(_TARGET))
        with opening.connect(host.connect()) as xen:
            xen.pools.create(pool_id=1, name="spare")
        host.when_started(lambda guest: guest.stop())
        host.serve_devices()
        host.frequencies = Frequencies()
        host.livepatches.append(Patch("a", State.CHECKED))
        Names._silent.clear()
        self.words["out"].unlink(missing_ok=True)
        self.link = Steps(host.connect(_TARGET))
        self.link.start({})
        return self.link

    def run(self, name: str, stdout: Any = None) -> Outcome:
        words = COMMANDS[name].format(**self.words).split()
        out, err = stdout or io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status: object = main(words)
            except Exception as error:
                status = error
        return Outcome(status, out.getvalue() if isinstance(out, io.StringIO) else "", err.getvalue())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return Bench(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """xenstored is not waited for as long as else, and `store watch` ends."""
    monkeypatch.setitem(Session.__init__.__kwdefaults__, "timeout", _PATIENCE_S)
    monkeypatch.setattr("pyxc.store.names.TIMEOUT_S", _PATIENCE_S)
    monkeypatch.setattr("pyxc.store.names._GLANCE_S", _GLANCE_S)
    yield
    Names._silent.clear()


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) == set(build().commands)


def _steps(count: int) -> list[int]:
    return list(range(count)) if WHOLE else sorted({0, count - 1} & set(range(count)))


_REPEATS = 3
"""How often an errno is tried on one kind of step: test_every_step.py tries each at every step."""


def _faults(kinds: list[Kind]) -> Iterator[tuple[int, Fault]]:
    """At each step EFAULT and Ctrl-C; at the first ones of each kind the other errnos, too.

    A request to xenstored has one way to fail.
    """
    seen = Counter[Kind]()
    for step in _steps(len(kinds)):
        kind = kinds[step]
        seen[kind] += 1
        yield from ((step, fault) for fault in (Fault(errno.EFAULT), INTERRUPT))
        if WHOLE and kind[0] != REQUEST and seen[kind] <= _REPEATS:
            yield from ((step, Fault(number)) for number in ERRNOS if number != errno.EFAULT)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_fault_makes_a_traceback(name: str, bench: Bench) -> None:
    link = bench.boot()
    assert bench.run(name).wrong == ""
    kinds, arenas, wrong = link.kinds, link.arenas, []
    for step, fault in _faults(kinds):
        bench.boot().start({step: fault})
        wrong += [(step, str(fault), found) for found in [bench.run(name).wrong] if found]
    for arena in _steps(arenas):
        bench.boot().starve(arena)
        wrong += [(arena, "no memory", found) for found in [bench.run(name).wrong] if found]
    assert wrong == []


class Late:
    """A connection to a xenstored that answers late, or never."""

    def __init__(self, inner: Channel, late_s: float) -> None:
        self._inner = inner
        self._late_s = late_s
        self._due = 0.0
        self.close, self.fileno = inner.close, inner.fileno

    def send(self, data: bytes) -> int:
        self._due = time.monotonic() + self._late_s
        return self._inner.send(data)

    def receive(self) -> bytes:
        if time.monotonic() < self._due:
            raise BlockingIOError
        return self._inner.receive()


def _refused() -> Channel:
    raise StoreError(errno.ECONNREFUSED, "xenstored accepts no connection")


STORES: dict[str, Callable[[sim.Hypervisor], Channel]] = {
    "silent": lambda host: Late(host.store.connect(), math.inf),
    "slow": lambda host: Late(host.store.connect(), 1.5 * _GLANCE_S),
    "refusing connections": lambda host: _refused(),
    "refusing requests": lambda host: host.store.connect(3),
}
"""Ways of a xenstored to fail; that it ends at any request is among the faults of steps."""


@pytest.mark.parametrize("how", STORES)
@pytest.mark.parametrize("name", ["list", "pause", "cpupool-rename", "top"] if not WHOLE else COMMANDS)
def test_a_xenstored_that_fails_is_one_line(
    name: str, how: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = bench.boot()
    monkeypatch.setattr(link, "connect_store", lambda: STORES[how](bench.host))
    assert bench.run(name).wrong == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line(name: str, bench: Bench) -> None:
    bench.boot()
    with contextlib.suppress(OSError), open("/dev/full", "w", encoding="utf-8") as full:
        outcome = bench.run(name, full)
    assert outcome.wrong == ""
    assert outcome.status != Status.OK or not bench.run(name).out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_narrow_terminal_shows_escapes(name: str, bench: Bench) -> None:
    bench.boot()
    bench.host.store.write("/local/domain/0/name", "\N{SNOWMAN}")
    printed = io.BytesIO()
    narrow = io.TextIOWrapper(printed, encoding="ascii")
    wrong = bench.run(name, narrow).wrong
    assert wrong == "" or (wrong.endswith("without a word") and printed.getvalue())
    if name in ("list", "vcpu-list", "top"):
        assert b"\\u2603" in printed.getvalue()
