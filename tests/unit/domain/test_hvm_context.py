# SPDX-License-Identifier: MIT
"""HVM contexts: read, loaded, and never believed."""

from __future__ import annotations

import errno
import struct

import pytest
from hosts import Boot, Host

from pyxc import HvmContext, HvmParam, HvmRecordType, errors
from pyxc.abi import domctl_hvm
from pyxc.abi.layout import Interface

MAGIC = 0x54381286
HEADER = struct.pack("<HHI", 1, 0, 24) + struct.pack("<IIQII", MAGIC, 1, 0, 0, 0)
END = struct.pack("<HHI", 0, 0, 0)


def test_all_records_are_told_in_order(any_host: Host) -> None:
    context = any_host.xen.domains["db1"].hvm_context.read()
    kinds = [record.type for record in context]
    assert kinds[0] is HvmRecordType.HEADER and kinds[-1] is HvmRecordType.END
    assert HvmRecordType.CPU in kinds
    assert len(context) == len(kinds)
    assert len(context.record(HvmRecordType.CPU)) == 1032
    assert sum(8 + len(record.data) for record in context) == len(bytes(context))
    assert repr(context) == f"<HvmContext of {len(kinds)} records, {len(bytes(context))} bytes>"
    assert repr(next(iter(context))) == "<HvmRecord HEADER 0, 24 bytes>"


def test_a_context_is_loaded_as_it_was_read(any_host: Host) -> None:
    db1, truth = any_host.xen.domains["db1"], any_host.truth.domains[2]
    truth.hvm_records[HvmRecordType.MTRR, 0] = bytes(range(240))
    context = db1.hvm_context.read()
    truth.hvm_records.clear()
    db1.hvm_context.load(context)
    assert truth.hvm_records[HvmRecordType.MTRR, 0] == bytes(range(240))
    assert not truth.live_vcpus[0].down
    assert bytes(db1.hvm_context.read()) == bytes(context)


def test_vcpus_without_registers_are_down_afterwards(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    first = next(iter(db1.hvm_context.read()))
    db1.hvm_context.load(HEADER + END)
    assert host.truth.domains[2].live_vcpus[0].down
    assert first.type is HvmRecordType.HEADER


@pytest.mark.parametrize("release", ["3.1", "3.4", "4.7", "4.10", "4.22"])
def test_one_record_alone(boot: Boot, release: str) -> None:
    host = boot(release)
    db1 = host.xen.domains["db1"]
    host.truth.domains[2].hvm_records[HvmRecordType.MTRR, 0] = b"m" * 240
    assert db1.hvm_context.record(HvmRecordType.MTRR) == b"m" * 240
    with pytest.raises(KeyError):
        db1.hvm_context.record(HvmRecordType.MTRR, 7)
    with pytest.raises(KeyError):
        db1.hvm_context.record(HvmRecordType.RTC)
    with pytest.raises(ValueError, match="instance"):
        db1.hvm_context.record(HvmRecordType.MTRR, 2**16)


def test_a_pv_domain_has_none(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    for call in (web1.hvm_context.read, lambda: web1.hvm_context.record(HvmRecordType.CPU)):
        with pytest.raises(errors.HypercallError, match="EINVAL.*only HVM and PVH domains"):
            call()


def test_a_context_that_grows_is_asked_for_again(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    expected = bytes(db1.hvm_context.read())
    host.link.fail_call(1, errno.ENOSPC)
    assert bytes(db1.hvm_context.read()) == expected
    for call in (1, 3, 5):
        host.link.fail_call(call, errno.ENOSPC)
    with pytest.raises(errors.HypercallError, match="ENOSPC"):
        db1.hvm_context.read()


def test_a_hypervisor_that_claims_more_than_there_is_room_for(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    bound = host.xen.call(domctl_hvm.GETHVMCONTEXT, 2).field("size")
    host.link.before_call(1, lambda: host.link.lie(domctl_hvm.GETHVMCONTEXT, size=bound + 1))
    with pytest.raises(errors.DecodeError, match="size is reported as 7265"):
        db1.hvm_context.read()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not begin with Xen's HEADER"),
        (b"\0" * 7, "ends inside the head of the record"),
        (END, "does not begin with Xen's HEADER"),
        (HEADER[:20], "has length 24, but 12 bytes are left"),
        (HEADER, "does not end with an END"),
        (HEADER[:8] + b"\0" * 24 + END, "does not begin with Xen's HEADER"),
        (struct.pack("<HHI", 1, 0, 4) + b"\0" * 4 + END, "does not begin with Xen's HEADER"),
        (HEADER + struct.pack("<HHI", 2, 0, 2**32 - 1) + END, "has length 4294967295"),
        (HEADER + struct.pack("<HHI", 2, 0, 0)[:5], "ends inside the head of the record at byte 32"),
    ],
)
def test_bytes_that_make_no_sense_are_no_context(host: Host, data: bytes, why: str) -> None:
    with pytest.raises(errors.DecodeError, match=why):
        HvmContext(data, host.xen.interface)
    before = host.link.hypercalls
    db1 = host.xen.domains["db1"]
    asked = host.link.hypercalls - before
    with pytest.raises(errors.DecodeError):
        db1.hvm_context.load(data)
    assert host.link.hypercalls - before == asked, "nothing was loaded"


def test_records_without_a_name_are_kept() -> None:
    data = HEADER + struct.pack("<HHI", 77, 5, 3) + b"abc" + END + b"left over"
    context = HvmContext(data, Interface((4, 17), 0x15, 0x15))
    assert bytes(context.record(77, 5)) == b"abc"
    assert [record.type for record in context] == [1, 77, 0]
    assert repr(list(context)[1]) == "<HvmRecord 77 5, 3 bytes>"
    with pytest.raises(KeyError):
        context.record(77)


def test_what_xen_refuses_is_an_error(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    for bad in (struct.pack("<HHI", 99, 0, 0), struct.pack("<HHI", 14, 9, 240) + bytes(240)):
        with pytest.raises(errors.HypercallError, match="sethvmcontext.*EINVAL"):
            db1.hvm_context.load(HEADER + bad + END)


def test_all_parameters_at_once(any_host: Host) -> None:
    params = any_host.xen.domains["db1"].hvm_params.all()
    truth = any_host.truth.domains[2].params
    assert params == {param: truth.get(param, 0) for param in params}
    assert params[HvmParam.STORE_PFN] == 0xFEFFC
    with pytest.raises(errors.HypercallError, match="get_param"):
        any_host.xen.domains["web1"].hvm_params.all()


def test_records_by_their_place(host: Host) -> None:
    context = host.xen.domains["db1"].hvm_context.read()
    assert [context[place] for place in range(len(context))] == list(context)
    assert context[-1].type is HvmRecordType.END
    for place in (len(context), -len(context) - 1):
        with pytest.raises(IndexError, match="not a record"):
            context[place]
