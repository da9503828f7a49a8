# SPDX-License-Identifier: MIT
"""What this hypervisor tells of itself beyond its domains."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

import pyxc
from pyxc import errors
from pyxc.abi.cpu_policy import Featureset, Policy
from pyxc.abi.hypfs import Encoding, Type


@pytest.mark.needs_xen(4, 14)
def test_the_tree_tells_what_xen_version_tells(xen: pyxc.Xen) -> None:
    tree, version = xen.hypfs, xen.version
    told = [tree.read(f"/buildinfo/version/{name}") for name in ("major", "minor", "extra")]
    assert told == [version.major, version.minor, version.extra]
    assert tree.read("/buildinfo/compileinfo/compile_date") == xen.build.compile_date


@pytest.mark.needs_xen(4, 14)
def test_the_configuration_is_unpacked(xen: pyxc.Xen) -> None:
    assert xen.hypfs.entry("/buildinfo/config").encoding is Encoding.GZIP
    assert "CONFIG_X86_64=y" in str(xen.hypfs.read("/buildinfo/config")).splitlines()


@pytest.mark.needs_xen(4, 14)
def test_every_entry_of_the_tree_can_be_read(xen: pyxc.Xen) -> None:
    entries = list(xen.hypfs.walk())
    assert {"/buildinfo", "/params"} <= {entry.path for entry in entries if entry.type is Type.DIR}
    for entry in entries:
        assert xen.hypfs.entry(entry.path) == entry
        if entry.type is not Type.DIR:
            assert isinstance(xen.hypfs.read(entry.path), str | int)


@pytest.mark.needs_xen(4, 14)
def test_a_parameter_is_changed_and_changed_back(xen: pyxc.Xen) -> None:
    before = xen.hypfs.read("/params/console_timestamps")
    xen.hypfs.write("/params/console_timestamps", "boot")
    try:
        assert xen.hypfs.read("/params/console_timestamps") == "boot"
        with pytest.raises(errors.HypercallError) as refused:
            xen.hypfs.write("/params/console_timestamps", "x" * 300)
        assert refused.value.errno == errno.ENOSPC
    finally:
        xen.hypfs.write("/params/console_timestamps", before)


def test_no_patch_was_uploaded(xen: pyxc.Xen) -> None:
    assert xen.livepatches.all() == []
    with pytest.raises(errors.HypercallError) as refused:
        xen.livepatches.status("nobody")
    assert refused.value.errno == errno.ENOENT


@pytest.mark.needs_xen(4, 13)
def test_dom0s_policy_is_what_its_kernel_sees(xen: pyxc.Xen) -> None:
    basic, version = xen.domains[0].cpu_policy().leaf(0), xen.domains[0].cpu_policy().leaf(1)
    assert basic and version
    vendor = b"".join(word.to_bytes(4, "little") for word in (basic.b, basic.d, basic.c)).decode()
    cpuinfo = Path("/proc/cpuinfo").read_text()
    assert re.search(rf"^vendor_id\s*: {vendor}$", cpuinfo, re.MULTILINE)
    stepping = re.search(r"^stepping\s*: (\d+)$", cpuinfo, re.MULTILINE)
    assert stepping and int(stepping[1]) == version.a & 0xF


@pytest.mark.needs_xen(4, 13)
def test_policies_go_from_the_processor_to_a_guest(xen: pyxc.Xen, pvh: pyxc.Domain) -> None:
    raw, guest = xen.cpu_policies.host(Policy.RAW), pvh.cpu_policy()
    processor, shown = raw.leaf(1), guest.leaf(1)
    assert processor and shown
    assert shown.d & ~processor.d == 0
    assert guest.msrs


@pytest.mark.needs_xen(4, 13)
def test_featuresets_begin_with_leaf_1(xen: pyxc.Xen) -> None:
    words = xen.cpu_policies.featureset(Featureset.RAW)
    leaf = xen.cpu_policies.host(Policy.RAW).leaf(1)
    assert leaf and words[0] == leaf.d


def test_idle_states_and_no_frequencies(xen: pyxc.Xen) -> None:
    states = xen.pm.c_states(0)
    assert states.idle_ns > 0
    assert sum(state.residency_ns for state in states.states) >= states.idle_ns
    with pytest.raises(errors.HypercallError) as refused:
        xen.pm.p_states(0)
    assert refused.value.errno == errno.ENODEV


def test_what_is_offered_to_dom0(xen: pyxc.Xen) -> None:
    assert pyxc.Feature.DOM0 in xen.features
    assert pyxc.Feature.AUTO_TRANSLATED_PHYSMAP not in xen.features
    listed = int(Path("/sys/hypervisor/properties/features").read_text(), 16)
    assert int(xen.features) == listed & 0xFFFFFFFF
