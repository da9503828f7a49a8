# SPDX-License-Identifier: MIT
"""Security labels of files."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attributes import getxattr, setxattr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyxc import errors
from pyxc.files import labels
from pyxc.files.labels import Context, Presence, Source

WEB, DB = "tenant1:vm_r:web_t:s0", "tenant2:vm_r:db_t:s0"


def test_a_label_is_on_the_file_and_goes_where_it_goes(image: Path) -> None:
    assert labels.get(image) is None
    labels.put(image, WEB)
    assert getxattr(image, labels.ATTRIBUTE) == WEB.encode()
    moved = image.rename(image.with_name("moved.img"))
    assert labels.get(moved) == WEB
    assert labels.remove(moved)
    assert not labels.remove(moved)
    assert labels.get(moved) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="trusted attributes need CAP_SYS_ADMIN")
def test_labels_are_trusted_attributes(image: Path) -> None:
    if labels.ATTRIBUTE != "trusted.pyxc.seclabel":
        pytest.skip("root may not set trusted attributes here")
    labels.put(image, WEB)
    assert getxattr(image, "trusted.pyxc.seclabel") == WEB.encode()


@pytest.mark.parametrize(
    "label",
    [
        "", "web_t", "u:r", "u:r:", ":r:t", "u::t", "u:r:t:", "u:r:t s0", "u:r:t\n", "u:r:t\0", "u:r:t\x7f",
        "u:r:caf\N{LATIN SMALL LETTER E WITH ACUTE}", "u:r:" + "t" * 252,
    ],
)  # fmt: skip
def test_what_is_no_label_is_refused(image: Path, label: str) -> None:
    with pytest.raises(ValueError, match="is not a label"):
        labels.put(image, label)
    assert labels.get(image) is None


def test_the_longest_label(image: Path) -> None:
    longest = "u:r:" + "t" * 251
    labels.put(image, longest)
    assert labels.get(image) == longest


def test_an_mls_range_may_have_colons() -> None:
    assert Context.parse("u:r:t:s0-s15:c0.c1023") == Context("u", "r", "t", "s0-s15:c0.c1023")
    assert Context.parse("u:r:t") == Context("u", "r", "t", None)


def test_a_label_changes_only_when_the_old_one_is_expected(image: Path) -> None:
    labels.put(image, WEB)
    with pytest.raises(
        errors.LabelConflict, match=f"expected the label '{DB}', but it has the label '{WEB}'"
    ):
        labels.put(image, "a:b:c", expect=DB)
    with pytest.raises(errors.LabelConflict):
        labels.remove(image, expect=DB)
    assert labels.get(image) == WEB
    labels.put(image, DB, expect=WEB)
    labels.remove(image, expect=DB)
    with pytest.raises(errors.LabelConflict, match="expected the label .*, but it has no label"):
        labels.put(image, WEB, expect=DB)


def test_presence_can_be_expected(image: Path) -> None:
    with pytest.raises(errors.LabelConflict, match="expected a label, but it has no label"):
        labels.put(image, WEB, expect=Presence.PRESENT)
    labels.put(image, WEB, expect=Presence.ABSENT)
    with pytest.raises(errors.LabelConflict, match="expected no label, but it has"):
        labels.put(image, DB, expect=Presence.ABSENT)
    labels.put(image, DB, expect=Presence.PRESENT)
    assert labels.get(image) == DB


RACE = """
import sys, time
from pyxc import errors
from pyxc.files import labels
labels.ATTRIBUTE = sys.argv[3]
while True:
    try:
        labels.put(sys.argv[1], sys.argv[2], expect=labels.Presence.ABSENT)
        print("first")
        break
    except errors.LabelConflict:
        print("second")
        break
    except BlockingIOError:
        time.sleep(0.001)
"""


def test_of_many_who_label_a_new_file_one_wins(
    image: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    racer = (sys.executable, "-c", RACE, str(image))
    racers = [
        start(*racer, f"u:r:t{number}", labels.ATTRIBUTE, stdout=subprocess.PIPE) for number in range(4)
    ]
    said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert sorted(said) == ["first", "second", "second", "second"]
    assert labels.get(image) == f"u:r:t{said.index('first')}"


def test_a_file_that_is_locked_is_left_alone(image: Path) -> None:
    with image.open() as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="locked by another process"):
            labels.put(image, WEB)
    assert labels.get(image) is None


def test_a_label_that_the_policy_does_not_know_is_not_set(image: Path) -> None:
    def validate(label: str) -> None:
        if label != WEB:
            raise errors.from_errno(22, "xsm.context_to_sid")

    with pytest.raises(errors.HypercallError, match="context_to_sid"):
        labels.put(image, DB, validate=validate)
    assert labels.get(image) is None
    labels.put(image, WEB, validate=validate)
    assert labels.get(image) == WEB


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_what_others_put_there_is_a_label_or_reported(image: Path, value: bytes) -> None:
    setxattr(image, labels.ATTRIBUTE, value)
    try:
        label = labels.get(image)
    except errors.DecodeError as error:
        assert str(error).isprintable()
        found = labels.decide(WEB, image)
        assert (found.allowed, found.source) == (None, Source.NO_LABEL)
    else:
        assert label is not None
        assert label.encode("ascii") == value
    labels.put(image, WEB)
    assert labels.get(image) == WEB


@pytest.mark.parametrize(
    ("label", "differing"),
    [
        (WEB, None),
        ("tenant1:vm_r:kernel_t:s0", None),
        ("tenant1:object_r:kernel_t:s0", None),
        (DB, "user"),
        ("tenant1:other_r:web_t:s0", "role"),
        ("tenant1:vm_r:web_t:s1", "MLS range"),
        ("tenant1:vm_r:web_t", "MLS range"),
        ("tenant2:other_r:web_t:s1", "user and role and MLS range"),
    ],
)
def test_without_a_policy_tenants_are_compared(image: Path, label: str, differing: str | None) -> None:
    labels.put(image, label)
    found = labels.decide(WEB, image)
    assert (found.label, found.source, found.allowed) == (label, Source.EQUALITY, differing is None)
    assert found.reason.startswith(f"{WEB} and {label} ")
    assert found.reason.endswith(f"differ in {differing}" if differing else "belong to the same tenant")


@pytest.mark.parametrize("allowed", [True, False])
def test_a_policy_decides_where_there_is_one(image: Path, allowed: bool) -> None:
    asked: list[tuple[str, str]] = []

    def access(subject: str, label: str) -> bool:
        asked.append((subject, label))
        return allowed

    labels.put(image, DB)
    found = labels.decide(WEB, image, access)
    assert (found.allowed, found.source, asked) == (allowed, Source.POLICY, [(WEB, DB)])


def test_a_file_without_a_label_is_unknown_and_not_asked_about(image: Path) -> None:
    found = labels.decide(WEB, image, lambda subject, label: True)
    assert (found.label, found.allowed, found.source) == (None, None, Source.NO_LABEL)
    with pytest.raises(ValueError, match="is not a label"):
        labels.decide("web", image)
