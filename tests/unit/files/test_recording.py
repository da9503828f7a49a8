# SPDX-License-Identifier: MIT
"""Recordings as files: made by pyxc.open(record=...), played back by pyxc.open("replay:...")."""

from __future__ import annotations

import base64
import errno
import json
import os
import resource
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyxc
from pyxc import errors
from pyxc.abi.grant_table import Reserved
from pyxc.files.provenance import State, Verdict, XenOrigin, verify
from pyxc.link.replay import ReplayError


@pytest.fixture
def path(attributes_directory: Path) -> Path:
    return attributes_directory / "bug.calls"


@pytest.fixture
def lines(path: Path) -> list[str]:
    """Of a recording of physinfo() and of a page of dom 1."""
    with pyxc.open("sim:xen-4.17", record=path, names=False) as xen:
        xen.physinfo()
        with xen.domains[1].memory.map(xen.domains[1].memory.frames().frames[:1]):
            pass
    return path.read_text(encoding="ascii").splitlines()


def ask(path: Path) -> pyxc.PhysInfo:
    with pyxc.open(f"replay:{path}", names=False) as xen:
        info = xen.physinfo()
        with xen.domains[1].memory.map(xen.domains[1].memory.frames().frames[:1]):
            pass
        return info


def test_a_recording_answers_as_the_hypervisor_did(path: Path) -> None:
    with pyxc.open("sim:xen-4.20", record=path, names=False) as xen:
        asked = (xen.interface, xen.domains.infos(), xen.domains[1].memory.frames(), xen.vcpus())
        with pytest.raises(errors.HypercallError) as refused:
            xen.domains[1].unpause()
        assert not path.exists(), "it has its name when it is complete"
    with pyxc.open(f"replay:{path}", names=False) as xen:
        assert repr(xen) == f"<Xen 4.20 at replay:{path}>"
        again = (xen.interface, xen.domains.infos(), xen.domains[1].memory.frames(), xen.vcpus())
        assert again == asked
        with pytest.raises(errors.HypercallError) as refused_again:
            xen.domains[1].unpause()
        assert str(refused_again.value) == str(refused.value)


def test_it_says_where_it_comes_from(path: Path, lines: list[str]) -> None:
    said = verify(path)
    assert said.verdict is Verdict.OK
    origin = said.provenance.origin
    assert origin is not None
    assert (origin.kind, origin.state, origin.xen) == (
        "recording", State.COMPLETE, XenOrigin("4.17", None, 0x15),
    )  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o600


def test_provenance_can_go_elsewhere_or_nowhere(path: Path) -> None:
    with pyxc.open("sim:", record=path, provenance="sidecar"):
        pass
    assert verify(path).provenance.source == "sidecar"
    with pyxc.open("sim:", record=path, provenance="none"):
        pass
    assert verify(path).provenance.source is None
    with pytest.raises(ValueError, match="'nowhere'"):
        pyxc.open("sim:", record=path, provenance="nowhere")


def test_a_handle_that_is_never_closed_leaves_it_unfinished(path: Path) -> None:
    xen = pyxc.open("sim:", record=path)
    assert verify(f"{path}.part").verdict is Verdict.INCOMPLETE
    with pytest.raises(FileExistsError, match="is being written by another process"):
        pyxc.open("sim:", record=path)
    xen.close()
    assert verify(path).verdict is Verdict.OK


def test_another_file_is_replaced_on_request_only(path: Path) -> None:
    path.write_bytes(b"a letter to my grandmother")
    with pytest.raises(FileExistsError, match="exists and is not a recording file"):
        pyxc.open("sim:", record=path)
    assert path.read_bytes() == b"a letter to my grandmother"
    with pyxc.open("sim:", record=path, replace=True, provenance="none"):
        pass
    with pyxc.open("sim:", record=path):
        pass
    assert verify(path).verdict is Verdict.OK


def test_a_full_disk_concerns_the_recording_alone(path: Path) -> None:
    """A limit on the size of files has the effect of a full disk: for a moment, in the middle."""
    xen = pyxc.open("sim:xen-4.17", record=path, names=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before, made = set(xen.domains), set()
    try:
        for count in range(90):
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000 if 20 <= count < 60 else soft, hard))
            made.add(xen.domains.create().domid)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert set(xen.domains) == before | made, "each call was done, and the program was told so"
    with pytest.raises(OSError, match="the recording is incomplete: File too large") as failed:
        xen.close()
    part = Path(f"{path}.part")
    assert failed.value.filename == str(part)
    assert not path.exists()
    assert verify(part).verdict is Verdict.INCOMPLETE
    xen.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_recording_has_no_hole(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """After the first write that fails nothing is written, although it could be."""
    xen, written = pyxc.open("sim:xen-4.17", record=path, names=False), os.write
    for _ in range(200):
        xen.physinfo()

    def fail(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    for _ in range(100):
        xen.physinfo()
    monkeypatch.setattr(os, "write", written)
    size = Path(f"{path}.part").stat().st_size
    for _ in range(80):
        xen.physinfo()
    with pytest.raises(OSError, match="the recording is incomplete"):
        xen.close()
    assert Path(f"{path}.part").stat().st_size == size


def test_a_recording_that_never_ends_a_line(path: Path, lines: list[str]) -> None:
    """A sparse file takes no space on the disk, and would take all memory."""
    with path.open("w") as file:
        file.write(lines[0] + "\n")
        file.truncate(20 << 30)
    with pytest.raises(ValueError, match=f"replay:{path} is no"):
        pyxc.open(f"replay:{path}")
    with path.open("w") as file:
        file.write("\n".join(lines[:4]) + "\n")
        file.truncate(20 << 30)
    with pytest.raises(ReplayError, match="has a line of more than 67108864 characters"):
        ask(path)


def test_only_a_regular_file_is_played_back(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match="is not a regular file"):
            pyxc.open(f"replay:{place}")


def test_a_failed_opening_is_recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what is needed to find out why."""
    monkeypatch.setattr("pyxc.sim.Hypervisor.hypercall", lambda *_: -errno.EACCES)
    with pytest.raises(errors.Error) as failed:
        pyxc.open("sim:xen-4.17", record=path)
    monkeypatch.undo()
    with pytest.raises(errors.Error) as again:
        pyxc.open(f"replay:{path}")
    assert (type(again.value), str(again.value)) == (type(failed.value), str(failed.value))


def test_event_channels_are_recorded(path: Path) -> None:
    def run(xen: pyxc.Xen) -> list[int | None]:
        with xen.events() as channels:
            far = channels.bind_unbound(0)
            near = channels.bind_interdomain(0, far)
            found = [channels.wait(10)]
            channels.notify(near)
            found += [channels.wait(10), channels.wait(0)]
            with pytest.raises(errors.HypercallError):
                channels.bind_interdomain(0, 999)
            channels.unbind(near)
            return found

    with pyxc.open("sim:", record=path) as xen:
        found = run(xen)
    with pyxc.open(f"replay:{path}") as xen:
        assert run(xen) == found


def test_a_missing_event_device_is_recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(link: object) -> None:
        raise errors.NotXenError(errno.ENOENT, "the module is not loaded", "/dev/xen/evtchn")

    monkeypatch.setattr("pyxc.sim.SimLink.open_events", refuse)
    with pyxc.open("sim:", record=path) as xen, pytest.raises(errors.NotXenError, match="not loaded"):
        xen.events()
    monkeypatch.undo()
    with pyxc.open(f"replay:{path}") as xen, pytest.raises(errors.NotXenError, match="not loaded"):
        xen.events()


def test_xenstore_is_recorded(path: Path) -> None:
    def run(xen: pyxc.Xen) -> list[object]:
        domain = xen.domains["web1"]
        xen.store.write("/tool/test", "x" * 3000)
        with pytest.raises(errors.StoreError) as refused:
            xen.store.list("/no/such/node/" + "x" * 3000)
        return [domain.domid, xen.domains[2].name, xen.store.read("/tool/test"), str(refused.value)]

    with pyxc.open("sim:xen-4.17", record=path) as xen:
        told = run(xen)
    assert told[:2] == [1, "db1"]
    with pyxc.open(f"replay:{path}") as xen:
        assert run(xen) == told


def test_events_of_xenstore_are_recorded(path: Path) -> None:
    def run(xen: pyxc.Xen) -> list[str]:
        with xen.store.watch("/tool") as watch:
            first = watch.get(10)
            xen.store.write("/tool/a", "1")
            second = watch.get(10)
            assert watch.get(0) is None
            assert first is not None
            assert second is not None
            return [first.path, second.path]

    with pyxc.open("sim:xen-4.17", record=path) as xen:
        assert run(xen) == ["/tool", "/tool/a"]
    with pyxc.open(f"replay:{path}") as xen:
        assert run(xen) == ["/tool", "/tool/a"]


def test_a_missing_xenstore_is_recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(link: object) -> None:
        raise errors.StoreError(errno.ENODEV, "no xenstore: not here")

    def ask_store(xen: pyxc.Xen) -> str:
        with pytest.raises(errors.StoreError) as refused:
            xen.store.read("/tool")
        return str(refused.value)

    monkeypatch.setattr("pyxc.sim.SimLink.connect_store", refuse)
    with pyxc.open("sim:", record=path) as xen:
        told = ask_store(xen)
    assert "no xenstore: not here" in told
    monkeypatch.undo()
    with pyxc.open(f"replay:{path}") as xen:
        assert ask_store(xen) == told


def test_grants_are_recorded(path: Path) -> None:
    def run(xen: pyxc.Xen) -> list[object]:
        web1 = xen.domains[1]
        web1.grants.seed(console=web1.memory.frames().frames[0])
        with web1.grants.map(Reserved.CONSOLE) as ring, memoryview(ring) as view:
            found = bytes(view)
        with pytest.raises(errors.HypercallError) as refused:
            web1.grants.map([4000])
        lent = web1.grants.lend(2)
        lent.pages.close()
        return [found, str(refused.value), lent.refs]

    with pyxc.open("sim:xen-4.17", record=path) as xen:
        told = run(xen)
    with pyxc.open(f"replay:{path}") as xen:
        assert run(xen) == told


@pytest.mark.parametrize(
    "content",
    [
        "", "\n", "[]\n", "x", "\xff", '{"format": 1}',
        '{"format": 1, "byteorder": "little", "kernel_bits": 8}',
    ],
)  # fmt: skip
def test_what_is_no_recording_is_refused(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(ValueError, match=f"replay:{path} is not a recording|is a recording of format None"):
        pyxc.open(f"replay:{path}")
    with pytest.raises(FileNotFoundError):
        pyxc.open(f"replay:{path}.not")


def test_another_question_names_the_line(path: Path, lines: list[str]) -> None:
    with pyxc.open(f"replay:{path}", names=False) as xen, pytest.raises(ReplayError, match="line . of the"):
        xen.domains[2].info()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_recording_is_an_error_of_the_recording(
    path: Path, lines: list[str], data: st.DataObject
) -> None:
    """Whatever a stranger wrote into one line."""
    number = data.draw(st.integers(0, len(lines) - 1))
    line = json.loads(lines[number])
    key = data.draw(st.sampled_from(sorted(line)))
    junk = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
    inner = st.fixed_dictionaries({"bytes": junk, "handles": junk})
    line[key] = data.draw(junk | inner)
    damaged = path.with_name("damaged.calls")
    damaged.write_text("\n".join([*lines[:number], json.dumps(line), *lines[number + 1 :]]), encoding="ascii")
    try:
        ask(damaged)
    except (errors.Error, OSError, ValueError) as error:
        assert str(error)


def test_a_line_cannot_claim_endless_memory(path: Path, lines: list[str]) -> None:
    bomb = base64.b64encode(zlib.compress(bytes(1 << 26))).decode()
    number = next(index for index, line in enumerate(lines) if '["@",0]' in line)
    line = json.loads(lines[number])
    line["out"]["bytes"] = bomb
    lines[number] = json.dumps(line)
    path.write_text("\n".join(lines), encoding="ascii")
    with pytest.raises(ReplayError, match=r"line \d+ of the recording is damaged"):
        ask(path)
