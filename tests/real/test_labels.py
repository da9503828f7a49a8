# SPDX-License-Identifier: MIT
"""Files in a real dom0: labels are trusted attributes; its tmpfs keeps no user attributes (Linux 6.1)."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from attributes import getxattr, listxattr
from ground_truth import Command

import pyxc
from pyxc import errors
from pyxc.files import labels
from pyxc.files.provenance import Verdict, verify
from pyxc.files.writer import Keep, ProvenanceFile

WEB, DB = "tenant1:vm_r:web_t", "tenant2:vm_r:db_t"
DISK = Path("/dev/vda")
KERNEL_KEEPS_USER_ATTRIBUTES = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 6)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "disk.img"
    file.touch()
    return file


def test_a_label_is_a_trusted_attribute(image: Path, pyxc_command: Command) -> None:
    pyxc_command("label", "set", "--no-validate", "--new", WEB, str(image))
    assert getxattr(image, "trusted.pyxc.seclabel") == WEB.encode()
    assert pyxc_command("label", "get", str(image)).stdout == f"{WEB} {image}\n"
    with pytest.raises(errors.LabelConflict):
        labels.put(image, DB, expect=DB)
    assert labels.remove(image, expect=WEB)
    assert listxattr(image) == []


def test_the_node_of_a_block_device_can_have_a_label() -> None:
    labels.put(DISK, DB)
    try:
        assert labels.get(DISK) == DB
        assert not labels.decide(WEB, DISK).allowed
    finally:
        labels.remove(DISK)
    assert labels.get(DISK) is None


def test_without_the_capability_a_label_is_not_taken_for_absent(image: Path, tmp_path: Path) -> None:
    labels.put(image, WEB)
    words = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "pyxc", "label", "get", image]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert "needs CAP_SYS_ADMIN" in done.stderr


def test_where_user_attributes_cannot_be_kept(tmp_path: Path) -> None:
    assert not KERNEL_KEEPS_USER_ATTRIBUTES, "another kernel than the lab's: test what it keeps instead"
    plain, beside, refused = (tmp_path / name for name in ("plain", "beside", "refused"))
    warned = pytest.warns(RuntimeWarning, match="does not support user attributes")
    with warned, ProvenanceFile(plain, "core") as file:
        file.stream.write(b"dumped")
    assert (plain.read_bytes(), verify(plain).verdict) == (b"dumped", Verdict.UNKNOWN)
    with ProvenanceFile(beside, "core", keep=Keep.SIDECAR) as file:
        file.stream.write(b"dumped")
    assert verify(beside).verdict is Verdict.OK
    with pytest.raises(errors.AttributeUnsupported) as caught:
        ProvenanceFile(refused, "core", keep=Keep.REQUIRED)
    assert caught.value.errno == errno.EOPNOTSUPP
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["beside", "beside.pyxc.json", "plain"]


def test_what_was_recorded_is_replayed_without_the_hypervisor(
    tmp_path: Path, pyxc_command: Command, pv: pyxc.Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay shows that domain, and what was printed, after it is gone; without xenstored, as here, too."""
    file = tmp_path / "list.calls"
    options = ("--record", str(file), "--provenance", "sidecar", "list", "--json")
    shown = pyxc_command(*options)
    assert f'"domid": {pv.domid},' in shown.stdout
    pv.destroy()
    replayed = pyxc_command("--target", f"replay:{file}", "list", "--json")
    assert replayed.stdout == shown.stdout
    assert pyxc_command("verify", str(file)).stdout.endswith(": ok: it is unchanged\n")


@pytest.mark.usefixtures("unguarded")
def test_a_failure_is_recorded_too(tmp_path: Path, pyxc_command: Command) -> None:
    file = tmp_path / "pause.calls"
    options = ("--record", str(file), "--provenance", "none", "pause", "0")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        pyxc_command(*options)
    with pytest.raises(subprocess.CalledProcessError) as again:
        pyxc_command("--target", f"replay:{file}", "pause", "0")
    assert again.value.stderr == failed.value.stderr
    assert "domctl.pausedomain" in again.value.stderr
