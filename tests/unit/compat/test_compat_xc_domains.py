# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: domains and their vcpus."""

from __future__ import annotations

import errno
import os
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts import FOREIGN, RELEASES, Bind, Swap, truth_of

from pyxc import sim
from pyxc._core import ForeignMap
from pyxc.abi.errno import XenErrno
from pyxc.compat.xc import Error, xc

PV, PVH, PAUSED = 1, 2, 3
NOBODY = 4999
HANDLE = list(range(16))
INFO_KEYS = (
    "domid online_vcpus max_vcpu_id hvm dying crashed shutdown paused blocked running mem_kb cpu_time "
    "maxmem_kb ssidref shutdown_reason cpupool handle"
).split()


def test_domain_getinfo(libxc: xc) -> None:
    infos = libxc.domain_getinfo()
    assert type(infos) is list
    assert [info["domid"] for info in infos] == [0, PV, PVH, PAUSED]
    web = truth_of(libxc).domains[PV]
    assert infos[1] == {
        "domid": PV,
        "online_vcpus": 2,
        "max_vcpu_id": 1,
        "hvm": 0,
        "dying": 0,
        "crashed": 0,
        "shutdown": 0,
        "paused": 0,
        "blocked": 1,
        "running": 0,
        "mem_kb": 4 * web.tot_pages,
        "cpu_time": infos[1]["cpu_time"],
        "maxmem_kb": 4 * web.max_pages,
        "ssidref": 0,
        "shutdown_reason": 255,
        "cpupool": 0,
        "handle": list(web.handle),
    }
    assert infos[2]["hvm"] == 1
    assert all(type(value) is int for info in infos for key, value in info.items() if key != "handle")


def test_domain_getinfo_answers_ids_from_the_first_on(libxc: xc) -> None:
    libxc.domain_destroy(PV)
    assert [info["domid"] for info in libxc.domain_getinfo(PV, 1)] == [PVH]
    assert [info["domid"] for info in libxc.domain_getinfo(first_dom=2, max_doms=9)] == [PVH, PAUSED]
    assert libxc.domain_getinfo(0, 0) == []


@pytest.mark.parametrize(("release", "listed"), [("4.1", False), ("4.17", False), ("4.20", True)])
def test_domain_getinfo_of_none_is_as_that_releases_own(bind: Bind, release: str, listed: bool) -> None:
    libxc = bind(release)
    if listed:
        assert libxc.domain_getinfo(NOBODY) == []
        return
    with pytest.raises(Error) as caught:
        libxc.domain_getinfo(NOBODY)
    assert caught.value.errno == errno.ESRCH


@pytest.mark.parametrize(("release", "shutdown"), [("4.17", 0), ("4.20", 1)])
def test_domain_getinfo_of_a_crashed_one(bind: Bind, release: str, shutdown: int) -> None:
    libxc = bind(release)
    libxc.domain_shutdown(PV, 3)
    info = libxc.domain_getinfo(PV, 1)[0]
    assert (info["crashed"], info["shutdown"], info["shutdown_reason"]) == (1, shutdown, 3)
    libxc.domain_shutdown(PVH, 1)
    info = libxc.domain_getinfo(PVH, 1)[0]
    assert (info["crashed"], info["shutdown"], info["shutdown_reason"]) == (0, 1, 1)


@pytest.mark.parametrize("release", ["sim:ppc64", "sim:xen-3.0", *RELEASES])
def test_domains_of_every_release(bind: Bind, release: str) -> None:
    libxc = bind(release)
    assert [info["domid"] for info in libxc.domain_getinfo()] == sorted(truth_of(libxc).domains)
    assert list(libxc.domain_getinfo(PV, 1)[0]) == INFO_KEYS
    assert libxc.vcpu_getinfo(PV, 1)["cpumap"][:2] == [0, 1]


def test_vcpu_getinfo_and_setaffinity(libxc: xc) -> None:
    assert libxc.vcpu_setaffinity(PV, 1, [1, 1]) == 0
    assert libxc.vcpu_getinfo(domid=PV, vcpu=1)["cpumap"] == [1]
    assert libxc.vcpu_getinfo(PV)["cpumap"] == [0, 1]
    assert libxc.vcpu_getinfo(PV, 0)["online"] == 1
    with pytest.raises(Error) as caught:
        libxc.vcpu_getinfo(PV, 7)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("cpus", [[], None, (0,), [2], [-1], ["0"]])
def test_vcpu_setaffinity_wants_a_list_of_cpus_that_there_are(libxc: xc, cpus: Any) -> None:
    with pytest.raises(Error) as caught:
        libxc.vcpu_setaffinity(PV, 0, cpus)
    assert caught.value.errno == errno.EINVAL
    assert libxc.vcpu_getinfo(PV)["cpumap"] == [0, 1]


def test_domain_create_makes_what_it_is_told(libxc: xc) -> None:
    plain = libxc.domain_create()
    assert libxc.domain_getinfo(plain, 1)[0]["handle"] == [0xDE, 0xAD, 0xBE, 0xEF] * 4
    made = libxc.domain_create(0, 0, HANDLE, 3, 0, 2, 1)
    domain = truth_of(libxc).domains[made]
    assert (domain.hvm, domain.hap, list(domain.handle)) == (True, True, HANDLE)
    assert domain.emulation_flags == 0x3FF
    assert libxc.domain_max_vcpus(made, 2) == 0
    assert libxc.domain_create(domid=77) == 77


@pytest.mark.parametrize("release", ["3.1", "4.1", "4.14", "4.17", "4.20", "4.22"])
@pytest.mark.parametrize("wanted", [0, -1, 0x7FF5, 0xFFFF])
def test_fixed_domain_create_takes_any_id_on_every_release(bind: Bind, release: str, wanted: int) -> None:
    libxc = bind(release)
    made = libxc.domain_create(domid=wanted)
    assert made == PAUSED + 1
    assert libxc.domain_destroy(made) == 0


@pytest.mark.parametrize(
    ("release", "flags"),
    [("3.1", 1), ("4.4", 1), ("4.10", 1), ("4.14", 1), ("4.17", 1), ("4.20", 1), ("4.22", 3)],
)
def test_domain_create_of_an_hvm_domain_on_every_release(bind: Bind, release: str, flags: int) -> None:
    """Since 4.22 one without HAP needs a hypervisor with shadow page tables, which this one has not."""
    libxc = bind(release)
    made = libxc.domain_create(flags=flags)
    assert libxc.domain_getinfo(made, 1)[0]["hvm"] == 1


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ({"domid": PV}, XenErrno.EEXIST),
        ({"handle": [1]}, errno.EINVAL),
        ({"handle": tuple(HANDLE)}, errno.EINVAL),
        ({"handle": [*HANDLE[:15], "1"]}, errno.EINVAL),
        ({"flags": 1 << 30}, errno.EINVAL),
        ({"domid": 70000}, errno.ESRCH),
    ],
)
def test_domain_create_refused(libxc: xc, arguments: dict[str, Any], number: int) -> None:
    with pytest.raises(Error) as caught:
        libxc.domain_create(**arguments)
    assert caught.value.errno == number


def test_a_domain_whose_target_is_refused_does_not_stay(libxc: xc) -> None:
    before = [info["domid"] for info in libxc.domain_getinfo()]
    with pytest.raises(Error):
        libxc.domain_create(target=NOBODY)
    assert [info["domid"] for info in libxc.domain_getinfo()] == before


def test_life_of_a_domain(libxc: xc) -> None:
    def state(domid: int) -> tuple[int, int]:
        info = libxc.domain_getinfo(domid, 1)[0]
        return info["paused"], info["shutdown"]

    assert libxc.domain_pause(PV) == 0
    assert state(PV) == (1, 0)
    assert libxc.domain_unpause(PV) == 0
    assert libxc.domain_shutdown(PV, 0) == 0
    assert state(PV) == (0, 1)
    assert libxc.domain_destroy_hook(PV) == libxc.domain_destroy(PV) == 0
    with pytest.raises(Error) as caught:
        libxc.domain_destroy(PV)
    assert caught.value.errno == errno.ESRCH
    assert libxc.domain_sethandle(PVH, HANDLE) == 0
    assert libxc.domain_getinfo(PVH, 1)[0]["handle"] == HANDLE
    with pytest.raises(Error) as caught:
        libxc.domain_sethandle(PVH, [1])
    assert caught.value.errno == errno.EINVAL


def test_domain_resume_fast_needs_a_suspended_domain(libxc: xc) -> None:
    for domid in (PV, PVH):
        with pytest.raises(Error) as caught:
            libxc.domain_resume(domid, 1)
        assert caught.value.errno == errno.EINVAL
        libxc.domain_shutdown(domid, 2)
        assert libxc.domain_resume(domid, 1) == 0
        assert libxc.domain_getinfo(domid, 1)[0]["shutdown"] == 0
    assert libxc._domain(PV).vcpu(0).context()["rax"] == 1


def test_domain_dumpcore(libxc: xc, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_text("the one before")
    assert libxc.domain_dumpcore(PAUSED, str(path)) == 0
    assert path.read_bytes().startswith(b"\x7fELF\x02")
    assert path.stat().st_size > truth_of(libxc).domains[PAUSED].tot_pages * 4096
    with pytest.raises(Error) as caught:
        libxc.domain_dumpcore(NOBODY, str(path))
    assert caught.value.errno == errno.ESRCH
    with pytest.raises(Error) as caught:
        libxc.domain_dumpcore(PAUSED, str(tmp_path / "no" / "directory"))
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("kind", ["an unfinished dump", "a link", "a link to nothing", "a pipe", "a file"])
def test_domain_dumpcore_writes_into_whatever_can_be_opened(libxc: xc, tmp_path: Path, kind: str) -> None:
    plain, path = tmp_path / "plain", tmp_path / "core"
    libxc.domain_dumpcore(PAUSED, str(plain))
    if kind == "an unfinished dump":
        path.with_name("core.part").write_text("of a dump that was killed")
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a file":
        path.write_text("x" * 100)
        path.chmod(0o644)
    else:
        (tmp_path / "there").write_text("the one before" if kind == "a link" else "")
        path.symlink_to(tmp_path / ("there" if kind == "a link" else "nothing"))
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    if kind == "a pipe":
        reader.start()
    mode = path.stat().st_mode if path.exists() else None
    assert libxc.domain_dumpcore(PAUSED, str(path)) == 0
    if kind == "a pipe":
        reader.join()
    else:
        found.append(path.read_bytes())
    assert found == [plain.read_bytes()]
    assert mode in (None, path.stat().st_mode)


@pytest.mark.parametrize("at", [1, 2, 20])
def test_domain_dumpcore_has_no_page_of_a_domain_that_got_the_id(
    libxc: xc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    link = libxc._open.link
    swap, map_frames = Swap(truth_of(libxc), PVH, at), link.map_frames

    def swap_and_map(domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        swap()
        return map_frames(domid, frames, writable)

    monkeypatch.setattr(link, "map_frames", swap_and_map)
    with pytest.raises(Error) as caught:
        libxc.domain_dumpcore(PVH, str(tmp_path / "core"))
    assert caught.value.errno == errno.ESRCH
    assert FOREIGN not in (tmp_path / "core").read_bytes()
    assert swap.left_alone()


def test_domain_dumpcore_looks_at_the_end_as_well(libxc: xc, tmp_path: Path) -> None:
    """Another domain gets the id when all pages are written, and the list of them is being written."""
    written = (truth_of(libxc).domains[PVH].tot_pages + 12) * 4096
    swap = Swap(truth_of(libxc), PVH)
    os.mkfifo(tmp_path / "core")

    def read() -> None:
        with open(tmp_path / "core", "rb") as pipe:
            pipe.read(written)
            swap()
            pipe.read()

    reader = threading.Thread(target=read)
    reader.start()
    with pytest.raises(Error) as caught:
        libxc.domain_dumpcore(PVH, str(tmp_path / "core"))
    reader.join()
    assert caught.value.errno == errno.ESRCH
    assert swap.left_alone()


def test_fixed_domain_dumpcore_of_nobody_leaves_the_file_alone(libxc: xc, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_text("the one before")
    with pytest.raises(Error):
        libxc.domain_dumpcore(NOBODY, str(path))
    assert path.read_text() == "the one before"


def test_fixed_errors_where_libxc_has_words_of_its_own(libxc: xc, tmp_path: Path) -> None:
    for call in (
        lambda: libxc.evtchn_alloc_unbound(NOBODY, 0),
        lambda: libxc.domain_resume(NOBODY, 0),
        lambda: libxc.domain_resume(NOBODY, 1),
        lambda: libxc.domain_shutdown(NOBODY, 0),
        lambda: libxc.domain_dumpcore(NOBODY, str(tmp_path / "core")),
    ):
        with pytest.raises(Error) as caught:
            call()
        assert caught.value.args == (errno.ESRCH, os.strerror(errno.ESRCH))


def test_fixed_domain_dumpcore_says_what_is_wrong_with_an_empty_path(libxc: xc) -> None:
    with pytest.raises(Error) as caught:
        libxc.domain_dumpcore(PAUSED, "")
    assert caught.value.errno == errno.EINVAL


def test_fixed_sethandle_says_why(libxc: xc) -> None:
    with pytest.raises(Error) as caught:
        libxc.domain_sethandle(PV, "no list")  # type: ignore[arg-type]
    assert caught.value.args == (errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize("domid", [65536 + PV, -65535, -1])
@pytest.mark.parametrize(
    "call",
    [
        lambda libxc, domid: libxc.domain_pause(domid),
        lambda libxc, domid: libxc.domain_destroy(domid),
        lambda libxc, domid: libxc.domain_setmaxmem(domid, 4),
        lambda libxc, domid: libxc.vcpu_getinfo(domid),
        lambda libxc, domid: libxc.domain_getinfo(domid, 1),
        lambda libxc, domid: libxc.evtchn_alloc_unbound(PV, domid),
        lambda libxc, domid: libxc.domain_create(target=domid),
    ],
)
def test_fixed_an_id_out_of_range_is_nobodys(libxc: xc, domid: int, call: Callable[[xc, int], Any]) -> None:
    with pytest.raises(Error) as caught:
        call(libxc, domid)
    assert (caught.value.args[0], caught.value.errno) == (errno.ESRCH, errno.ESRCH)
    assert sorted(truth_of(libxc).domains) == [0, PV, PVH, PAUSED]
    assert libxc.domain_getinfo(PV, 1)[0]["paused"] == 0


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    path = tmp_path / "kernel"
    path.write_bytes(sim.kernel("pv"))
    return str(path)


def new_domain(libxc: xc) -> tuple[int, int, int]:
    """A domain as xend makes it, with its ports for xenstore and its console."""
    domid = libxc.domain_create(handle=HANDLE)
    libxc.domain_max_vcpus(domid, 1)
    libxc.domain_setmaxmem(domid, 17 << 10)
    return domid, libxc.evtchn_alloc_unbound(domid, 0), libxc.evtchn_alloc_unbound(domid, 0)


def test_linux_build(libxc: xc, kernel: str) -> None:
    domid, store, console = new_domain(libxc)
    built = libxc.linux_build(domid, store, 16, console, kernel, cmdline="quiet", flags=0)
    guest = truth_of(libxc).domains[domid]
    assert guest.tot_pages == 4096
    assert {built["store_mfn"], built["console_mfn"]} < set(truth_of(libxc).machine.frames_of(domid))
    assert built["native_protocol"] == "x86_64-abi"
    assert built["notes"]["XEN_VERSION"] == "xen-3.0"
    assert built["notes"]["VIRT_BASE"] == 0xFFFFFFFF80000000
    libxc.domain_unpause(domid)
    assert truth_of(libxc).domains[domid].vcpus[0].context is not None


def test_linux_build_of_what_is_no_kernel(libxc: xc, tmp_path: Path) -> None:
    domid, store, console = new_domain(libxc)
    (tmp_path / "text").write_text("no kernel")
    for image in (tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(Error):
            libxc.linux_build(domid, store, 16, console, str(image))
    assert truth_of(libxc).domains[domid].tot_pages == 0


def test_get_bit_size(libxc: xc, kernel: str) -> None:
    assert libxc.getBitSize(kernel, "", "") == {"type": "xen-3.0-x86_64"}
