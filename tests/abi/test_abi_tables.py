# SPDX-License-Identifier: MIT
"""Every table of pyxc.abi against the layout that a C compiler gives the structure, in every release."""

from __future__ import annotations

import re

import goldens
import pytest

from pyxc.abi import dom0_ops, layout
from pyxc.abi.arch import x86
from pyxc.abi.layout import Interface, NotInInterface, Row, Table
from pyxc.abi.releases import BEFORE_DOMCTL, RELEASES

# Arrays, and records of which the headers have a type or nothing, or the goldens nothing: only a size.
NOT_STRUCTURES = {
    "xen_extraversion_t": 16,
    "xen_capabilities_info_t": 1024,
    "xen_changeset_info_t": 64,
    "xen_commandline_t": 1024,
    "xen_domain_handle_t": 16,
    "domid_t": 2,
    "e820entry": 20,
    "grant_entry_v1": 8,
    "xencons_interface": 3088,
    "dom0_getmemlist2": 40,  # defined here, see dom0_ops
    "hypfs_op_arguments": 32,
    "mmuext_op_arguments": 32,
    "hvm_hw_cpu": 1032,
    "hvm_hw_mtrr": 240,
    "hvm_start_info": 56,
    "hvm_modlist_entry": 32,
    "hvm_memmap_table_entry": 24,
    "t_buf": 8,
    "t_info": 2,
    "xen_sysctl_lockprof_data": 80,
}

# Fields to which the headers gave another name in some releases: (structure, our name) -> theirs.
OTHER_NAMES = {
    ("xen_domctl_createdomain", "arch.dummy"): "config.dummy",
    ("xen_domctl_createdomain", "arch.emulation_flags"): "config.emulation_flags",  # to 4.10
    ("xen_dm_op.u.get_ioreq_server_info", "ioreq_gfn"): "ioreq_pfn",  # 4.9
    ("xen_dm_op.u.get_ioreq_server_info", "bufioreq_gfn"): "bufioreq_pfn",  # 4.9
    ("xenctl_cpumap", "nr_bits"): "nr_cpus",
    ("xen_domctl_vcpuaffinity", "cpumap.nr_bits"): "cpumap.nr_cpus",  # to 4.2
    ("xen_sysctl_cpupool_op", "cpumap.nr_bits"): "cpumap.nr_cpus",  # to 4.2
    ("xen_domctl_scheduler_op", "op"): "cmd",
    ("xen_sysctl_scheduler_op", "op"): "cmd",
    ("xen_sysctl_perfc_op", "op"): "cmd",  # the envelope has a field of that name
    ("xen_sysctl_lockprof_op", "op"): "cmd",
    ("xen_sysctl_tbuf_op", "op"): "cmd",
    ("xen_sysctl_tbuf_op", "cpu_mask.nr_bits"): "cpu_mask.nr_cpus",  # to 4.2
    ("xen_sysctl_livepatch_op", "op"): "cmd",
    ("xen_sysctl_pm_op", "op"): "cmd",
    ("xen_sysctl_cpu_policy", "leaves"): "cpuid_policy",  # to 4.17
    ("xen_sysctl_cpu_policy", "msrs"): "msr_policy",
    ("xen_domctl_cpu_policy", "leaves"): "cpuid_policy",
    ("xen_domctl_cpu_policy", "msrs"): "msr_policy",
}

# Fields that are unsigned in the header and signed here: results, which are negative when a call failed.
SIGNED_RESULTS = {("multicall_entry", "result")}

PADDING = re.compile(r"(^|\.)_?pad(ding)?\d*$")
ALIAS = re.compile(r"(.*)\.pad$")
"""A guest handle in a union with a word that makes it 64 bits wide (vdistance.h and vdistance.pad)."""
SIGNED = {
    "int": layout.S32,
    "int8_t": layout.S8,
    "int16_t": layout.S16,
    "int32_t": layout.S32,
    "int64_t": layout.S64,
}
UNSIGNED = {1: layout.U8, 2: layout.U16, 4: layout.U32, 8: layout.U64}

# The goldens are of x86; PowerPC's structures are in test_abi_dom0_ops.
TABLES = {name: table for name, table in goldens.tables().items() if not name.startswith("ppc64.")}


def interfaces(table: Table) -> tuple[Interface, ...]:
    """Those that know the family of a table."""
    return BEFORE_DOMCTL if table.family == "dom0_op" else RELEASES


def golden_of(name: str, table: Table, interface: Interface) -> goldens.Struct | None:
    narrow = name.endswith("_32_STRUCT")
    golden = goldens.struct_of((goldens.i386_name if narrow else goldens.golden_name)(interface), table.name)
    if golden is None or table.name != "xen_sysctl_pm_op":
        return golden
    return golden._replace(fields=[field._replace(name=moved(field.name)) for field in golden.fields])


def moved(name: str) -> str:
    """The name by which a field of pm_op is known in most releases.

    In 3.4 its union had no name, in 4.0 turbo_enabled was in another place, from 4.18 on some fields are in a
    structure of their own.
    """
    if name in ("cmd", "cpuid"):
        return name
    name = "u." + name.removeprefix("u.")
    name = name.replace("u.get_para.u.s.", "u.get_para.").replace("u.get_para.s.", "u.get_para.")
    return name.replace("u.get_para.u.ondemand.turbo", "u.get_para.turbo")


def union_members(table: Table) -> set[str]:
    """The members of the union u that a table is about."""
    return {row.name.split(".")[1] for row in table.rows if row.name and row.name.startswith("u.")}


def exists(table: Table, golden: goldens.Struct | None) -> bool:
    """Whether a release has a structure, and in its union the member that the table is about."""
    if golden is None:
        return False
    return {f"u.{member}" for member in union_members(table)} <= {field.name for field in golden.fields}


def fields_of(table: Table, golden: goldens.Struct) -> dict[str, goldens.Field]:
    """The fields of a structure by our names; of a union the member that the table is about."""
    found = {field.name: field for field in golden.fields}
    handles = {match[1] for match in map(ALIAS.fullmatch, found) if match and f"{match[1]}.h" in found}
    for name in handles:
        del found[f"{name}.pad"]
    members = union_members(table)
    if table.family == "dom0_op" and table is not dom0_ops.GETDOMAININFO_STRUCT and "domain" in found:
        found["domid"] = found.pop("domain")
    return {
        name: field
        for name, field in found.items()
        if not (members and name.startswith("u.")) or name.split(".")[1] in members
    }


def expected_code(structure: str, field: goldens.Field, row: Row) -> str:
    """The type code that a C type needs. Structures and strings are bytes."""
    ctype, _, array = field.ctype.partition(" [")
    if ctype.startswith("__guest_handle"):
        return layout.HANDLE
    if row.length > 1 and row.code == layout.U8:
        return layout.U8
    if row.code == layout.BOOL and field.size == 1:
        return layout.BOOL
    if ctype in SIGNED:
        return SIGNED[ctype]
    size = field.size // int(array.rstrip("]") or 1) if array else field.size
    unsigned = UNSIGNED[size]
    return unsigned.lower() if (structure, row.name) in SIGNED_RESULTS else unsigned


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_the_compiler_makes_of_the_header(name: str) -> None:
    for interface in interfaces(TABLES[name]):
        check_against_the_header(name, interface)


def check_against_the_header(name: str, interface: Interface) -> None:
    table = TABLES[name]
    golden = golden_of(name, table, interface)
    try:
        ours = table.at(interface)
    except NotInInterface:
        assert not exists(table, golden), f"{table.name} exists in this release"
        return
    if table.name in NOT_STRUCTURES:
        assert golden is None
        assert ours.size == NOT_STRUCTURES[table.name]
        return
    assert golden is not None, f"{table.name} does not exist in this release"
    flexible = [field for field in golden.fields if field.ctype.endswith("[]")]
    assert ours.size == golden.size or flexible
    fields = fields_of(table, golden)
    for row in table.rows_at(interface):
        if row.name is None:
            continue
        field = fields.get(row.name) or fields[OTHER_NAMES[table.name, row.name]]
        assert ours.offsets[row.name] == field.offset, row.name
        assert ours.sizes[row.name] == field.size or field in flexible, row.name
        assert row.code == expected_code(table.name, field, row), row.name


@pytest.mark.parametrize("name", TABLES)
def test_a_table_leaves_no_field_of_the_header_out(name: str) -> None:
    for interface in interfaces(TABLES[name]):
        check_that_all_is_there(name, interface)


def check_that_all_is_there(name: str, interface: Interface) -> None:
    table = TABLES[name]
    try:
        ours = table.at(interface)
    except NotInInterface:
        return
    golden = golden_of(name, table, interface)
    if golden is None:
        assert table.name in NOT_STRUCTURES
        return
    covered = {ours.offsets[name] + byte for name in ours.names for byte in range(ours.sizes[name])}
    fields = fields_of(table, golden)
    opaque = [field for name, field in fields.items() if name in ours.index]
    for field in fields.values():
        if any(other.name.startswith((f"{field.name}.", f"{field.name}[")) for other in golden.fields):
            continue
        if any(field.name.startswith((f"{whole.name}.", f"{whole.name}[")) for whole in opaque):
            continue
        wanted = set(range(field.offset, field.end))
        if PADDING.search(field.name):
            assert not wanted & covered, f"{field.name} is padding and must be packed as zero"
        else:
            assert wanted <= covered, f"{field.name} is missing"


def test_every_exemption_is_needed() -> None:
    names = {table.name for table in TABLES.values()}
    assert set(NOT_STRUCTURES) <= names
    assert {structure for structure, _ in (*OTHER_NAMES, *SIGNED_RESULTS)} <= names


def test_every_structure_of_a_module_has_a_name_that_says_so() -> None:
    assert [name for name in TABLES if not name.endswith("_STRUCT")] == []


@pytest.mark.parametrize("interface", RELEASES, ids=goldens.golden_name)
def test_the_size_of_a_vcpu_context(interface: Interface) -> None:
    assert x86.VCPU_GUEST_CONTEXT_STRUCT.at(interface).size == 5168
    assert x86.VCPU_GUEST_CONTEXT_32_STRUCT.at(interface).size == 2800


@pytest.mark.parametrize(
    "one, shared",
    [
        (x86.VCPU_INFO_STRUCT, x86.SHARED_INFO_STRUCT),
        (x86.VCPU_INFO_32_STRUCT, x86.SHARED_INFO_32_STRUCT),
    ],
)
def test_vcpu_infos_fill_their_place_in_shared_info(one: Table, shared: Table) -> None:
    newest = RELEASES[-1]
    assert one.at(newest).size * x86.VCPU_INFOS == shared.at(newest).sizes["vcpu_info"]
