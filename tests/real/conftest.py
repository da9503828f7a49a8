# SPDX-License-Identifier: MIT
"""Tests on a real hypervisor. PYXC_TEST_XEN=1 runs them anywhere, 0 skips them; unset: only on a Xen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import builds
import ground_truth
import pytest

import pyxc
from pyxc.abi import domctl_paging

ORDER = ("changed_dom0", "peer", "changed_xen")
"""Fixtures whose tests come after all others, in this order."""

HERE = Path(__file__).parent
DEVICES = (Path("/dev/xen/privcmd"), Path("/proc/xen/privcmd"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs_xen(major, minor, before=None): the first release of a test, and the first without"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Iterator[None]:
    """Print at once why a test failed; say of one beside guests of xl whether the kernel saw a process crash.

    An emulated machine corrupts processes now and then while guests run; the lab counts these tests apart.
    """
    outcome = yield
    report = outcome.get_result()
    seen = " ".join(ground_truth.crashes()) if "peer" in item.fixturenames else ""
    if report.failed:
        item.config.get_terminal_writer().line(f"\n{report.longreprtext.strip()}")
    if seen and report.failed:
        item.user_properties.append(("crash", seen))


def _reason_to_skip() -> str | None:
    wanted = os.environ.get("PYXC_TEST_XEN", "")
    if wanted not in ("", "0", "1"):
        raise pytest.UsageError(f"PYXC_TEST_XEN is {wanted!r}, not 0 or 1")
    if wanted == "0":
        return "PYXC_TEST_XEN=0"
    if wanted == "1" or any(os.access(device, os.R_OK | os.W_OK) for device in DEVICES):
        return None
    return f"no dom0 of a Xen: cannot open {' or '.join(map(str, DEVICES))}"


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Skip without a Xen. Tests with the peer come late: others need a dom0 without xenstored.

    Tests that change dom0 for good come before them, and those that change Xen for good come last.
    """
    items.sort(key=lambda item: max(name in item.fixturenames and rank for rank, name in enumerate(ORDER, 1)))
    reason = _reason_to_skip()
    if reason is None:
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def release() -> tuple[int, int]:
    """The release of this Xen, such as (4, 17)."""
    with pyxc.open(names=False) as opened:
        return opened.interface.xen


@pytest.fixture(autouse=True)
def _needed_release(request: pytest.FixtureRequest) -> None:
    """Skip a test that is for other releases than this one."""
    marker = request.node.get_closest_marker("needs_xen")
    if marker is None:
        return
    release: tuple[int, int] = request.getfixturevalue("release")
    before = marker.kwargs.get("before")
    if release < marker.args:
        pytest.skip("needs Xen {}.{} or later".format(*marker.args))
    if before is not None and release >= before:
        pytest.skip("needs a Xen before {}.{}".format(*before))


@pytest.fixture(scope="module")
def xen() -> Iterator[pyxc.Xen]:
    """A handle that does not look up names. What the tests of a module leave behind in it is a leak."""
    with pyxc.open(names=False) as opened:
        yield opened
        assert opened.link.maps == []
        assert opened.link.pool.outstanding == 0


@pytest.fixture
def named() -> Iterator[pyxc.Xen]:
    """A handle that looks up names in xenstore."""
    with pyxc.open() as opened:
        yield opened
        assert opened.link.maps == []


@pytest.fixture
def traceable(xen: pyxc.Xen) -> None:
    """The hypervisor with a policy has assertions, too, one of which fails when tracing starts."""
    if xen.flask.present:
        pytest.skip("a Xen with assertions panics in tb_control()")


@pytest.fixture
def unguarded(xen: pyxc.Xen) -> Iterator[None]:
    """During this test, what a security policy forbids dom0 is only logged."""
    enforced = xen.flask.present and xen.flask.enforcing()
    if enforced:
        xen.flask.set_enforcing(False)
    yield
    if enforced:
        xen.flask.set_enforcing(True)


@pytest.fixture(scope="session")
def policy() -> bytes:
    """The security policy built into this hypervisor."""
    if "PYXC_POLICY" not in os.environ:
        pytest.skip("the policy of this hypervisor is not at hand")
    return Path(os.environ["PYXC_POLICY"]).read_bytes()


@pytest.fixture
def pv(xen: pyxc.Xen) -> Iterator[pyxc.Domain]:
    """An empty, paused PV domain of two vcpus that may own 4 MiB."""
    domain = xen.domains.create(max_vcpus=2)
    domain.set_max_memory(4096)
    yield domain
    _remove(domain)


@pytest.fixture
def pvh(xen: pyxc.Xen) -> Iterator[pyxc.Domain]:
    """An empty, paused PVH domain that may own 4 MiB, with memory for its page tables."""
    domain = xen.domains.create(hvm=True, hap=True)
    domain.set_max_memory(4096)
    xen.call(domctl_paging.SHADOW_OP_SET_ALLOCATION, domain.domid, mb=2)
    yield domain
    _remove(domain)


@pytest.fixture
def build(xen: pyxc.Xen) -> Iterator[builds.Build]:
    """Builds the lab's guests: build("pvh", "pq", memory_kb=16384); all are destroyed at the end."""
    with builds.builder(xen) as build:
        yield build


@pytest.fixture
def launched(named: pyxc.Xen) -> Iterator[builds.Launch]:
    """Launches guests: launched("linux", "vcpus=2"); in the end none of them is left."""
    with builds.launcher(named) as launched:
        yield launched


def _remove(domain: pyxc.Domain) -> None:
    if domain.exists():
        domain.destroy(timeout=10)


@pytest.fixture
def free_cpu(xen: pyxc.Xen, release: tuple[int, int]) -> Iterator[int]:
    """Cpu 1, without vcpus of dom0 during the test.

    If one that sleeps there is woken just when the cpu leaves its pool, Xen crashes (runq_insert() of
    xen/common/sched/credit2.c; seen on 4.17).
    """
    if release < (4, 14) and sys.maxsize < 2**32:
        pytest.skip("32-bit processes crash once all vcpus of dom0 are on one cpu of QEMU (seen on Xen 4.10)")
    before = [(vcpu, vcpu.affinity().hard) for vcpu in xen.domains[0].vcpus]
    for vcpu, _ in before:
        vcpu.set_affinity(hard={0})
    yield 1
    for vcpu, hard in before:
        vcpu.set_affinity(hard=hard)


@pytest.fixture
def changed_xen() -> None:
    """Tests that change Xen for good must come after all others."""


@pytest.fixture
def pyxc_command() -> ground_truth.Command:
    """The pyxc command of this Python, in a process of its own: pyxc_command("list")."""
    program = (sys.executable, "-m", "pyxc")
    return lambda *words: subprocess.run(
        [*program, *words], capture_output=True, text=True, timeout=120, check=True
    )


@pytest.fixture(scope="session")
def peer(release: tuple[int, int]) -> ground_truth.Peer:
    """xl and Xen's other tools, with xenstored running."""
    if "PYXC_PEER" not in os.environ:
        pytest.skip("no xl in this dom0")
    root = Path(os.environ["PYXC_PEER"])
    theirs, ours = ground_truth.release_of_tools(root), "{}.{}".format(*release)
    if theirs != ours:
        pytest.skip(f"xl is that of Xen {theirs}, the hypervisor is {ours}")
    return ground_truth.Peer.start(root, Path(os.environ["PYXC_GUESTS"]))


@pytest.fixture(scope="session")
def guests(peer: ground_truth.Peer) -> Iterator[ground_truth.Guests]:
    """Running guests, made by xl: "pv" and "pvh" of 16 MiB, "linux", a Debian kernel. All paused.

    Linux goes first, the small ones keep a cpu busy when they run.
    """
    peer.create("linux")
    for name in ("pv", "pvh"):
        peer.create(name)
        peer.wait_for(name, "line 1")
        peer.xl("pause", name)
    peer.wait_for("linux", "guest is up")
    peer.xl("pause", "linux")
    yield ground_truth.Guests({name: peer.domid(name) for name in ("pv", "pvh", "linux")})
