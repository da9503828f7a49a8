# SPDX-License-Identifier: MIT
"""Commands about files: label, inspect, verify."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from attributes import removexattr, setxattr

from pyxc import errors, opening
from pyxc.files import labels, provenance, writer

WEB, DB = "tenant1:vm_r:web_t:s0", "tenant2:vm_r:db_t:s0"


def test_a_label_comes_and_goes(pyxc, core):
    assert pyxc("label", "get", core) == (0, f"{WEB} {core}\n", "")
    assert pyxc("label", "rm", core) == (0, "", "")
    assert pyxc("label", "get", core).out == f"- {core}\n"
    assert pyxc("label", "set", "--no-validate", DB, core) == (0, "", "")
    assert pyxc("label", "get", core, "--json").json["files"] == [{"file": core, "label": DB}]
    assert pyxc("label", "rm", core, "--json").json["files"] == [{"file": core, "removed": True}]
    assert pyxc("label", "rm", core, "--json").json["files"] == [{"file": core, "removed": False}]


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (
            ["set", "--no-validate", "--expect", DB, "a:b:c"], 1,
            f"expected the label '{DB}', but it has the label '{WEB}'",
        ),
        (["set", "--no-validate", "--new", DB], 1, f"expected no label, but it has the label '{WEB}'"),
        (["rm", "--expect", DB], 1, f"expected the label '{DB}', but it has the label '{WEB}'"),
        (["set", "--no-validate", "--expect", WEB, DB], 0, None),
        (["set", "--no-validate", "--existing", DB], 0, None),
        (["rm", "--expect", WEB], 0, None),
        (["set", "--no-validate", DB, "--read-only"], 4, "a label would change, which --read-only forbids"),
        (["rm", "--read-only"], 4, "a label would change, which --read-only forbids"),
    ],
)  # fmt: skip
def test_a_label_changes_as_expected_or_not(pyxc, core, words, status, complaint):
    outcome = pyxc("label", *words, core)
    assert outcome == (status, "", f"pyxc: {core}: {complaint}\n" if complaint else "")
    assert (labels.get(core) == WEB) == bool(status)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["label"], 2),
        (["label", "set", "web_t", "CORE"], 2),
        (["label", "set", "--new", "--existing", WEB, "CORE"], 2),
        (["label", "check", "CORE"], 2),
        (["label", "check", "--seclabel", WEB, "--domain", "web1", "CORE"], 2),
        (["label", "check", "--seclabel", WEB, "--class", "resource", "CORE"], 2),
        (["label", "check", "--seclabel", "web_t", "CORE"], 2),
        (["label", "get", "CORE.not"], 1),
        (["label", "get", "CORE", "CORE.not"], 7),
        (["label", "get", "/dev/null"], 2),
        (["label", "set", "--no-validate", WEB, "/proc/version"], 6),
        (["verify", "CORE.not"], 1),
        (["inspect", "CORE.not"], 1),
    ],
)
def test_status_and_one_line(pyxc, core, words, status):
    outcome = pyxc(*(word.replace("CORE", core) for word in words))
    assert outcome.status == status
    assert len(outcome.err.splitlines()) == 1


def test_check_tells_what_it_decides_and_why(pyxc, core):
    assert pyxc("label", "check", "--seclabel", WEB, core) == (
        0, f"{core}: allowed (equality): {WEB} and {WEB} belong to the same tenant\n", "",
    )  # fmt: skip
    assert pyxc("label", "check", "--seclabel", DB, core) == (
        14, f"{core}: denied (equality): {DB} and {WEB} differ in user\n", "",
    )  # fmt: skip
    labels.remove(core)
    assert pyxc("label", "check", "--seclabel", WEB, core) == (
        10, f"{core}: unknown (no-label): the file has no label\n", "",
    )  # fmt: skip
    assert pyxc("label", "check", "--seclabel", WEB, core, "--json").json["decisions"] == [
        {
            "path": core, "subject": WEB, "label": None, "allowed": None, "source": "no-label",
            "reason": "the file has no label",
        }
    ]  # fmt: skip


DISK = "system_u:object_r:domU_t"


def test_a_label_must_be_in_the_policy(pyxc, core, guarded):
    outcome = pyxc("label", "set", DB, core)
    assert outcome.status == 1
    assert outcome.err == (
        f"pyxc: xsm_op.context_to_sid failed: EINVAL, invalid argument; the policy has no label '{DB}'\n"
    )
    assert labels.get(core) == WEB
    assert pyxc("label", "set", DISK, core) == (0, "", "")
    assert labels.get(core) == DISK


def test_where_there_is_no_policy_that_is_said(pyxc, core, host):
    warning = "pyxc: warning: this hypervisor has no policy to check the label against\n"
    assert pyxc("label", "set", DISK, core) == (0, "", warning)
    assert labels.get(core) == DISK


def test_where_there_is_no_hypervisor_the_way_out_is_said(pyxc, core, monkeypatch):
    def no_device(*_):
        raise errors.NotXenError(errno.ENOENT, "no privcmd device", "/dev/xen/privcmd")

    monkeypatch.setattr(opening, "open_link", no_device)
    outcome = pyxc("label", "set", DISK, core)
    assert outcome.status == 3
    assert "--no-validate skips the check" in outcome.err
    assert labels.get(core) == WEB


def test_a_domain_is_checked_by_its_label(pyxc, core, guarded):
    labels.put(core, DISK)
    outcome = pyxc("label", "check", "--domain", "web1", core)
    assert outcome == (
        0, f"{core}: allowed (equality): system_u:system_r:domU_t and {DISK} belong to the same tenant\n", "",
    )  # fmt: skip
    assert pyxc("label", "check", "--domain", "nobody", core).status == 5


def test_a_domain_without_a_policy_has_no_label(pyxc, core, host):
    assert pyxc("label", "check", "--domain", "web1", core).status == 6


@pytest.mark.parametrize(
    ("subject", "permission", "status", "said"),
    [
        ("system_u:system_r:dom0_t", "pause", 0, "allowed (policy): the policy allows"),
        ("system_u:system_r:domU_t", "pause", 14, "denied (policy): the policy does not allow"),
    ],
)
def test_the_policy_can_decide(pyxc, core, guarded, subject, permission, status, said):
    labels.put(core, DISK)
    words = ("label", "check", "--seclabel", subject, "--class", "domain", "--permission", permission, core)
    outcome = pyxc(*words)
    assert (outcome.status, outcome.err) == (status, "")
    assert outcome.out.startswith(f"{core}: {said} {subject} ")
    labels.put(core, DB)
    outcome = pyxc(*words, "--json")
    assert (outcome.status, outcome.json["decisions"][0]["allowed"]) == (10, None)
    assert outcome.json["decisions"][0]["reason"] == f"the policy has no label '{DB}'"


def test_a_subject_that_the_policy_does_not_know(pyxc, core, guarded):
    words = ("label", "check", "--class", "domain", "--permission", "pause", "--seclabel", DB)
    assert pyxc(*words, core).status == 1
    words = ("label", "check", "--class", "domino", "--permission", "pause", "--domain", "web1")
    labels.put(core, DISK)
    assert pyxc(*words, core).status == 2


def test_inspect(pyxc, core):
    outcome = pyxc("inspect", core)
    assert (outcome.status, outcome.err) == (0, "")
    rows = dict(line.split(": ", 1) for line in outcome.out.splitlines())
    shown = {key.strip(): value for key, value in rows.items()}
    assert {key: shown[key] for key in ("label", "provenance", "kind", "state", "size_bytes")} == {
        "label": WEB, "provenance": "attributes", "kind": "core", "state": "complete", "size_bytes": "15",
    }  # fmt: skip
    assert (shown["domain_domid"], shown["domain_name"], shown["xen_version"]) == ("1", "web1", "4.17")
    assert "domain_label" not in shown
    assert shown["started"].endswith("Z")
    found = pyxc("inspect", core, "--json").json
    assert (found["label"], found["source"], found["problems"]) == (WEB, "attributes", [])
    assert found["origin"]["domain"]["name"] == "web1"
    assert found["origin"]["state"] == "complete"
    assert found["digest"]["size_bytes"] == 15


def test_inspect_of_the_last_second_that_there_is(pyxc, core):
    said = '{"v":1,"kind":"core","state":"complete","tool":"x","t0":253402300799}'
    setxattr(core, provenance.ORIGIN, said.encode())
    assert "started                : 9999-12-31T23:59:59Z\n" in pyxc("inspect", core).out


def test_inspect_of_a_stranger(pyxc, core):
    setxattr(core, provenance.ORIGIN, b"\x1b[2J")
    setxattr(core, labels.ATTRIBUTE, b"\x1b[2J")
    removexattr(core, provenance.DIGEST)
    outcome = pyxc("inspect", core)
    assert outcome.out.split() == ["label", ":", "-", "provenance", ":", "attributes"]
    assert "\x1b" not in outcome.err
    assert [line.removeprefix(f"pyxc: {core}: ") for line in outcome.err.splitlines()] == [
        "user.pyxc.origin is malformed: not JSON in UTF-8",
        f"{labels.ATTRIBUTE} is '\\x1b[2J', which is not a label",
    ]
    assert len(pyxc("inspect", core, "--json").json["problems"]) == 2


def test_verify_has_a_status_for_each_verdict(pyxc, core):
    assert pyxc("verify", core) == (0, f"{core}: ok: it is unchanged\n", "")
    times = os.stat(core)
    Path(core).write_bytes(b"what was dumpeX")
    os.utime(core, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert pyxc("verify", core).status == 13
    os.utime(core)
    assert pyxc("verify", core).status == 11
    other = Path(f"{core}.other")
    other.touch()
    assert pyxc("verify", str(other)).status == 10
    unfinished = writer.ProvenanceFile(other, "core")
    unfinished.stream.write(b"half")
    unfinished.close()
    assert pyxc("verify", f"{other}.part").status == 12
    outcome = pyxc("verify", core, str(other), f"{other}.part", f"{other}.not", "--json")
    assert outcome.status == 12
    assert [file["verdict"] for file in outcome.json["files"]] == ["stale", "unknown", "incomplete"]
    assert len(outcome.json["failed"]) == 1


def test_files_need_no_hypervisor(pyxc, core):
    assert pyxc("--target", "moon", "label", "get", core).status == 0
    assert pyxc("--target", "moon", "verify", core).status == 0


RECORDED = (
    ["list", "-v"], ["vcpu-list", "web1"], ["info", "-v"], ["dmesg"], ["pause", "web1", "nobody", "99"],
    ["context", "1", "--json"], ["frames", "1", "--types"], ["frames", "1", "--p2m"], ["destroy", "build"],
    ["list", "--no-names"],
)  # fmt: skip


@pytest.mark.parametrize("words", RECORDED, ids=" ".join)
def test_a_command_prints_the_same_when_it_is_replayed(pyxc, attributes_directory, words):
    file = f"{attributes_directory}/bug.calls"
    shown = pyxc("--target", "sim:xen-4.17", "--record", file, *words)
    assert pyxc("verify", file).status == 0
    again = pyxc("--target", f"replay:{file}", *words)
    assert (again.status, again.err) == (shown.status, shown.err)
    assert again.out.replace(f"replay:{file}", "sim:xen-4.17") == shown.out


def test_another_command_is_not_in_a_recording(pyxc, attributes_directory):
    file = f"{attributes_directory}/bug.calls"
    pyxc("--target", "sim:", "--record", file, "list")
    outcome = pyxc("--target", f"replay:{file}", "info")
    assert outcome.status == 1
    assert "is for a different call" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_what_cannot_be_recorded(pyxc, attributes_directory):
    file = f"{attributes_directory}/bug.calls"
    assert pyxc("demo", "--record", file).status == 2
    assert pyxc("list", "--target", "sim:", "--record", f"{attributes_directory}/no/bug.calls").status == 1
    assert pyxc("list", "--target", "sim:", "--provenance", "moon").status == 2
    assert pyxc("list", "--target", "replay:/etc/passwd").status == 2
    assert list(attributes_directory.iterdir()) == []


def test_where_provenance_goes_is_said(pyxc, attributes_directory):
    file = f"{attributes_directory}/bug.calls"
    for where, source in (("sidecar", "sidecar"), ("required", "attributes"), ("none", None)):
        assert pyxc("list", "--target", "sim:", "--record", file, "--provenance", where).status == 0
        assert pyxc("inspect", file, "--json").json["source"] == source
