# SPDX-License-Identifier: MIT
"""`stats`: one set of numbers in several forms."""

from __future__ import annotations

import csv
import io
import json

import kernel_files
import pytest


def test_a_line_for_each_value(pyxc, host):
    lines = pyxc("stats").out.splitlines()
    values = dict(line.split(" ", 1) for line in lines)
    assert len(values) == len(lines)
    assert values["domains.1.name"] == "web1"
    assert (values["domains.1.memory_kb"], values["domains.1.target_kb"]) == ("65536", "65536")
    assert values["domains.1.vcpus.1.online"] == "True"
    assert values["host.pools.0.scheduler"] == "credit2"
    assert "domains.0.max_memory_kb" not in values, "dom0 has no limit"
    assert "domains.1.pod.pod_entries" not in values, "a PV domain has no memory on demand"


def test_json(pyxc, host, tmp_path):
    kernel_files.disk(tmp_path, 1, 51712, rd_sect=8)
    kernel_files.network(tmp_path, 2, 0, tx_bytes=9)
    host.kernel_files = str(tmp_path)
    found = pyxc("--json", "stats").json
    (sample,) = found["samples"]
    web1, db1 = sample["domains"][1:3]
    assert (found["schema"], web1["name"], web1["state"], db1["type"]) == (1, "web1", "blocked", "hvm")
    assert (web1["disks"][0]["name"], web1["disks"][0]["read_bytes"], web1["networks"]) == ("xvda", 4096, [])
    assert (db1["networks"][0]["interface"], db1["networks"][0]["receive_bytes"]) == ("vif2.0", 9)
    assert (db1["paging_pool_kb"], db1["pod"]["pod_entries"]) == (2048, 0)
    assert len(sample["host"]["idle_ns"]) == host.pcpus


def test_json_lines_are_the_samples(pyxc, host):
    whole = pyxc("--json", "stats", "-i", "2", "-d", "0.01").json["samples"]
    lines = [json.loads(line) for line in pyxc("stats", "--jsonl", "-i", "2", "-d", "0.01").out.splitlines()]
    assert len(lines) == len(whole) == 2
    for line, sample in zip(lines, whole):
        assert line.keys() == sample.keys() | {"schema"}
        assert [one["uuid"] for one in line["domains"]] == [one["uuid"] for one in sample["domains"]]


def test_csv_adds_devices_up(pyxc, host, tmp_path):
    for device in (51712, 51728):
        kernel_files.disk(tmp_path, 1, device, rd_sect=8, wr_sect=2)
    host.kernel_files = str(tmp_path)
    host.store.write("/local/domain/1/name", 'a "b", c')
    rows = list(csv.DictReader(io.StringIO(pyxc("stats", "--csv", "-i", "2", "-d", "0.01").out)))
    assert len(rows) == 8
    assert rows[1]["name"] == 'a "b", c'
    counted = [rows[1][column] for column in ("disks", "disk_read_bytes", "disk_write_bytes")]
    assert counted == ["2", "8192", "2048"]
    assert (rows[0]["target_kb"], rows[0]["networks"]) == ("", "0")


@pytest.mark.parametrize("options", [["--csv", "--jsonl"], ["-i", "-1"], ["-d", "0"]])
def test_options_that_are_refused(pyxc, host, options):
    assert pyxc("stats", *options).status == 2
