# SPDX-License-Identifier: MIT
"""Labels of files on a hypervisor with FLASK and Xen's example policy: it validates and decides."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ground_truth import Command

import pyxc
from pyxc import errors
from pyxc.files import labels
from pyxc.files.labels import Source, policy_access

DOM0, GUEST = "system_u:system_r:dom0_t", "system_u:system_r:domU_t"
DISK, UNKNOWN = "system_u:object_r:domU_t", "system_u:object_r:nobody_t"


@pytest.fixture
def image(xen: pyxc.Xen, tmp_path: Path) -> Path:
    if not xen.flask.present:
        pytest.skip("this hypervisor has no security policy")
    file = tmp_path / "disk.img"
    file.touch()
    return file


def test_a_label_must_be_one_of_the_policy(image: Path, xen: pyxc.Xen, pyxc_command: Command) -> None:
    with pytest.raises(errors.LabelNotFound):
        labels.put(image, UNKNOWN, validate=xen.flask.sid)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        pyxc_command("label", "set", UNKNOWN, str(image))
    assert UNKNOWN in refused.value.stderr
    assert labels.get(image) is None
    pyxc_command("label", "set", DISK, str(image))
    assert labels.get(image) == DISK


def test_a_domain_is_checked_by_its_label(image: Path, pv: pyxc.Domain, pyxc_command: Command) -> None:
    labels.put(image, DISK)
    checked = pyxc_command("label", "check", "--domain", str(pv.domid), str(image))
    assert checked.stdout == f"{image}: allowed (equality): {GUEST} and {DISK} belong to the same tenant\n"


def test_the_policy_decides(image: Path, xen: pyxc.Xen) -> None:
    access = policy_access(xen.flask, "domain", "pause")
    labels.put(image, GUEST)
    assert labels.decide(DOM0, image, access).allowed
    denied = labels.decide(GUEST, image, access)
    assert (denied.allowed, denied.source) == (False, Source.POLICY)
    labels.put(image, UNKNOWN)
    assert labels.decide(DOM0, image, access).allowed is None
