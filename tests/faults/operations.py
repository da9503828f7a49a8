# SPDX-License-Identifier: MIT
"""Operations of several steps, and what each may leave when a step fails."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hostile
import streams
from steps import Fault, Interrupted, Steps, state, without_frames

import pyxc
from pyxc import Scheduler, ShutdownReason, sim
from pyxc.guest import stream
from pyxc.guest.config import GuestConfig
from pyxc.guest.config_devices import Disk, Vif
from pyxc.guest.devices import Devices
from pyxc.guest.handshake import BANNER, GRANT, READY, REPORT, RUNS
from pyxc.guest.launch import launch
from pyxc.guest.template import Template
from pyxc.sim.guests import toolstack

_UUID = "11111111-2222-4333-8444-555555555555"
KERNEL = Path(tempfile.gettempdir(), f"pyxc-kernel-{os.getpid()}")
"""The file of a kernel, elsewhere than what is looked at."""

Act = Callable[[pyxc.Xen, Any, Path], object]


class Operation(NamedTuple):
    """What to do, on what, and which of its traces may stay (in `may_stay` of two states: before, then)."""

    act: Act
    prepare: Callable[[pyxc.Xen, sim.Hypervisor], Any] = lambda xen, host: None
    may_stay: Callable[[dict[str, Any], dict[str, Any]], bool] = lambda before, then: False
    target: str = "sim:xen-4.17"
    compared: Callable[[dict[str, Any]], dict[str, Any]] = lambda found: found
    """What of the state after success is the same each time."""


def _hvm(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    made = xen.domains.create(hvm=True, hap=True)
    made.set_max_memory(1 << 20)
    made.memory.set_paging_pool(8 << 10)
    return made


def _with_device(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    made = _hvm(xen, host)
    made.permissions.allow_memory(0xFEB00, 200)
    return made


def _with_mapped_device(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    made = _with_device(xen, host)
    made.memory.map_mmio(0xF0000, 0xFEB00, 200)
    return made


def _pv(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    made = xen.domains.create()
    made.set_max_memory(1 << 20)
    return made


def _filled(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    made = _hvm(xen, host)
    made.memory.populate(range(200))
    return made


def _running(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    made = _filled(xen, host)
    made.unpause()
    return made


def _asked(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    """A small guest that suspends when it is asked."""
    made = xen.domains.build(sim.kernel("pvh"), memory_kb=1280)
    made.unpause()
    toolstack.introduce(host.store, host.domains[made.domid], "small")
    host.script(made.domid).obey()
    assert made.name == "small", "which goes into the file"
    return made


def _asked_pv(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    """A small PV guest that suspends when it is asked."""
    made = xen.domains.build(sim.kernel("pv"), memory_kb=6 << 10)
    made.unpause()
    host.introduce(made.domid, "small")
    host.script(made.domid).obey()
    assert made.name == "small", "which goes into the file"
    return made


def _stream_of(prepare: Callable[[pyxc.Xen, sim.Hypervisor], pyxc.Domain], **options: Any) -> bytes:
    """What is saved of a guest of another host."""
    host = sim.Hypervisor(sim.named("sim:xen-4.17"))
    file = io.BytesIO()
    with pyxc.connect(host.connect()) as xen:
        prepare(xen, host).save(file, **options)
    return file.getvalue()


@cache
def _saved_pv() -> bytes:
    """The stream of a PV guest without a name, which would leave directories in xenstore."""
    outer = (stream.XlHeader, stream.LibxlHeader, stream.LibxcContext, stream.LibxlEnd)
    events = streams.decoded(_stream_of(_asked_pv))
    return streams.encoded(event for event in events if not isinstance(event, outer))


def _cancelled(before: dict[str, Any], then: dict[str, Any]) -> bool:
    """It runs, and knows that its suspend was cancelled."""
    return {**before, "vcpus": 0} == {**then, "vcpus": 0}


@cache
def _saved() -> bytes:
    """The stream of a guest."""
    return _stream_of(_running, suspend="force")


def _pool(xen: pyxc.Xen, scheduler: Scheduler | None = None) -> pyxc.Pool:
    xen.pools[0].remove_cpu(1)
    made = xen.pools.create(scheduler, name="fast")
    made.add_cpu(1)
    return made


def _empty_pool(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Pool:
    made = _pool(xen)
    made.remove_cpu(1)
    return made


def _rung(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    """A small guest that suspends when a port is rung."""
    made = xen.domains.build(sim.kernel("pvh"), memory_kb=1280)
    made.unpause()
    toolstack.introduce(host.store, host.domains[made.domid], "small")
    port = f"/local/domain/{made.domid}/device/suspend/event-channel"
    xen.store.write(port, "")
    xen.store.set_permissions(port, [f"n{made.domid}"])
    host.script(made.domid).suspend_on_event()
    return made


@cache
def _sent() -> bytes:
    """The stream of a guest with a name."""
    return _stream_of(_asked)


class _Clone(NamedTuple):
    template: Template
    domain: pyxc.Domain


def _written_clone(xen: pyxc.Xen, host: sim.Hypervisor) -> _Clone:
    """A clone that runs, and has written to its memory."""
    template = xen.template(io.BytesIO(_saved()))
    clone = template.start(revertible=True, uuid=_UUID)
    host.write_as_guest(clone.domid, 3, 0, b"what it wrote")
    return _Clone(template, clone)


def _suspended(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    """Its vcpus have registers, and its start_info names pfns, as those of a guest that suspended itself."""
    web1 = xen.domains["web1"]
    page = web1.memory.p2m().entries[11]
    layout = hostile.x86.START_INFO_STRUCT.at(xen.interface)
    fields = layout.unpack(web1.memory.read(page))
    web1.memory.write(page, layout.pack({**fields, "store_mfn": 12, "console.domU.mfn": 13}))
    web1.shutdown(ShutdownReason.SUSPEND)
    for vcpu in web1.vcpus:
        context = vcpu.context().replace(rdx=page)
        vcpu.reset()  # a vcpu that is given registers does not sleep
        vcpu.set_context(context)
    return web1


def _rtds(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    pool, build = _pool(xen, Scheduler.RTDS), xen.domains["web1"]
    pool.add_domain(build)
    return build


def _config(xen: pyxc.Xen, host: sim.Hypervisor) -> GuestConfig:
    return GuestConfig("shop", str(KERNEL), memory_kb=2048, max_memory_kb=2048)


_DISK, _VIF = Disk.parse("phy:/dev/vg/a,xvda,w"), Vif("00:16:3e:01:02:03")


def _with_devices(xen: pyxc.Xen, host: sim.Hypervisor) -> GuestConfig:
    host.serve_devices()
    return _config(xen, host)._replace(disks=(_DISK,), vifs=(_VIF,))


def _with_pv_kernel(xen: pyxc.Xen, host: sim.Hypervisor) -> GuestConfig:
    return _with_devices(xen, host)._replace(kernel=sim.kernel("pv"), memory_kb=4096, max_memory_kb=4096)


def _devices(xen: pyxc.Xen, host: sim.Hypervisor) -> Devices:
    host.serve_devices()
    return Devices(xen.domains["web1"])


def _with_disk(xen: pyxc.Xen, host: sim.Hypervisor) -> Devices:
    found = _devices(xen, host)
    found.attach_disk(_DISK)
    host.script(1).use("vbd", _DISK.number)
    assert len(found.list("vbd")) == 1
    return found


def _launched(xen: pyxc.Xen, host: sim.Hypervisor) -> pyxc.Domain:
    return launch(xen, _with_devices(xen, host))


@cache
def _of_launched() -> bytes:
    return _stream_of(_launched, suspend="force")


def _saved_with_devices(xen: pyxc.Xen, host: sim.Hypervisor) -> bytes:
    """The stream of a guest whose devices this host can attach."""
    host.serve_devices()
    return _of_launched()


def _detaching(before: dict[str, Any], then: dict[str, Any]) -> bool:
    """The request to let go of it remains, and the guest may have followed it."""
    changed = {
        path
        for path in before["store"].keys() | then["store"].keys()
        if before["store"].get(path) != then["store"].get(path)
    }
    return all(f"/{_DISK.number}/" in path for path in changed)


def _ended(before: dict[str, Any], then: dict[str, Any]) -> bool:
    """It has gone or ends; nodes may be left."""
    return set(then["domains"]) < set(before["domains"]) or _dying(before, then)


def _empty_parents(before: dict[str, Any], then: dict[str, Any]) -> bool:
    """Nodes above those that were removed, as whoever writes below them makes them."""
    made = then["store"].keys() - before["store"].keys()
    others = [key for key in before if key != "store" and before[key] != then[key]]
    return not others and all(then["store"][path][0] == b"" for path in made)


def _dying(before: dict[str, Any], then: dict[str, Any]) -> bool:
    """It ends once no process holds it, whoever asks."""
    changed = [domain for domid, domain in then["domains"].items() if domain != before["domains"][domid]]
    return all(domain["dying"] for domain in changed)


def _fewer_pages(before: dict[str, Any], then: dict[str, Any]) -> bool:
    return all(then["pages"][domid] <= pages for domid, pages in before["pages"].items())


def _logged(xen: pyxc.Xen, domain: Any, path: Path) -> None:
    with xen.domains["db1"].log_dirty as log:
        log.peek(100)


def _moved(xen: pyxc.Xen, guest: Any, path: Path) -> object:
    """To a host that says that all went well, whatever arrives there."""
    source, peer = os.pipe()
    try:
        os.write(peer, BANNER + READY + REPORT + RUNS)
        os.close(peer)
        with open(os.devnull, "wb", buffering=0) as sink:
            return guest.migrate((source, sink.fileno()), live=False)
    finally:
        os.close(source)


def _received(xen: pyxc.Xen, data: bytes, path: Path) -> object:
    """From a host that says that the guest may run, whatever it hears."""
    with tempfile.TemporaryFile() as source, open(os.devnull, "wb", buffering=0) as sink:
        source.write(data + GRANT)
        source.seek(0)
        return xen.receive((source.fileno(), sink.fileno()))


def _partly_reverted(before: dict[str, Any], then: dict[str, Any]) -> bool:
    """Only the clone has changed, and it is paused."""
    changed = {domid for domid, domain in then["domains"].items() if domain != before["domains"][domid]}
    others = [key for key in ("pools", "store", "devices") if before[key] != then[key]]
    return not others and all(then["domains"][domid]["pauses"] for domid in changed)


def _not_taken(xen: pyxc.Xen, domain: pyxc.Domain, path: Path) -> None:
    """A request that the guest does not take, and that is withdrawn."""
    try:
        domain.ask.poweroff(timeout=0)
    except pyxc.GuestSilent as silent:
        if getattr(silent, "__notes__", None):
            raise


def _paused(xen: pyxc.Xen, domain: pyxc.Domain, path: Path) -> None:
    with domain.paused():
        domain.info()


def _traced(xen: pyxc.Xen, domain: Any, path: Path) -> None:
    with xen.trace_buffers.record(pages=1):
        pass


OPERATIONS: dict[str, Operation] = {
    "domains.create": Operation(lambda xen, _, path: xen.domains.create()),
    "domains.create, hvm": Operation(
        lambda xen, _, path: xen.domains.create(hvm=True, hap=True, max_vcpus=4)
    ),
    "domains.create, uuid": Operation(
        lambda xen, _, path: xen.domains.create(uuid=xen.domains["build"].uuid, domid=9)
    ),
    "domains.build": Operation(
        lambda xen, _, path: xen.domains.build(sim.kernel("pvh"), memory_kb=2048), compared=without_frames
    ),
    "domains.build, on demand": Operation(
        lambda xen, _, path: xen.domains.build(sim.kernel("pvh"), memory_kb=2048, max_memory_kb=4096),
        compared=without_frames,
    ),
    "domains.build, pv": Operation(
        lambda xen, _, path: xen.domains.build(sim.kernel("pv"), memory_kb=4096, vcpus=2, cpus=[0]),
        compared=without_frames,
    ),
    "memory.populate": Operation(lambda xen, made, path: made.memory.populate(range(200)), _hvm),
    "memory.populate, pv": Operation(lambda xen, made, path: made.memory.populate(range(200)), _pv),
    "memory.increase": Operation(lambda xen, made, path: made.memory.increase(200), _pv),
    "memory.decrease": Operation(
        lambda xen, made, path: made.memory.decrease(range(200)), _filled, may_stay=_fewer_pages
    ),
    "memory.map_mmio": Operation(
        lambda xen, made, path: made.memory.map_mmio(0xF0000, 0xFEB00, 200), _with_device
    ),
    "memory.unmap_mmio": Operation(
        lambda xen, made, path: made.memory.unmap_mmio(0xF0000, 0xFEB00, 200), _with_mapped_device
    ),
    "livepatches.load": Operation(lambda xen, _, path: xen.livepatches.load("xsa-1", b"\x7fELF...")),
    "pools.create": Operation(lambda xen, _, path: xen.pools.create(name="fast")),
    "pools.create, unnamed": Operation(lambda xen, _, path: xen.pools.create(Scheduler.CREDIT)),
    "pools.create, cpus": Operation(
        lambda xen, _, path: xen.pools.create(Scheduler.CREDIT, name="fast", cpus=[1]),
        lambda xen, host: xen.pools[0].remove_cpu(1),
    ),
    "pools.split": Operation(lambda xen, _, path: xen.pools.split({"one": [0], "two": [1]})),
    "pool.destroy": Operation(lambda xen, pool, path: pool.destroy(), _empty_pool),
    "pool.destroy, cpus": Operation(
        lambda xen, pool, path: pool.destroy(free_cpus=True), lambda xen, host: _pool(xen)
    ),
    "pool.rename": Operation(lambda xen, pool, path: pool.rename("faster"), lambda xen, host: _pool(xen)),
    "pool.remove_cpu": Operation(
        lambda xen, pool, path: pool.remove_cpu(1), lambda xen, host: _pool(xen, Scheduler.CREDIT)
    ),
    "domain.dump_core": Operation(
        lambda xen, made, path: made.dump_core(path / "core", provenance="none"), _filled
    ),
    "domain.dump_core, running": Operation(
        lambda xen, made, path: made.dump_core(path / "core", provenance="none"), _running
    ),
    "domain.log_dirty": Operation(_logged),
    "domain.save": Operation(
        lambda xen, made, path: made.save(path / "saved", provenance="none"), _asked, _cancelled
    ),
    "domain.save, live": Operation(
        lambda xen, made, path: made.save(io.BytesIO(), live=True, suspend="force"), _running
    ),
    "domain.save, resume": Operation(
        lambda xen, made, path: made.save(io.BytesIO(), live=True, resume=True), _asked, _cancelled
    ),
    "domain.save, pv": Operation(
        lambda xen, made, path: made.save(io.BytesIO(), live=True), _asked_pv, _cancelled
    ),
    "domain.save, pv, resume": Operation(
        lambda xen, made, path: made.save(io.BytesIO(), resume=True), _asked_pv, _cancelled
    ),
    "domain.migrate": Operation(_moved, _asked, _cancelled),
    "trace_buffers.record": Operation(_traced),
    "domain.ask.suspend": Operation(lambda xen, made, path: made.ask.suspend(), _asked, _cancelled),
    "domain.ask.suspend, by event": Operation(lambda xen, made, path: made.ask.suspend(), _rung, _cancelled),
    "domain.paused": Operation(_paused, lambda xen, host: xen.domains["web1"]),
    "ask.poweroff": Operation(_not_taken, lambda xen, host: xen.domains["web1"]),
    "xen.receive": Operation(_received, lambda xen, host: _sent(), _empty_parents),
    "template.revert": Operation(
        lambda xen, clone, path: clone.template.revert(clone.domain), _written_clone, _partly_reverted
    ),
    "xen.restore": Operation(
        lambda xen, data, path: xen.restore(io.BytesIO(data)), lambda xen, host: _saved()
    ),
    "xen.restore, devices": Operation(
        lambda xen, data, path: xen.restore(io.BytesIO(data)),
        _saved_with_devices,
        may_stay=_empty_parents,
    ),
    "template.start": Operation(
        lambda xen, template, path: template.start(revertible=True, uuid=_UUID),
        lambda xen, host: xen.template(io.BytesIO(_saved())),
    ),
    "xen.restore, pv": Operation(
        lambda xen, data, path: xen.restore(io.BytesIO(data), vcpus=1, memory_kb=6 << 10),
        lambda xen, host: _saved_pv(),
    ),
    "domain.resume": Operation(lambda xen, domain, path: domain.resume(fast=False), _suspended),
    "domain.resume, fast": Operation(lambda xen, domain, path: domain.resume(fast=True), _suspended),
    "domain.destroy": Operation(
        lambda xen, _, path: xen.domains["build"].destroy(timeout=0.2), may_stay=_dying
    ),
    "domain.set_uuid": Operation(
        lambda xen, _, path: xen.domains["build"].set_uuid("11111111-2222-4333-8444-555555555555")
    ),
    "domain.set_scheduling": Operation(
        lambda xen, domain, path: domain.set_scheduling(period_us=20_000), _rtds, target="sim:xen-4.17-xsm"
    ),
    "grants.seed": Operation(lambda xen, made, path: made.grants.seed(console=1, store=2), _filled),
    "launch": Operation(
        lambda xen, config, path: launch(xen, config), _config, _empty_parents, compared=without_frames
    ),
    "launch, devices": Operation(
        lambda xen, config, path: launch(xen, config), _with_devices, _empty_parents, compared=without_frames
    ),
    "launch, pv": Operation(
        lambda xen, config, path: launch(xen, config),
        _with_pv_kernel,
        _empty_parents,
        compared=without_frames,
    ),
    "domain.destroy, launched": Operation(
        lambda xen, made, path: made.destroy(timeout=0.2), _launched, may_stay=_ended
    ),
    "devices.attach_disk": Operation(
        lambda xen, devices, path: devices.attach_disk(_DISK), _devices, _empty_parents
    ),
    "devices.attach_vif": Operation(
        lambda xen, devices, path: devices.attach_vif(_VIF), _devices, _empty_parents
    ),
    "devices.detach": Operation(
        lambda xen, devices, path: devices.detach("vbd", _DISK.number, timeout=0.2), _with_disk, _detaching
    ),
    "ask.set_memory": Operation(lambda xen, _, path: xen.domains["web1"].ask.set_memory(32 << 10)),
    "ask.set_vcpus": Operation(lambda xen, _, path: xen.domains["web1"].ask.set_vcpus(1)),
    "domain.set_name": Operation(lambda xen, _, path: xen.domains["web1"].set_name("web9")),
    "store.transact": Operation(
        lambda xen, _, path: xen.store.transact(
            lambda tx: (tx.write("/tool/a", "1"), tx.write("/tool/b", "2"))
        )
    ),
    "store.write": Operation(lambda xen, _, path: xen.store.write("/tool/a", "1")),
}
"""Every operation of the library that takes several steps to change something."""


class Trial:
    """One operation on a fresh host, which is the same each time."""

    def __init__(self, operation: Operation, path: Path, before: dict[str, Any] | None = None) -> None:
        """`before` is the state before the operation, if it is known."""
        self.operation = operation
        self.path = path
        self.host = sim.Hypervisor(sim.named(operation.target))
        self.steps = Steps(self.host.connect())
        self.xen = pyxc.connect(self.steps)
        self.xen.store.timeout = 0.2
        self.subject = operation.prepare(self.xen, self.host)
        for file in path.iterdir():
            file.unlink()
        self.before = before or state(self.host)

    def run(self, faults: dict[int, Fault], forever: Fault | None = None) -> BaseException | None:
        self.steps.start(faults, forever)
        try:
            self.operation.act(self.xen, self.subject, self.path)
        except (pyxc.Error, OSError, KeyError, Interrupted) as error:
            return error
        finally:
            self.steps.stop()
        return None

    def end(self) -> dict[str, Any]:
        """The state that is left, with no link open that could keep something."""
        then = state(self.host)
        assert self.host.holdings.of_client(self.steps._inner) == [], "a mapping stayed open"
        self.xen.close()
        return then
