# SPDX-License-Identifier: MIT
"""drgn on simulated guests, which have no Linux kernel but memory, page tables and a description of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hosts import Host

from pyxc import DecodeError, MissingLibrary
from pyxc.debug import DomainMemory, drgn_program
from pyxc.guest import vmcoreinfo

INFO = b"""OSRELEASE=6.1.0-13-amd64
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff81000000
SYMBOL(swapper_pg_dir)=ffffffff8240a000
NUMBER(phys_base)=0
NUMBER(pgtable_l5_enabled)=0
KERNELOFFSET=0
"""
TEXT = 0xFFFF_FFFF_8010_0000
P2M = 0xFFFF_C900_0000_1000


def library() -> Any:
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    if not hasattr(drgn.Program, "set_linux_kernel_custom"):
        pytest.skip("this drgn is older than 0.1")
    return drgn


def test_the_description_is_found_at_the_beginning_of_a_page(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    with DomainMemory(db1) as memory:
        with pytest.raises(LookupError, match="no VMCOREINFO"):
            memory.vmcoreinfo()
        db1.memory.write(0x2FF, b"OSRELEASE=an impostor\0")
        db1.memory.write(0x300, INFO, offset=16)
        with pytest.raises(LookupError, match="no VMCOREINFO"):
            memory.vmcoreinfo()
        db1.memory.write(0x5123, INFO + b"\0")
        assert memory.vmcoreinfo() == INFO


def test_a_guest_full_of_beginnings_costs_little(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    db1.memory.write(0x1000, b"OSRELEASE=" * (1 << 16))
    with DomainMemory(db1) as memory, pytest.raises(LookupError):
        memory.vmcoreinfo()


def test_what_is_no_description() -> None:
    for text in (b"", b"x", b"OSRELEASE=6\n", INFO + b"\x01", INFO * 40, INFO.replace(b"6", b"\xc3")):
        with pytest.raises(DecodeError):
            vmcoreinfo.check(text)


def test_without_drgn(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "drgn", None)
    with pytest.raises(MissingLibrary, match="pip install drgn"):
        drgn_program(host.xen.domains["db1"], vmcoreinfo=INFO)


def test_a_drgn_that_cannot_be_loaded(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drgn.py").write_text("raise ImportError('libstdc++.so.6 is not there')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "drgn", raising=False)
    with pytest.raises(MissingLibrary, match="libstdc"):
        drgn_program(host.xen.domains["db1"], vmcoreinfo=INFO)


def test_drgn_reads_a_pvh_guest_through_its_own_walk(host: Host) -> None:
    drgn, db1 = library(), host.xen.domains["db1"]
    db1.memory.write(0x5123, INFO + b"\0")
    with DomainMemory(db1) as memory:
        program = drgn_program(memory)
        assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
        assert program.read(0x100000, 3, True) == b"db1"
        assert program.read(TEXT, 3) == b"db1"
        with pytest.raises(drgn.FaultError):
            program.read(0x9000000, 8, True)
        del program


def test_drgn_reads_a_pv_guest_through_machine_frames(host: Host) -> None:
    drgn, web1 = library(), host.xen.domains["web1"]
    with DomainMemory(web1) as memory:
        program = drgn_program(memory, vmcoreinfo=INFO)
        assert program.read_u64(P2M) == web1.memory.p2m()[0]
        assert program.read(0, 4096, True) == memory.read(-1, 0, 4096)
        with pytest.raises(drgn.FaultError):
            program.read(0xFFFF_8000_0000_0000, 8)
        del program
