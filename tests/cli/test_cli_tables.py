# SPDX-License-Identifier: MIT
"""The tables of `list` and `vcpu-list`, byte for byte as xl prints them."""

from __future__ import annotations

import uuid

import pytest

from pyxc import Affinity, DomainInfo, VcpuInfo
from pyxc.cli.commands import list, vcpu_list

HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n"
VCPU_HEADER = "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)\n"


def _info(**changed: int) -> DomainInfo:
    fields = dict.fromkeys(DomainInfo._fields, 0) | {"handle": uuid.UUID(int=5).bytes} | changed
    return DomainInfo(**fields)


def test_list_is_what_xl_prints(pyxc, host):
    outcome = pyxc("list")
    assert outcome.status == 0
    assert outcome.err == ""
    header, *rows = outcome.out.splitlines(keepends=True)
    assert header == HEADER
    assert rows[1] == "web1                                         1    64     2     -b----      11.0\n"
    assert rows[3] == "build                                        3    32     1     --p---       5.0\n"


@pytest.mark.parametrize(
    ("flags", "letters"),
    [
        (1 << 5, "r-----"),
        (1 << 4, "-b----"),
        (1 << 3, "--p---"),
        (1 << 2, "---s--"),
        (1 << 2 | 1 << 16, "---sr-"),
        (1 << 2 | 2 << 16, "---ss-"),
        (1 << 2 | 3 << 16, "---sc-"),
        (1 << 2 | 4 << 16, "---sw-"),
        (1 << 2 | 5 << 16, "---sS-"),
        (1 << 2 | 255 << 16, "---s?-"),
        (1 << 0 | 1 << 2 | 1 << 3, "--ps-d"),
        (3 << 16, "------"),
    ],
)
def test_letters_of_the_state(flags, letters):
    row = list._domain_row(_info(flag_bits=flags), "x")
    assert row.split()[4] == letters


def test_memory_counts_what_is_claimed():
    row = list._domain_row(_info(tot_pages=256, outstanding_pages=511), "x")
    assert row.split()[2] == "2"


def test_a_long_name_pushes_the_columns():
    row = list._domain_row(_info(domid=12345, nr_online_vcpus=128), "n" * 45)
    assert row == "n" * 45 + " 12345     0   128     ------       0.0"


def test_cpu_time_goes_through_single_precision():
    """100000.049 s is 100000.0 exactly rounded, but the float that xl holds is nearer to 100000.1."""
    assert list._domain_row(_info(cpu_time_ns=100_000_049_000_000), "x").endswith(" 100000.1")


def test_verbose_list_has_uuid_and_reason(pyxc, host):
    lines = pyxc("list", "-v", "web1").out.splitlines()
    assert lines[0] == HEADER.rstrip("\n") + "   UUID                            Reason-Code\tSecurity Label"
    assert lines[1].endswith("  11.0 6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01        -                -")
    host.shut_down(host.domains[1], 3)
    crashed = pyxc("list", "-v", "web1").out.splitlines()[1]
    assert crashed.endswith("6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01        3                -")


def test_a_domain_without_name(pyxc, host):
    pyxc("create-empty")
    assert pyxc("list", "4").out.splitlines()[1].startswith("(null)" + " " * 39 + "4 ")


def test_no_names(pyxc, host):
    rows = pyxc("list", "--no-names").out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["(null)"] * 4
    asked = pyxc("--no-names", "pause", "web1")
    assert (asked.status, asked.out) == (1, "")
    assert (
        "web1: the name web1 cannot be looked up (use an id or a UUID): this handle does not look"
        in asked.err
    )
    assert pyxc("--no-names", "pause", "00000000-0000-0000-0000-00000000ffff").status == 5


def test_list_keeps_the_order_that_is_asked_for(pyxc, host):
    rows = pyxc("list", "build", "0", "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01").out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["build", "Domain-0", "web1"]


def test_vcpu_list_is_what_xl_prints(pyxc, host):
    outcome = pyxc("vcpu-list", "web1")
    assert outcome.out == (
        VCPU_HEADER
        + "web1                                 1     0    0   -b-       5.0  all / all\n"
        + "web1                                 1     1    1   -b-       6.0  all / all\n"
    )


def test_an_offline_vcpu():
    info = VcpuInfo(7, 3, False, False, False, 0, 2)
    row = vcpu_list._vcpu_row(info, "web1", Affinity(frozenset({1}), frozenset()), 4)
    assert row == "web1                                 7     3    -   --p       0.0  1 / none"


def test_vcpu_list_of_all_domains(pyxc, host):
    rows = pyxc("vcpu-list").out.splitlines()[1:]
    assert [tuple(row.split()[:3]) for row in rows] == [
        ("Domain-0", "0", "0"),
        ("Domain-0", "0", "1"),
        ("web1", "1", "0"),
        ("web1", "1", "1"),
        ("db1", "2", "0"),
        ("build", "3", "0"),
    ]


@pytest.mark.parametrize("command", ["list", "claims", "vcpu-list"])
def test_no_table_without_any_of_the_domains(pyxc, host, command):
    outcome = pyxc(command, "nosuch")
    assert (outcome.status, outcome.out) == (5, "")
    assert len(pyxc(command, "nosuch", "web1").out.splitlines()) > 1


def test_claims_are_what_xl_prints(pyxc, host):
    host.domains[1].outstanding_pages = 36 << 8
    header, *rows = pyxc("claims", "web1").out.splitlines(keepends=True)
    assert header == HEADER.rstrip("\n") + "  Claimed\n"
    assert rows == ["web1                                         1   100     2     -b----      11.0    36\n"]
    assert pyxc("claims", "--json").json["domains"][1]["outstanding_memory_kb"] == 36 << 10
