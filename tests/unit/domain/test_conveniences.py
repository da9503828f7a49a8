# SPDX-License-Identifier: MIT
"""What people type at a prompt: names where enums are, domains where ids are, and what they get to see."""

from __future__ import annotations

import json
import pickle
import threading
from typing import Any
from xml.etree import ElementTree as elementtree

import pytest
from hosts import Host

import pyxc
from pyxc import HvmParam, ShutdownReason


def test_names_are_accepted_where_enums_are(host: Host) -> None:
    web1, db1 = host.xen.domains[1], host.xen.domains[2]
    web1.shutdown("crash")
    assert web1.info().shutdown_reason is ShutdownReason.CRASH
    assert web1.info().crashed
    db1.send_trigger("power")
    assert db1.hvm_params.read("console_pfn") == db1.hvm_params.read(HvmParam.CONSOLE_PFN)
    with pytest.raises(ValueError, match="reason 'sleepy' is unknown: expected one of poweroff, reboot"):
        web1.shutdown("sleepy")
    with pytest.raises(ValueError, match="trigger 'knock' is unknown"):
        web1.send_trigger("knock")


def test_a_domain_is_accepted_where_a_domid_is(host: Host) -> None:
    web1 = host.xen.domains[1]
    assert host.xen.domctl("getdomaininfo", web1).field("domain") == 1
    with pytest.raises(TypeError):
        host.xen.domctl("getdomaininfo", "web1")  # type: ignore[arg-type]


def test_domains_sort_by_id_and_vcpus_are_equal(host: Host) -> None:
    domains = host.xen.domains
    assert [domain.domid for domain in sorted([domains[2], domains[0], domains[1]])] == [0, 1, 2]
    assert domains[1].vcpu(0) == domains[1].vcpus[0] == domains[1].vcpus[-2]
    assert len({domains[1].vcpu(0), domains[1].vcpu(0), domains[1].vcpu(1), domains[2].vcpu(0)}) == 3
    with pytest.raises(IndexError, match="domain 1 has 2 vcpus, not a vcpu 99"):
        domains[1].vcpus[99]


def test_a_record_becomes_json(host: Host) -> None:
    info = host.xen.domains[2].info()
    found = json.loads(json.dumps(pyxc.asdict(info)))
    assert (found["domid"], found["uuid"], found["shutdown_reason"]) == (2, str(info.uuid), None)
    assert set(found["flags"]) == {flag.name for flag in info.flags}
    for name in found:
        assert f"{name}=" in repr(info)
    host_info = host.xen.physinfo()
    assert pyxc.asdict(host_info)["hw_cap"] == list(host_info.hw_cap)
    for vcpu in host.xen.vcpus():
        assert json.loads(json.dumps(pyxc.asdict(vcpu)))["domid"] == vcpu.domid
    context = host.xen.domains[1].vcpu(0).context()
    assert pyxc.asdict(context) == dict(context)
    with pytest.raises(TypeError, match="must be a record or a mapping, not list"):
        pyxc.asdict([info])


def test_notebooks_show_tables(host: Host) -> None:
    web1 = host.xen.domains[1]
    assert host.xen.domains._ipython_key_completions_() == ["Domain-0", "web1", "db1", "build"]
    host.xen.store.write("/local/domain/1/name", "<b>web</b>")
    assert "<td>1</td><td>&lt;b&gt;web&lt;/b&gt;</td><td>64</td><td>2</td>" in html_of(host.xen.domains)
    assert f"<td>uuid</td><td>{web1.uuid}</td>" in html_of(web1.info())
    assert "<td>nr_cpus</td><td>2</td>" in html_of(host.xen.physinfo())
    context = web1.vcpu(0).context()
    assert f"<td>rip</td><td>{context['rip']:#x}</td>" in html_of(context)
    frames = web1.memory.frames()
    assert f"<th>FrameList</th><th>{len(frames)} frames</th>" in html_of(frames)


def html_of(thing: Any) -> str:
    text: str = thing._repr_html_()
    elementtree.fromstring(text)
    return text


def test_a_domain_shows_the_name_that_is_known(host: Host) -> None:
    web1 = host.xen.domains[1]
    assert "'web1'" not in repr(web1)
    assert web1.name == "web1"
    assert repr(web1).startswith("<Domain 1 'web1' ")


def test_what_belongs_to_an_open_xen_is_not_pickled(host: Host) -> None:
    with pytest.raises(TypeError, match="belongs to an open Xen and cannot be pickled"):
        pickle.dumps(host.xen.domains[1])


def test_a_closed_xen_says_so() -> None:
    xen = pyxc.open("sim:xen-4.17")
    xen.close()
    assert repr(xen) == "<Xen 4.17 at sim:xen-4.17, closed>"
    with pytest.raises(ValueError, match="this Xen is closed"):
        xen.domains.infos()


def test_a_mapping_can_be_sliced(host: Host) -> None:
    memory = host.xen.domains[1].memory
    with memory.map(memory.frames()[:2], writable=True) as pages:
        memoryview(pages)[4096:4100] = b"abcd"
        assert (pages[4096:4098], pages[4099], pages[-1]) == (b"ab", ord("d"), 0)
        with pytest.raises(IndexError):
            pages[len(pages)]


def test_a_reply_shows_its_fields(host: Host) -> None:
    reply = host.xen.sysctl("physinfo")
    assert reply["nr_cpus"] == host.xen.nr_cpus == reply.field("nr_cpus")
    assert "nr_cpus=2" in repr(reply)
    assert "b'" not in repr(reply)[:40]


@pytest.mark.parametrize(("target", "meant"), [("xen-4.17", "sim:xen-4.17"), ("sim", "sim:")])
def test_a_target_without_its_kind_is_recognised(target: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        pyxc.open(target)


def test_debug_keys_are_text(host: Host) -> None:
    with pytest.raises(TypeError, match="keys must be a string"):
        host.xen.debug_keys(5)  # type: ignore[arg-type]


def test_waiting_for_a_state(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    pausing = threading.Timer(0.05, web1.pause)
    pausing.start()
    info = web1.wait("paused", timeout=60)
    pausing.join()
    assert info is not None
    assert info.paused
    with pytest.raises(TimeoutError, match=r"domain 1 did not become shut down within 0\.01 s"):
        web1.wait("shut_down", timeout=0.01)


def test_waiting_for_a_condition(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    info = web1.wait(lambda info: info.nr_vcpus == 2, timeout=0)
    assert info == web1.info()
    with pytest.raises(TimeoutError, match="domain 1 did not become what was waited for"):
        web1.wait(lambda info: False, timeout=0)
    web1.destroy()
    assert web1.wait("crashed") is None


@pytest.mark.parametrize("until", ["gone", "Paused", "", None])
def test_what_cannot_be_waited_for(host: Host, until: Any) -> None:
    with pytest.raises(ValueError, match="expected a function or one of blocked, crashed"):
        host.xen.domains["web1"].wait(until)
