# SPDX-License-Identifier: MIT
"""Tables, JSON, JSON Lines and CSV: one shape for all commands."""

from __future__ import annotations

import csv
import io
import json

import pytest

from pyxc.cli import columns, output

WORDS = [["list"], ["vcpu-list"], ["cpupool-list"], ["topology"], ["memory"], ["doctor"], ["map", "web1"]]


def lines(outcome):
    return [json.loads(line) for line in outcome.out.splitlines()]


def timeless(listed):
    """Without what changes all the time."""
    return [{key: value for key, value in one.items() if key != "cpu_time_ns"} for one in listed]


def rows(outcome):
    return list(csv.DictReader(io.StringIO(outcome.out)))


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_all_forms_say_the_same(pyxc, host, words):
    whole = pyxc(*words, "--json").json
    (listed,) = [found for name, found in whole.items() if isinstance(found, list) and name != "failed"]
    beside = {name: value for name, value in whole.items() if not isinstance(value, list)}
    expected = [{**beside, **one} for one in listed]
    assert timeless(lines(pyxc(*words, "--jsonl"))) == timeless(expected)
    (header, *cells) = csv.reader(io.StringIO(pyxc(*words, "--csv").out))
    del beside["schema"]
    assert header == [*beside, *listed[0]]
    assert len(cells) == len(listed)


def test_cells(pyxc, host):
    host.store.write("/local/domain/1/name", 'a "web", and\tmore')
    dom0, web, *_ = rows(pyxc("list", "--csv"))
    assert (web["name"], web["domid"], web["memory_kb"]) == ('a "web", and\tmore', "1", "65536")
    assert (dom0["max_memory_kb"], dom0["flags"]) == ("", '["running"]')


def test_two_lists_are_all_lines(pyxc, host):
    pools, *domains = lines(pyxc("sched-credit2", "--jsonl"))
    assert "pool_id" in pools
    assert [row["name"] for row in domains] == ["Domain-0", "web1", "db1", "build"]
    assert [row["weight"] for row in rows(pyxc("sched-credit2", "-d", "web1", "--csv"))] == ["256"]


def test_one_object_is_one_line(pyxc, host):
    (found,) = lines(pyxc("info", "--jsonl"))
    assert (found["schema"], found["nr_cpus"]) == (1, 2)
    (row,) = rows(pyxc("info", "--csv"))
    assert row["nr_cpus"] == "2"


@pytest.mark.parametrize("command", ["list", "claims", "vcpu-list", "pause"])
def test_what_failed_is_in_the_object(pyxc, host, command):
    found = pyxc(command, "nosuch", "web1", "--json")
    (failure,) = found.json["failed"]
    assert (found.status, failure["argument"], failure["status"]) == (7, "nosuch", 5)
    assert all(pyxc(command, "web1", form).out != "" for form in ("--jsonl", "--csv"))


@pytest.mark.parametrize("words", [["context", "nosuch"], ["mem-max", "nosuch", "5"], ["domid", "nosuch"]])
def test_a_command_that_fails_as_a_whole_prints_an_object(pyxc, host, words):
    found = pyxc(*words, "--json")
    assert found.json == {
        "schema": 1,
        "failed": [{"argument": None, "status": 5, "error": "no domain has the name nosuch"}],
    }
    assert (found.status, found.err) == (5, "pyxc: no domain has the name nosuch\n")
    assert pyxc(*words).out == ""


def test_only_one_form(pyxc, host):
    outcome = pyxc("list", "--json", "--csv")
    assert (outcome.status, outcome.out) == (2, "")
    assert "not allowed with argument" in outcome.err


def test_top_streams(pyxc, host):
    found = lines(pyxc("top", "--jsonl", "-i", "2", "-d", "0.01"))
    assert [len(sample["domains"]) for sample in found] == [4, 4]
    csv_rows = rows(pyxc("top", "--csv", "-i", "2", "-d", "0.01"))
    assert [row["name"] for row in csv_rows] == ["Domain-0", "web1", "db1", "build"] * 2


def test_events_stream(pyxc, host):
    assert "watching" in lines(pyxc("watch", "--jsonl", "-t", "0.01"))[0]
    assert pyxc("watch", "--csv", "-t", "0.01").out == ""


def test_colours(pyxc, host, monkeypatch):
    assert "\x1b" not in pyxc("list").out
    header, _, _, _, build = pyxc("list", "--color", "always").out.splitlines()
    assert header.startswith("\x1b[1mName")
    assert build == f"\x1b[2m{pyxc('list').out.splitlines()[4]}\x1b[0m"
    host.shut_down(host.domains[1], 3)
    assert pyxc("list", "--color", "always").out.splitlines()[2].startswith("\x1b[31mweb1")
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    assert "\x1b[1m" in pyxc("list").out
    assert "\x1b" not in pyxc("list", "--color", "never").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in pyxc("list").out


def test_a_hostile_name_colours_nothing(pyxc, host):
    host.store.write("/local/domain/1/name", "\x1b[31mred")
    assert r"\x1b[31mred" in pyxc("list", "--color", "always").out


def test_wide_names_on_a_terminal_and_in_a_file(pyxc, host, monkeypatch):
    """xl pads by bytes."""
    host.store.write("/local/domain/1/name", "東京")
    in_file = pyxc("list", "1").out.splitlines()[1]
    assert len(in_file.split("     1 ")[0].encode()) == 40
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    assert (
        columns.width_of(pyxc("list", "1", "--color", "never").out.splitlines()[1].split("     1 ")[0]) == 40
    )


REASONS = {
    "trigger web1 nmi 99": "pyxc: domain 1 has no vcpu 99; it has 2",
    "hypfs cat /nosuch": "pyxc: /nosuch: no such entry",
    "list 70000": "pyxc: 70000: no id of a domain: they are from 0 to 32751",
    "mem-max web1 10": "pyxc: the limit must not be below the domain's target, which is 65536 KiB",
    "cpupool-cpu-remove Pool-0 all": "done for cpu 0",
    "context 0": "pyxc: vcpu 0 of domain 0: this is the vcpu that asks: its registers are those of pyxc",
}


@pytest.mark.parametrize("words", REASONS)
def test_reasons(pyxc, host, words):
    assert REASONS[words] in pyxc(*words.split()).err.splitlines()
