# SPDX-License-Identifier: MIT
"""`top`: xentop's columns, and what is in them."""

from __future__ import annotations

import kernel_files
import pytest

SHORT = ("-d", "0.01")
HEADER = (
    "      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXMEM(k) MAXMEM(%) VCPUS NETS NETTX(k) NETRX(k)"
    " VBDS   VBD_OO   VBD_RD   VBD_WR  VBD_RSECT  VBD_WSECT SSID\n"
)
WEB1 = "      web1 --b---         11    0.0      65536    3.2      66560       3.2     2"
DEVICES = " n/a      n/a      n/a  n/a      n/a      n/a      n/a        n/a        n/a"


def test_the_table_is_as_xentops(pyxc, host):
    outcome = pyxc("top", "-b", "-i", "1", *SHORT)
    header, *rows = outcome.out.splitlines(keepends=True)
    assert (outcome.status, outcome.err, header) == (0, "", HEADER)
    assert len(rows) == 4
    assert rows[1] == f"{WEB1} {DEVICES}    0\n"
    assert rows[2].split()[:4] == ["db1", "-----r", "5", "100.0"]
    assert rows[0].split()[4:8] == ["1228800", "59.2", "no", "limit"]


def test_disks_and_networks(pyxc, host, tmp_path):
    kernel_files.disk(tmp_path, 1, 51712, rd_req=7, wr_req=5, oo_req=4, rd_sect=80, wr_sect=16)
    kernel_files.disk(tmp_path, 1, 51728, rd_req=1)
    kernel_files.network(tmp_path, 1, 0, rx_bytes=4096, tx_bytes=9999)
    host.kernel_files = str(tmp_path)
    rows = pyxc("top", "-i", "1", *SHORT).out.splitlines()
    assert rows[2].split()[9:18] == ["1", "9", "4", "2", "4", "8", "5", "80", "16"]
    assert rows[3].split()[9:18] == ["0"] * 9
    found = pyxc("--json", "top", *SHORT).json["samples"][0][1]
    assert [disk["device"] for disk in found["disks"]] == [51712, 51728]
    (network,) = found["networks"]
    assert (network["receive_bytes"], network["transmit_bytes"]) == (9999, 4096)


def test_states(pyxc, host):
    pyxc("pause", "db1")
    host.shut_down(host.domains[1], 3)
    rows = pyxc("top", "-i", "1", *SHORT).out.splitlines()
    assert [row.split()[1] for row in rows[2:]] == ["-sbc--", "----p-", "----p-"]


def test_as_often_as_is_asked(pyxc, host):
    assert pyxc("top", "-i", "3", *SHORT).out.count(HEADER) == 3
    assert pyxc("top", "-i", "0", *SHORT).out == ""


def test_names(pyxc, host):
    host.store.write("/local/domain/1/name", "a-very-long-name")
    assert "a-very-lon --b---" in pyxc("top", "-i", "1", *SHORT).out
    assert "a-very-long-name --b---" in pyxc("top", "-i", "1", "-f", *SHORT).out


def test_more_below_each_domain(pyxc, host, tmp_path):
    kernel_files.disk(tmp_path, 1, 51712, rd_req=7, wr_req=5, oo_req=4, rd_sect=80, wr_sect=16)
    kernel_files.network(tmp_path, 1, 0, rx_bytes=4096, tx_bytes=9999)
    host.kernel_files = str(tmp_path)
    rows = pyxc("top", "-bvnx", "-i", "1", *SHORT).out.splitlines()
    assert rows[2].split() == ["vcpu", "0", "cpu", "0", "5", "s", "100.0%", "#" * 25]
    assert rows[7].split()[:4] == ["net", "0", "RX", "4096bytes"]
    assert rows[8].split()[:6] == ["vbd", "xvda", "OO", "4", "RD", "7"]
    assert pyxc("top", "-b", "-r", "-i", "1", *SHORT).out.count(HEADER) == 4


def test_json(pyxc, host):
    found = pyxc("--json", "top", *SHORT).json
    assert (found["schema"], found["delay_s"], len(found["samples"])) == (1, 0.01, 1)
    db1 = found["samples"][0][2]
    assert (db1["name"], db1["cpu_percent"], db1["vcpus"][0]["vcpu"]) == ("db1", 100.0, 0)
    assert len(pyxc("--json", "top", "-i", "2", *SHORT).json["samples"]) == 2


@pytest.mark.parametrize("delay", ["0", "-1", "soon", "nan", "inf", "1e9"])
def test_a_delay_that_is_none(pyxc, host, delay):
    outcome = pyxc("top", "-d", delay)
    assert outcome.status == 2
    assert "is not a time" in outcome.err
