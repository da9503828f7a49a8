# SPDX-License-Identifier: MIT
"""Where files come from, and whether they still are what was written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attributes import getxattr, listxattr, setxattr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyxc import errors
from pyxc.files import provenance, xattrs
from pyxc.files.provenance import (
    DIGEST,
    ORIGIN,
    DomainOrigin,
    Origin,
    State,
    Verdict,
    XenOrigin,
    read,
    verify,
)
from pyxc.files.writer import Keep, ProvenanceFile

CALLS = xattrs.calls
DATA = b"what was dumped\n" * 1000
UUID = "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"


@pytest.fixture
def path(attributes_directory: Path) -> Path:
    return attributes_directory / "web1.core"


@pytest.fixture
def written(path: Path) -> Path:
    with ProvenanceFile(path, "core", domain=DomainOrigin(7, UUID, "web1")) as file:
        file.stream.write(DATA)
        file.note(xen=XenOrigin("4.17", domctl=0x15))
    return path


def test_a_file_says_where_it_comes_from(written: Path) -> None:
    assert written.read_bytes() == DATA
    assert written.stat().st_mode & 0o777 == 0o600
    said = read(written)
    assert (said.source, said.problems) == ("attributes", ())
    assert said.origin is not None
    assert said.origin[:4] == ("core", State.COMPLETE, "pyxc 0.1.0", os.uname().nodename)
    assert said.origin.domain == (7, UUID, "web1", None)
    assert said.origin.xen == ("4.17", None, 0x15)
    assert said.origin.size_bytes == len(DATA)
    assert said.origin.started_s is not None
    assert said.origin.ended_s is not None
    assert said.origin.started_s <= said.origin.ended_s


def test_other_programs_can_read_it(written: Path) -> None:
    """The attributes are what man/pyxc-xattr.7 says they are."""
    text = getxattr(written, ORIGIN).decode()
    content = json.loads(text)
    assert text == json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert {key: content[key] for key in ("v", "kind", "state", "bytes")} == {
        "v": 1, "kind": "core", "state": "complete", "bytes": len(DATA),
    }  # fmt: skip
    assert content["dom"] == {"id": 7, "uuid": UUID, "name": "web1"}
    assert content["xen"] == {"ver": "4.17", "domctl": 0x15}
    status = written.stat()
    sum_of = hashlib.sha256(DATA).hexdigest()
    assert getxattr(written, DIGEST).decode() == f"sha256:{sum_of} {len(DATA)} {status.st_mtime_ns}"


def test_verdicts(written: Path) -> None:
    assert verify(written)[1:3] == (Verdict.OK, "it is unchanged")
    times = written.stat()
    written.write_bytes(DATA.replace(b"d", b"x"))
    assert verify(written).verdict is Verdict.STALE
    assert verify(written).reason == "its modification time and its contents have changed"
    os.utime(written, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert verify(written)[1:3] == (Verdict.MISMATCH, "its contents differ")
    written.write_bytes(DATA)
    assert verify(written).reason == "its modification time has changed, its contents have not"
    with written.open("ab") as file:
        file.write(b"more")
    assert verify(written)[1:3] == (
        Verdict.STALE, f"it has {len(DATA) + 4} bytes, but {len(DATA)} were written",
    )  # fmt: skip


def test_a_copy_without_attributes_is_unknown_one_with_them_is_not(written: Path) -> None:
    bare, whole = written.with_name("bare"), written.with_name("whole")
    shutil.copyfile(written, bare)
    subprocess.run(["cp", "-a", written, whole], check=True)
    assert verify(bare)[1:3] == (Verdict.UNKNOWN, "no digest is recorded")
    assert read(bare) == (None, None, None, ())
    assert verify(whole).verdict is Verdict.OK


def test_an_unfinished_file_has_not_its_name_and_is_marked(path: Path) -> None:
    part = Path(f"{path}.part")
    with pytest.raises(RuntimeError), ProvenanceFile(path, "core") as file:
        file.stream.write(DATA)
        raise RuntimeError
    assert not path.exists()
    assert verify(part).verdict is Verdict.INCOMPLETE
    assert part.read_bytes() == DATA


def test_a_killed_writer_leaves_a_marked_file(path: Path) -> None:
    code = """
import os, sys
from pyxc.files.writer import ProvenanceFile
with ProvenanceFile(sys.argv[1], "core") as file:
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert verify(f"{path}.part").verdict is Verdict.INCOMPLETE
    assert not path.exists()


def left_by_a_killed_process(path: Path, keep: str = "attributes", content: bytes = b"begun") -> Path:
    """What remains of a file whose writer was killed."""
    code = """
import os, sys
from pyxc.files.writer import Keep, ProvenanceFile
with ProvenanceFile(sys.argv[1], "core", keep=Keep(sys.argv[2])) as file:
    file.stream.write(sys.argv[3].encode())
    file.stream.flush()
    os.kill(os.getpid(), 9)
"""
    run = subprocess.run([sys.executable, "-c", code, str(path), keep, content.decode()], check=False)
    assert run.returncode == -9
    return Path(f"{path}.part")


def test_what_a_killed_writer_left_is_no_obstacle(path: Path) -> None:
    part = left_by_a_killed_process(path)
    with ProvenanceFile(path, "core") as file:
        file.stream.write(DATA)
    assert path.read_bytes() == DATA
    assert not part.exists()


def test_what_was_left_without_attributes_is_known_by_its_contents(path: Path) -> None:
    part = left_by_a_killed_process(path, "none")
    with pytest.raises(FileExistsError, match="exists and is not the beginning of a core file") as refused:
        ProvenanceFile(path, "core")
    assert refused.value.filename == str(part)
    assert part.read_bytes() == b"begun"
    with ProvenanceFile(path, "core", recognize=lambda head: head == b"begun"):
        pass
    assert not part.exists()


@pytest.mark.parametrize("name", ["web1.core", "web1.core.part"])
def test_what_somebody_else_wrote_is_only_replaced_on_request(path: Path, name: str) -> None:
    other = path.with_name(name)
    other.write_bytes(b"a letter to my grandmother")
    with pytest.raises(FileExistsError, match="exists and is not"):
        ProvenanceFile(path, "core")
    with ProvenanceFile(path.with_name("x"), "recording") as file:
        file.stream.write(b"x")
    path.with_name("x").rename(other)
    with pytest.raises(FileExistsError, match="exists and is not"):
        ProvenanceFile(path, "core")
    assert other.read_bytes() == b"x"
    with ProvenanceFile(path, "core", replace=True) as file:
        file.stream.write(DATA)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_being_written_is_left_alone(path: Path) -> None:
    code = """
import sys
from pyxc.files.writer import ProvenanceFile
with ProvenanceFile(sys.argv[1], "core") as file:
    print("begun", flush=True)
    sys.stdin.read()
    file.stream.write(b"of the first")
"""
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        for replace in (False, True):
            with pytest.raises(FileExistsError, match="is being written by another process"):
                ProvenanceFile(path, "core", replace=replace)
        first.communicate(timeout=60)
    assert path.read_bytes() == b"of the first"


def test_one_that_was_taken_for_left_gives_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer comes between the creation of a file and its lock."""
    part = Path(f"{path}.part")

    def lock(fd: int, how: int) -> None:
        part.unlink()
        part.write_bytes(b"of the other")

    monkeypatch.setattr("pyxc.files.writer.fcntl.flock", lock)
    with pytest.raises(FileExistsError, match="is being written by another process"):
        ProvenanceFile(path, "core")
    assert part.read_bytes() == b"of the other"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_goes_without(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pyxc.files.writer.fcntl.flock", refuse)
    with ProvenanceFile(path, "core") as file:
        file.stream.write(DATA)
    assert path.read_bytes() == DATA


def test_a_file_in_which_nothing_was_written_is_not_left(path: Path) -> None:
    with pytest.raises(RuntimeError), ProvenanceFile(path, "core"):
        raise RuntimeError
    assert list(path.parent.iterdir()) == []


def test_errors_name_the_whole_path(tmp_path: Path) -> None:
    for place in (tmp_path / "none" / "core", Path("/proc/core")):
        with pytest.raises(OSError, match="No such file") as refused:
            ProvenanceFile(place, "core")
        assert str(refused.value.filename).startswith(str(place.parent))


def test_the_file_of_before_stays_until_the_new_one_is_complete(written: Path) -> None:
    with ProvenanceFile(written, "core") as file:
        file.stream.write(b"new")
        file.stream.flush()
        assert written.read_bytes() == DATA
    assert written.read_bytes() == b"new"
    assert verify(written).verdict is Verdict.OK
    assert [entry.name for entry in written.parent.iterdir()] == [written.name]


def test_only_an_ordinary_file_is_replaced(path: Path) -> None:
    path.symlink_to("/dev/null")
    for target in (path, path.parent, Path("/dev/null")):
        with pytest.raises(FileExistsError, match="exists and is not a regular file"):
            ProvenanceFile(target, "core")
    with pytest.raises(ValueError, match="not the name of a file"):
        ProvenanceFile(f"{path.parent}/", "core")
    assert list(path.parent.iterdir()) == [path]


def test_nobody_else_may_read_it_whatever_the_umask(path: Path) -> None:
    old = os.umask(0o277)
    try:
        with ProvenanceFile(path, "core") as file:
            assert os.fstat(file.stream.fileno()).st_mode & 0o777 == 0o600
    finally:
        os.umask(old)


def test_a_sidecar_beside_it(path: Path) -> None:
    with ProvenanceFile(path, "core", keep=Keep.SIDECAR) as file:
        file.stream.write(DATA)
    assert listxattr(path) == []
    beside = Path(f"{path}.pyxc.json")
    assert beside.stat().st_mode & 0o777 == 0o600
    said = verify(path)
    assert (said.verdict, said.provenance.source) == (Verdict.OK, "sidecar")
    assert said.provenance.origin is not None
    assert said.provenance.origin.kind == "core"
    with ProvenanceFile(path, "core", keep=Keep.NONE, replace=True) as file:
        file.stream.write(DATA)
    assert not beside.exists(), "it was about the file that is replaced"
    assert read(path).source is None


class Failing:
    """The calls, of which setting fails from the COUNTth on, as on a full or foreign file system."""

    def __init__(self, number: int, count: int) -> None:
        self._real = CALLS()
        self._number = number
        self._left = count

    def __call__(self) -> xattrs.Calls:
        return self._real._replace(set=self._set)

    def _set(self, fd: int, name: str, value: bytes, flags: int) -> None:
        self._left -= 1
        if self._left <= 0:
            raise OSError(self._number, os.strerror(self._number))
        self._real.set(fd, name, value, flags)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOSPC, errno.EPERM, errno.EDQUOT])
def test_where_attributes_fail_there_are_none_and_one_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, count: int
) -> None:
    monkeypatch.setattr(xattrs, "calls", Failing(number, count))
    with pytest.warns(RuntimeWarning) as warned, ProvenanceFile(path, "core") as file:
        file.stream.write(DATA)
    assert len(warned) == 1
    assert str(warned[0].message).startswith(f"the provenance of {path} cannot be recorded: user.pyxc.")
    assert path.read_bytes() == DATA
    assert listxattr(path) == []
    assert verify(path).verdict is Verdict.UNKNOWN


def test_where_attributes_are_required_nothing_is_written_without(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xattrs, "calls", Failing(errno.ENOTSUP, 1))
    with pytest.raises(errors.AttributeUnsupported):
        ProvenanceFile(path, "core", keep=Keep.REQUIRED)
    assert list(path.parent.iterdir()) == []
    monkeypatch.setattr(xattrs, "calls", Failing(errno.ENOSPC, 2))
    with pytest.raises(OSError, match="No space"), ProvenanceFile(path, "core", keep=Keep.REQUIRED):
        pass
    assert not path.exists()


def test_where_the_disk_is_full_the_file_stays_unfinished(path: Path) -> None:
    """A limit on the size of files has the effect of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = ProvenanceFile(path, "core")
    file.stream.write(DATA[:3000])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.complete()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.complete()
    assert not path.exists()
    assert verify(f"{path}.part").verdict is Verdict.INCOMPLETE


def test_what_is_too_long_for_an_origin_is_left_out() -> None:
    short = Origin("core", State.COMPLETE, "pyxc", host="h", xen=XenOrigin("4.17", "c", 21))
    domain = DomainOrigin(7, UUID, "\N{SNOWMAN}" * 200, "l" * 255)
    long = short._replace(domain=domain)
    assert len(long.encode()) <= 1024
    assert Origin.decode(long.encode()).domain == domain._replace(label=None)
    everything = long._replace(domain=domain._replace(name="n" * 2000), host="h" * 2000)
    assert Origin.decode(everything.encode()) == short._replace(
        host=None, domain=DomainOrigin(7, UUID), xen=XenOrigin("4.17", None, 21)
    )


def test_control_characters_are_not_passed_on() -> None:
    evil = Origin("core", State.COMPLETE, "pyxc", host="\x1b]0;title\x07")
    assert b"\x1b" not in evil.encode()
    assert Origin.decode(evil.encode()).host == "\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}"


GOOD = {"v": 1, "kind": "core", "state": "complete", "tool": "x"}


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\xff\xfe", b"{", b"[]", b"null", b"NaN", b"[" * 1024, b" " * 1025,
        *(json.dumps({**GOOD, **wrong}).encode() for wrong in (
            {"v": 2}, {"v": True}, {"v": 1.0}, {"v": None}, {"kind": 1}, {"kind": None}, {"kind": "\x1b[2J"},
            {"kind": "\ud800"}, {"state": "done"}, {"state": []}, {"tool": {}}, {"t0": -1}, {"t0": "1"},
            {"t0": 1.5}, {"t1": True}, {"t1": 10**12}, {"bytes": 1 << 63}, {"bytes": 10**400}, {"dom": []},
            {"dom": {"id": 1}}, {"dom": {"id": 1, "uuid": "x"}}, {"xen": "4.17"}, {"xen": {}},
            {"xen": {"ver": "4", "domctl": "21"}},
        )),
    ],
)  # fmt: skip
def test_nonsense_is_reported_and_not_believed(written: Path, value: bytes) -> None:
    setxattr(written, ORIGIN, value)
    said = read(written)
    assert said.origin is None
    assert said.digest is not None
    assert len(said.problems) == 1
    assert said.problems[0].startswith("user.pyxc.origin is malformed: ")
    assert said.problems[0].isprintable()


def test_keys_of_later_versions_are_no_problem(written: Path) -> None:
    setxattr(written, ORIGIN, json.dumps({**GOOD, "later": 1}).encode())
    assert read(written).origin == ("core", State.COMPLETE, "x") + (None,) * 6


@pytest.mark.parametrize(
    "value",
    [
        b"", b"sha256:", b"sha256:" + b"0" * 63 + b" 1 1", b"md5:" + b"0" * 64 + b" 1 1",
        b"sha256:" + b"g" * 64 + b" 1 1", b"sha256:" + b"0" * 64 + b" -1 1", b"sha256:" + b"0" * 64 + b" 1",
        b"sha256:" + b"0" * 64 + b" 1 1\n", b"sha256:" + b"0" * 64 + b" " + b"9" * 99 + b" 1",
        "sha256:{} \N{ARABIC-INDIC DIGIT ONE} 1".format("0" * 64).encode(),
    ],
)  # fmt: skip
def test_a_digest_that_is_none_makes_a_file_unknown(written: Path, value: bytes) -> None:
    setxattr(written, DIGEST, value)
    said = verify(written)
    assert said.verdict is Verdict.UNKNOWN
    assert said.reason.startswith("user.pyxc.digest is malformed")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["v", "kind", "state", "tool", "dom", "id", "x"]), inner, max_size=6
        )
    ),
    max_leaves=20,
)
HOSTILE = st.binary(max_size=1100) | JSON.map(lambda value: json.dumps(value).encode())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE, HOSTILE)
def test_whatever_stands_there_is_read_or_reported(written: Path, origin: bytes, digest: bytes) -> None:
    setxattr(written, ORIGIN, origin)
    setxattr(written, DIGEST, digest)
    said = verify(written)
    assert said.verdict is not Verdict.OK
    assert len(said.provenance.problems) + sum(part is not None for part in said.provenance[:2]) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE | st.binary(max_size=5000) | st.fixed_dictionaries({"origin": JSON, "digest": JSON}).map(
    lambda value: json.dumps(value).encode()
))  # fmt: skip
def test_whatever_stands_beside_is_read_or_reported(attributes_directory: Path, content: bytes) -> None:
    file = attributes_directory / "file"
    file.touch()
    Path(f"{file}.pyxc.json").write_bytes(content)
    said = verify(file)
    assert said.verdict in (Verdict.UNKNOWN, Verdict.STALE)
    assert all(problem.isprintable() for problem in said.provenance.problems)


def test_a_sidecar_is_a_file_and_no_trap(path: Path) -> None:
    path.touch()
    beside = Path(f"{path}.pyxc.json")
    os.mkfifo(beside)
    assert read(path).problems == (f"{beside}: not a regular file",)
    beside.unlink()
    beside.symlink_to("/etc/passwd")
    assert read(path).problems == (f"{beside}: not a regular file",)


def test_attributes_come_before_a_sidecar(written: Path) -> None:
    Path(f"{written}.pyxc.json").write_text("{}")
    assert read(written).source == "attributes"


def test_the_sum_is_that_of_the_file(written: Path) -> None:
    with xattrs.opened(written) as attributes:
        assert provenance.sha256(attributes.fd) == hashlib.sha256(DATA).hexdigest()
