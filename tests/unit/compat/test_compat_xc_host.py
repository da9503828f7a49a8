# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: the host and its hypervisor, schedulers, cpu pools, and the security policy."""

from __future__ import annotations

import errno

import pytest
from hosts import RELEASES, Bind, truth_of

from pyxc.compat.xc import Error, xc
from pyxc.sim import Hypervisor

PV, PVH, PAUSED = 1, 2, 3
NOBODY = 4999
GUEST = "system_u:system_r:domU_t"


@pytest.mark.parametrize("release", ["sim:ppc64", "sim:xen-3.0", *RELEASES])
def test_every_release_tells_the_same_things(bind: Bind, release: str) -> None:
    libxc, reference = bind(release), bind()
    for method in ("physinfo", "xeninfo", "topologyinfo"):
        assert list(getattr(libxc, method)()) == list(getattr(reference, method)())
    assert libxc.physinfo()["free_memory"] > 0
    assert libxc.topologyinfo()["max_cpu_index"] == len(libxc.topologyinfo()["cpu_to_core"]) - 1


def test_host(libxc: xc) -> None:
    info = libxc.physinfo()
    assert (info["nr_cpus"], info["cpu_khz"], info["nr_nodes"]) == (2, 2_400_000, 1)
    assert info["total_memory"] == 4 * libxc._open.physinfo().total_pages
    assert info["virt_caps"] == "hvm pv"
    assert len(info["hw_caps"].split(":")) == 8
    assert libxc.topologyinfo() == {
        "max_cpu_index": 1,
        "cpu_to_core": [0, 1],
        "cpu_to_socket": [0, 0],
        "cpu_to_node": [0, 0],
    }
    xeninfo = libxc.xeninfo()
    assert (xeninfo["xen_major"], xeninfo["xen_minor"], xeninfo["xen_pagesize"]) == (4, 17, 4096)
    assert "hvm-3.0-x86_64" in xeninfo["xen_caps"].split(" ")
    assert xeninfo["platform_params"] == "virt_start=0xffff800000000000"
    assert bytes.fromhex(libxc.buildid())


def test_buildid_that_there_is_none_of(bind: Bind) -> None:
    with pytest.raises(Error) as caught:
        bind("4.4").buildid()
    assert caught.value.errno == errno.ENOSYS


def test_getcpuinfo(libxc: xc) -> None:
    assert len(libxc.getcpuinfo(128)) == 2
    assert len(libxc.getcpuinfo(max_cpus=1)) == 1
    assert libxc.getcpuinfo(0) == []
    with pytest.raises(Error):
        libxc.getcpuinfo(-1)


@pytest.mark.parametrize("release", ["sim:ppc64", "3.1"])
def test_what_a_release_does_not_tell_is_an_error(bind: Bind, release: str) -> None:
    libxc = bind(release)
    for call in (lambda: libxc.getcpuinfo(4), libxc.numainfo):
        with pytest.raises(Error) as caught:
            call()
        assert caught.value.errno == errno.ENOSYS


def test_console(libxc: xc) -> None:
    everything = libxc.readconsolering()
    assert everything.startswith(b"(XEN) Xen version")
    assert libxc.readconsolering(incremental=1, index=6) == everything[6 : 6 + 16385]
    assert libxc.send_debug_keys(keys="h") == libxc.send_debug_keys("") == 0
    assert b"'h' pressed" in libxc.readconsolering(clear=1)
    assert libxc.readconsolering() == b""
    with pytest.raises(TypeError):
        libxc.send_debug_keys(b"h")  # type: ignore[arg-type]


def test_fixed_numainfo_counts_its_nodes(libxc: xc) -> None:
    info = libxc.numainfo()
    assert info["max_node_index"] == len(info["node_memsize"]) - 1 == 0
    assert info["node_to_node_dist"] == [[10]]


def test_fixed_numbers_do_not_wrap_at_32_bits(libxc: xc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hypervisor, "idle_ns", lambda self, pcpu: 2**40)
    assert libxc.getcpuinfo(1) == [{"idletime": 2**40}]
    monkeypatch.setattr(truth_of(libxc).machine, "frames", 2**31)
    assert libxc.physinfo()["total_memory"] > 2**32


def test_cpu_pools(libxc: xc) -> None:
    whole = {"cpupool": 0, "sched": 6, "n_dom": 4, "cpulist": [0, 1]}
    assert libxc.cpupool_getinfo() == [whole]
    assert libxc.cpupool_freeinfo() == []
    assert libxc.cpupool_removecpu(0) == 0
    assert libxc.cpupool_freeinfo() == [1]
    pool = libxc.cpupool_create(sched=5)
    assert libxc.cpupool_addcpu(pool) == 0
    assert libxc.cpupool_movedomain(cpupool=pool, domid=PV) == 0
    assert libxc.cpupool_getinfo() == [
        {**whole, "n_dom": 3, "cpulist": [0]},
        {"cpupool": pool, "sched": 5, "n_dom": 1, "cpulist": [1]},
    ]
    assert libxc.domain_getinfo(PV, 1)[0]["cpupool"] == pool
    with pytest.raises(Error) as caught:
        libxc.cpupool_destroy(pool)
    assert caught.value.errno == errno.EBUSY
    assert libxc.cpupool_movedomain(0, PV) == 0
    assert libxc.cpupool_removecpu(cpupool=pool, cpu=1) == libxc.cpupool_destroy(pool) == 0
    assert libxc.cpupool_addcpu(0, 1) == 0
    assert libxc.cpupool_getinfo() == [whole]


@pytest.mark.parametrize("pool", [7, -1])
def test_cpu_pools_that_there_are_not(libxc: xc, pool: int) -> None:
    for call in (
        lambda: libxc.cpupool_destroy(pool),
        lambda: libxc.cpupool_removecpu(pool, 0),
        lambda: libxc.cpupool_movedomain(pool, PV),
    ):
        with pytest.raises(Error) as caught:
            call()
        assert caught.value.errno == errno.ENOENT


def test_the_number_of_a_new_pool_can_be_chosen(libxc: xc) -> None:
    assert libxc.cpupool_create(9, 6) == 9
    with pytest.raises(Error) as caught:
        libxc.cpupool_create(pool=9)
    assert caught.value.errno == errno.EEXIST


def test_fixed_a_failure_does_not_look_like_no_pools(bind: Bind) -> None:
    with pytest.raises(Error) as caught:
        bind("3.4").cpupool_getinfo()
    assert caught.value.errno == errno.ENOSYS


def test_the_credit_scheduler(bind: Bind) -> None:
    libxc = bind("4.10")
    assert libxc.sched_id_get() == 5
    assert libxc.sched_credit_domain_get(PV) == {"weight": 256, "cap": 0}
    assert libxc.sched_credit_domain_set(PV, 512, 50) == 0
    assert libxc.sched_credit_domain_get(PV) == {"weight": 512, "cap": 50}
    assert libxc.sched_credit_domain_set(domid=PV, cap=20) == 0
    assert libxc.sched_credit_domain_set(domid=PV, weight=300) == 0
    assert libxc.sched_credit_domain_get(PV) == {"weight": 300, "cap": 20}
    with pytest.raises(Error) as caught:
        libxc.sched_credit_domain_get(NOBODY)
    assert caught.value.errno == errno.ESRCH
    for weight in (65536, -40000):
        with pytest.raises(OverflowError):
            libxc.sched_credit_domain_set(PV, weight)


def test_fixed_credit2_tells_weight_and_cap(libxc: xc) -> None:
    assert libxc.sched_id_get() == 6
    assert libxc.sched_credit2_domain_get(PV) == {"weight": 256, "cap": 0}
    assert libxc.sched_credit2_domain_set(PV, 512, 50) == 0
    assert libxc.sched_credit2_domain_get(PV) == {"weight": 512, "cap": 50}
    with pytest.raises(Error) as caught:
        libxc.sched_credit2_domain_get(NOBODY)
    assert caught.value.errno == errno.ESRCH


def test_a_cap_that_credit2_does_not_have(bind: Bind) -> None:
    libxc = bind("4.7")
    with pytest.raises(Error) as caught:
        libxc.sched_credit2_domain_set(PV, 512, 50)
    assert caught.value.errno == errno.ENOSYS


def test_fixed_a_weight_alone_leaves_the_cap(libxc: xc) -> None:
    libxc.sched_credit2_domain_set(PV, 512, 50)
    libxc.sched_credit2_domain_set(PV, weight=300)
    assert libxc.sched_credit2_domain_get(PV) == {"weight": 300, "cap": 50}
    libxc.sched_credit2_domain_set(PV, cap=0)
    assert libxc.sched_credit2_domain_get(PV) == {"weight": 300, "cap": 0}


def test_the_policy(bind: Bind) -> None:
    libxc = bind("4.17-xsm")
    sid = libxc.flask_context_to_sid(context=GUEST)
    assert libxc.flask_sid_to_context(sid) == GUEST
    enforced = libxc.flask_getenforce()
    assert libxc.flask_setenforce(1 - enforced) == 0
    assert libxc.flask_getenforce() == 1 - enforced
    with pytest.raises(Error) as caught:
        libxc.flask_context_to_sid("system_u:system_r:nope_t")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(TypeError):
        libxc.flask_context_to_sid(b"bytes")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_policy_is_bytes_or_text(bind: Bind, kind: type) -> None:
    libxc = bind("4.17-xsm")
    assert libxc.flask_load(kind((0xF97CFF8C).to_bytes(4, "little") + bytes(100))) == 0
    with pytest.raises(Error) as caught:
        libxc.flask_load("no policy")
    assert caught.value.errno == errno.EINVAL


def test_fixed_flask_access_says_whether_it_is_allowed(bind: Bind) -> None:
    libxc = bind("4.17-xsm")
    labels = ("system_u:system_r:dom0_t", GUEST)
    domain = 3
    assert libxc.flask_access(*labels, domain, 0) == 0
    every = sum(1 << bit for bit in range(32))
    with pytest.raises(Error) as caught:
        libxc.flask_access(*reversed(labels), domain, every)
    assert caught.value.errno == errno.EPERM


def test_fixed_without_a_policy_the_error_says_so(libxc: xc) -> None:
    for call in (
        libxc.flask_getenforce,
        lambda: libxc.flask_setenforce(1),
        lambda: libxc.flask_context_to_sid(GUEST),
        lambda: libxc.flask_sid_to_context(1),
        lambda: libxc.flask_load(b"policy"),
        lambda: libxc.flask_access(GUEST, GUEST, 3, 1),
    ):
        with pytest.raises(Error) as caught:
            call()
        assert caught.value.errno == errno.ENOSYS
