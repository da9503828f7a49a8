# SPDX-License-Identifier: MIT
"""How the lab takes hypervisor files that do not come from Debian's packages, and that no dom0 keeps it."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyxc

CHECKOUT = Path(__file__).parent.parent.parent
CONTENT = b"a hypervisor"

Lanes = Callable[..., list[Any]]


@pytest.fixture
def lanes_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Lanes]:
    """The lanes of a file that says of itself, when it is booted, which release it is."""
    monkeypatch.syspath_prepend(str(CHECKOUT))
    monkeypatch.setenv("PYXC_CACHE", str(tmp_path / "cache"))
    cache, own = importlib.import_module("lab.cache"), importlib.import_module("lab.own")

    def found(name: str, release: str, content: bytes = CONTENT) -> list[Any]:
        def boot(into: Path) -> None:
            (into / "release").write_text(release)

        cache.entry("release", hashlib.sha256(content).hexdigest(), boot)
        (tmp_path / name).write_bytes(content)
        lanes: list[Any] = own.lanes(tmp_path / name)
        return lanes

    yield found


@pytest.mark.parametrize("name", ["4.19.0", "xen", "xen-4.17.gz", "xen (mine), of today"])
def test_a_release_is_what_the_file_says_whatever_its_name(
    lanes_of: Lanes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (lane,) = lanes_of(name, "4.19")
    suite = importlib.import_module("lab.suite")
    boots: list[Any] = []

    def attempt(lane: Any, boot: Any, arguments: str, partial: bool) -> Any:
        boots.append(boot)
        return suite.Verdict(lane, (), (), 0.0, False)

    monkeypatch.setattr(suite, "_attempt", attempt)
    suite.run(lane, None, {}, False)
    assert boots[0].environment["PYXC_RELEASE"] == lane.hypervisor.version == "4.19"
    assert lane.name.endswith("-i386") and lane.name.isascii() and " " not in lane.name


def test_a_release_without_lanes_has_one_without_tools_of_another_release(lanes_of: Lanes) -> None:
    (lane,) = lanes_of("xen", "4.19")
    assert (lane.root.arch, lane.peer, lane.peer_path) == ("i386", None, None)
    assert lane.hypervisor.file.read_bytes() == CONTENT
    assert [skip.pattern for skip in lane.skips] == ["*"], "what it can do is not known beforehand"


def test_a_release_with_lanes_has_those_that_need_no_other_build(lanes_of: Lanes) -> None:
    lanes = lanes_of("xen", "4.17")
    assert sorted(lane.name for lane in lanes) == ["xen-amd64", "xen-i386"]
    assert {lane.hypervisor.file.read_bytes() for lane in lanes} == {CONTENT}
    assert {skip.pattern for lane in lanes for skip in lane.skips} == {"*"}
    assert all(lane.peer for lane in lanes), "xl is of this release"


def test_a_compressed_file_is_unpacked(lanes_of: Lanes) -> None:
    (lane,) = lanes_of("xen.gz", "4.19", gzip.compress(CONTENT))
    assert lane.hypervisor.file.read_bytes() == CONTENT
    assert lane.name == "xen.gz-i386"


def test_a_file_that_does_not_exist(lanes_of: Lanes, tmp_path: Path) -> None:
    own = importlib.import_module("lab.own")
    with pytest.raises(importlib.import_module("lab.host").LabError, match="no such file"):
        own.lanes(tmp_path / "nothing")


def test_scripts_run_on_a_release_of_which_there_is_no_recording() -> None:
    """In the lab they are only skipped once they have run to their end."""
    spec = importlib.util.spec_from_file_location("_scripts", CHECKOUT / "tests/real/test_callscripts.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pyxc.open("sim:xen-4.10", names=False) as xen:
        with pytest.raises(pytest.skip.Exception, match="ran to its end; there is no recording on xen-4.10"):
            module.same_outcomes(xen, "vnuma")
        assert list(xen.domains) == [0, 1, 2, 3]


def test_a_dom0_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(CHECKOUT))
    host, vm = importlib.import_module("lab.host"), importlib.import_module("lab.vm")
    monkeypatch.setattr(vm, "SILENCE_S", 0.01)
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    pulse = vm.Pulse(disk)
    assert pulse.beats()
    time.sleep(0.02)
    disk.write_bytes(b"\n")
    assert pulse.beats()
    with (tmp_path / "console").open("wb") as console:
        assert host.watch(["sleep", "3600"], console, 3600, alive=pulse.beats) is None


def test_the_benchmarks_start_the_script_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CHECKOUT))
    script = importlib.import_module("bench.startup").SCRIPT
    assert f"install -m 755 {script.relative_to(CHECKOUT)} " in (CHECKOUT / "debian/rules").read_text()
    assert script.is_file()
