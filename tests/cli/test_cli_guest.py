# SPDX-License-Identifier: MIT
"""Commands that ask guests, and names."""

from __future__ import annotations

from pyxc.abi.domctl import Trigger


def test_shutdown_says_what_xl_says(pyxc, host):
    host.script(1).obey()
    assert pyxc("shutdown", "-w", "web1") == (
        0, "Domain 1 has been shut down, reason code 0\n", "Shutting down domain 1\n",
    )  # fmt: skip
    assert host.domains[1].shutdown_code == 0


def test_shutdown_asks_all_before_it_waits(pyxc, host):
    """web1 ends only when build has been asked, too."""
    web1 = host.script(1)
    host.domains[3].pauses = 0

    def end_both(request):
        if request:
            web1.stop()
            host.kill(host.domains[3])

    host.script(3).when("control/shutdown", end_both)
    outcome = pyxc("shutdown", "--wait", "--timeout", "10", "web1", "build")
    assert outcome.out == "Domain 1 has been shut down, reason code 0\nDomain 3 has been destroyed\n"
    assert outcome.status == 0


def test_reboot_of_all_guests(pyxc, host):
    for domid in (1, 2):
        host.script(domid).obey()
    host.domains[3].pauses = 0
    outcome = pyxc("reboot", "-a", "--json")
    assert [entry["domid"] for entry in outcome.json["done"]] == [1, 2, 3]
    assert [host.domains[domid].shutdown_code for domid in range(4)] == [None, 1, 1, None]
    assert host.script(3).read("control/shutdown") == "reboot"


def test_no_xen_has_a_reset_button(pyxc, host):
    assert pyxc("reboot", "-F", "db1").status == 6


def test_a_guest_that_cannot_be_asked(pyxc, host):
    outcome = pyxc("shutdown", "db1")
    assert outcome.status == 1
    assert "domain 2 has no Xen drivers" in outcome.err
    assert "-F" in outcome.err
    assert pyxc("shutdown", "-F", "db1").status == 0
    assert host.domains[2].triggered == [(Trigger.POWER, 0)]


def test_a_guest_that_does_not_end_in_time(pyxc, host):
    outcome = pyxc("shutdown", "-w", "--timeout", "0.05", "web1", "--json")
    assert outcome.status == 1
    assert "has not shut down within" in outcome.json["failed"][0]["error"]


def test_why_it_shut_down_in_json(pyxc, host):
    host.script(1).obey()
    assert pyxc("reboot", "-w", "web1", "--json").json["done"][0]["shutdown_reason"] == "reboot"


def test_who_is_meant_must_be_said(pyxc, host):
    for words in (["shutdown"], ["shutdown", "-a", "web1"], ["reboot", "--timeout", "3", "web1"]):
        assert pyxc(*words).status == 2
    assert pyxc("shutdown", "nobody").status == 5


def test_sysrq(pyxc, host):
    pressed = []
    host.script(1).when("control/sysrq", pressed.append)
    assert pyxc("sysrq", "web1", "h") == (0, "", "")
    assert pressed[-1] == "h"
    assert pyxc("sysrq", "web1", "help").status == 2


def test_vcpu_set(pyxc, host):
    host.script(1).plug()
    assert pyxc("vcpu-set", "web1", "1") == (0, "", "")
    assert [vcpu.down for vcpu in host.domains[1].live_vcpus] == [False, True]
    assert pyxc("vcpu-set", "web1", "3").status == 1
    assert pyxc("vcpu-set", "-i", "web1", "3").status == 2


def test_mem_set(pyxc, host):
    host.script(1).balloon()
    assert pyxc("mem-set", "-w", "--timeout", "10", "web1", "32") == (0, "", "")
    assert host.domains[1].tot_pages * 4 == 32 << 10
    assert pyxc("mem-set", "web1", "65m").status == 2
    assert pyxc("mem-set", "--timeout", "1", "web1", "32").status == 2


def test_names_and_ids(pyxc, host):
    assert pyxc("domid", "web1") == (0, "1\n", "")
    assert pyxc("domname", "1") == (0, "web1\n", "")
    assert pyxc("rename", "web1", "shop") == (0, "", "")
    assert pyxc("domname", "1").out == "shop\n"
    assert pyxc("rename", "shop", "db1").status == 2
    assert pyxc("domid", "web1").status == 5
    pyxc("create-empty")
    assert pyxc("domname", "4").status == 1
