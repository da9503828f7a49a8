# SPDX-License-Identifier: MIT
"""Commands, enums, plain numbers and interface versions against the constants of the headers."""

from __future__ import annotations

import errno as linux_errno
import re
from enum import IntEnum

import goldens
import pytest

from pyxc.abi import domctl, errno, operation, registry, releases, trace
from pyxc.abi.layout import Interface, NotInInterface
from pyxc.abi.operation import Family, Operation
from pyxc.abi.releases import RELEASES
from pyxc.domain.info import INFO

COMMANDS = {
    "domctl": "XEN_DOMCTL_",
    "sysctl": "XEN_SYSCTL_",
    "memory_op": "XENMEM_",
    "xen_version": "XENVER_",
    "grant_table_op": "GNTTABOP_",
    "sched_op": "SCHEDOP_",
    "event_channel_op": "EVTCHNOP_",
    "hvm_op": "HVMOP_",
    "physdev_op": "PHYSDEVOP_",
    "xsm_op": "FLASK_",
    "hypfs_op": "XEN_HYPFS_OP_",
    "dm_op": "XEN_DMOP_",
    "mmuext_op": "MMUEXT_",
}

# Since when a family has the structure that it has here; before, its commands came with another one.
STRUCTURED = {"xsm_op": (4, 2)}

# Operations that share a command with others, told apart by a field of the structure.
COMMAND_OF = {
    "readconsole_clear": "readconsole",
    "mem_sharing_op_control": "mem_sharing_op",
    **{
        asked.name: "shadow_op"
        for asked in goldens.operations().values()
        if asked.name.startswith("shadow_op_")
    },
    "perfc_op_reset": "perfc_op",
    "perfc_op_query": "perfc_op",
    "lockprof_op_reset": "lockprof_op",
    "lockprof_op_query": "lockprof_op",
    "livepatch_op_get": "livepatch_op",
    "livepatch_op_list": "livepatch_op",
    "livepatch_op_upload": "livepatch_op",
    "livepatch_op_action": "livepatch_op",
    "get_pmstat_max_px": "get_pmstat",
    "get_pmstat_pxstat": "get_pmstat",
    "get_pmstat_max_cx": "get_pmstat",
    "get_pmstat_cxstat": "get_pmstat",
    "pm_op_get_para": "pm_op",
    "pm_op_get_max_cstate": "pm_op",
    "pm_op_set_max_cstate": "pm_op",
    "pm_op_set_gov": "pm_op",
    "pm_op_set_para": "pm_op",
    "pm_op_enable_turbo": "pm_op",
    "pm_op_disable_turbo": "pm_op",
    "get_host_cpu_policy": "get_cpu_policy",
    "get_domain_cpu_policy": "get_cpu_policy",
    "set_domain_cpu_policy": "set_cpu_policy",
    **{
        asked.name: asked.name[: asked.name.index("_op_") + 3]
        for asked in goldens.operations().values()
        if asked.name.startswith(("cpupool_op_", "scheduler_op_", "tbuf_op_"))
    },
}

# Fields of an envelope that the header calls otherwise.
ENVELOPE_NAMES = {"domid": "domain"}

# Enum -> the constants that are its members, and those that are none (masks, limits, older names).
ENUMS = {
    "domctl.DomainFlag": (
        r"XEN_DOMINF_(\w+)",
        {"shutdownmask", "shutdownshift", "cpumask", "cpushift", "pvh_guest"},  # see former_flags()
    ),
    "domctl_create.CreateFlag": (
        r"XEN_DOMCTL_CDF_(\w+)",
        {"MAX", "hvm_guest", "pvh_guest"},  # hvm's name up to 4.12; a kind of PV guest that 4.4 to 4.8 had
    ),
    "domctl_debug.DebugOp": (r"XEN_DOMCTL_DEBUG_OP_(\w+)", set()),
    "domctl_create.EmulationFlag": (r"XEN_X86_EMU_(\w+)", {"ALL"}),
    "domctl_create.MiscFlag": (r"XEN_X86_(MSR_\w+)", set()),
    "domctl_state.StateFlag": (r"XEN_DOMCTL_GETDOMSTATE_STATE_(\w+)", set()),
    "domctl_state.StateCap": (r"XEN_DOMCTL_GETDOMSTATE_CAP_(\w+)", set()),
    "domctl.AffinityFlag": (r"XEN_VCPUAFFINITY_(\w+)", set()),
    "domctl.PageType": (r"XEN_DOMCTL_PFINFO_(\w+)", {"LPINTAB", "LTABTYPE_MASK", "LTAB_MASK", "LTAB_SHIFT"}),
    "domctl.Scheduler": (r"XEN_SCHEDULER_(\w+)", set()),
    "domctl_paging.ShadowOp": (r"XEN_DOMCTL_SHADOW_OP_(\w+)", set()),
    "domctl_paging.ShadowMode": (r"XEN_DOMCTL_SHADOW_ENABLE_(\w+)", set()),
    "domctl.Trigger": (r"XEN_DOMCTL_SENDTRIGGER_(\w+)", set()),
    "sysctl.Capability": (
        r"XEN_SYSCTL_PHYSCAP_(\w+)",
        {"MAX", "hvm_directio"},
    ),  # to 4.11: see capabilities()
    "perfc.PerfcOp": (r"XEN_SYSCTL_PERFCOP_(\w+)", set()),
    "lockprof.LockprofOp": (r"XEN_SYSCTL_LOCKPROF_(\w+)", set()),
    "cpu_policy.Policy": (r"XEN_SYSCTL_cpu_policy_(\w+)", set()),
    "cpu_policy.Featureset": (r"XEN_SYSCTL_cpu_featureset_(\w+)", set()),
    "cpu_policy.LevellingCap": (r"XEN_SYSCTL_CPU_LEVELCAP_(\w+)", set()),
    "hypfs.Type": (r"XEN_HYPFS_TYPE_(\w+)", set()),
    "hypfs.Encoding": (r"XEN_HYPFS_ENC_(\w+)", set()),
    "livepatch.LivepatchOp": (r"XEN_SYSCTL_LIVEPATCH_(\w+)", set()),
    "livepatch.State": (r"LIVEPATCH_STATE_(\w+)", set()),
    "livepatch.Action": (r"LIVEPATCH_ACTION_((?!APPLY_)\w+)", set()),
    "pm.PmStat": (r"PMSTAT_(\w+)", set()),
    "pm.Parameter": (r"(SCALING_\w+|SAMPLING_RATE|UP_THRESHOLD)", set()),
    "domctl_scheduler.SchedulerOp": (r"XEN_DOMCTL_SCHEDOP_(\w+)", set()),
    "domctl_scheduler.RtdsFlag": (r"XEN_DOMCTL_SCHEDRT_(\w+)", set()),
    "sysctl_cpupool.CpupoolOp": (r"XEN_SYSCTL_CPUPOOL_OP_(\w+)", set()),
    "sysctl_scheduler.SchedulerOp": (r"XEN_SYSCTL_SCHEDOP_(\w+)", set()),
    "trace.TbufOp": (r"XEN_SYSCTL_TBUFOP_(\w+)", set()),
    "trace.TraceClass": (r"TRC_(GEN|SCHED|SCHED_MIN|DOM0OP|HVM|MEM|PV|SHADOW|HW|GUEST|ALL)", set()),
    "trace.Runstate": (r"RUNSTATE_(\w+)", set()),
    "features.Feature": (r"XENFEAT_(\w+)", {"NR_SUBMAPS"}),
    "memory.MemFlag": (r"XENMEMF_(\w+)", set()),
    "memory.MapSpace": (r"XENMAPSPACE_(\w+)", set()),
    "memory.MemoryType": (r"XEN_HVM_MEMMAP_TYPE_(\w+)", set()),
    "memory.Resource": (r"XENMEM_resource_((?!.*_id_|.*_frame_)\w+)", set()),
    "sched.ShutdownReason": (r"SHUTDOWN_(\w+)", {"MAX"}),
    "event_channel.Status": (r"EVTCHNSTAT_(\w+)", set()),
    "event_channel.Virq": (r"VIRQ_(\w+)", {"XC_RESERVED", "MCA"}),
    "grant_table.Status": (r"GNTST_(\w+)", set()),
    "grant_table.Reserved": (r"GNTTAB_RESERVED_(\w+)", set()),
    "hvm.HvmParam": (r"HVM_PARAM_((?!CALLBACK_TYPE_)\w+)", {"ACCESS_RING_PFN"}),  # MONITOR_RING_PFN to 4.5
    "hvm_save.HvmRecordType": (r"HVM_SAVE_CODE_(\w+)", {"VIRIDIAN"}),  # VIRIDIAN_DOMAIN to 4.1
    "physdev.MapPirqType": (r"MAP_PIRQ_TYPE_(\w+)", set()),
    "x86.ContextFlag": (r"VGCF_(\w+)", set()),
    "x86.StartFlag": (r"SIF_(\w+)", {"PM_MASK"}),
    "errno.XenErrno": (r"XEN_(E[A-Z0-9]+)", {"EWOULDBLOCK", "EDEADLOCK"}),  # second names of numbers
}
BIT_NUMBERS = {"features.Feature"}
NOT_PUBLIC = {"domctl_tsc.TscMode", "hvm.MemType", "lockprof.LockType"}
"""Enums of numbers that only Xen's own headers have, or that the constants here leave out."""

# Plain numbers whose name differs from the header's. (Those of domid have the same.)
NUMBERS = {
    "domctl.SHUTDOWN_SHIFT": "XEN_DOMINF_shutdownshift",
    "domctl.SHUTDOWN_MASK": "XEN_DOMINF_shutdownmask",
    "domctl.PAGE_PINNED": "XEN_DOMCTL_PFINFO_LPINTAB",
    "domctl.PAGE_TYPE_MASK": "XEN_DOMCTL_PFINFO_LTAB_MASK",
    "domctl.GRANT_VERSION_MASK": "XEN_DOMCTL_GRANT_version_mask",
    "domctl_paging.LOGDIRTY_FINAL": "XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL",
    "domctl_pci.DEV_PCI": "XEN_DOMCTL_DEV_PCI",
    "domctl_pci.DEV_RDM_RELAXED": "XEN_DOMCTL_DEV_RDM_RELAXED",
    "domctl_sharing.MEM_SHARING_CONTROL": "XEN_DOMCTL_MEM_SHARING_CONTROL",
    "sysctl_cpupool.CPUPOOL_ANY": "XEN_SYSCTL_CPUPOOL_PAR_ANY",
    "sysctl.INVALID_CORE_ID": "XEN_INVALID_CORE_ID",
    "sysctl.INVALID_SOCKET_ID": "XEN_INVALID_SOCKET_ID",
    "sysctl.INVALID_NODE_ID": "XEN_INVALID_NODE_ID",
    "sysctl.INVALID_MEM_SZ": "XEN_INVALID_MEM_SZ",
    "sysctl.INVALID_NODE_DIST": "XEN_INVALID_NODE_DIST",
    "sysctl_scheduler.TSLICE_MIN": "XEN_SYSCTL_CSCHED_TSLICE_MIN",
    "sysctl_scheduler.TSLICE_MAX": "XEN_SYSCTL_CSCHED_TSLICE_MAX",
    "sysctl_scheduler.RATELIMIT_MIN": "XEN_SYSCTL_SCHED_RATELIMIT_MIN",
    "sysctl_scheduler.RATELIMIT_MAX": "XEN_SYSCTL_SCHED_RATELIMIT_MAX",
    "sysctl_scheduler.MGR_DLY_MAX_US": "XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US",
    "hvm_start_info.MAGIC": "XEN_HVM_START_MAGIC_VALUE",
    "x86.VCPU_INFOS": "XEN_LEGACY_MAX_VCPUS",
    "grant_table.PERMIT_ACCESS": "GTF_permit_access",
    "grant_table.READONLY": "GTF_readonly",
    "operation.MULTICALL": "__HYPERVISOR_multicall",
    **{
        f"pm.XEN_SYSCTL_PM_OP_{name.upper()}": f"XEN_SYSCTL_pm_op_{name}"
        for name in ("get_max_cstate", "set_max_cstate", "enable_turbo", "disable_turbo")
    },
}

# What the processor defines, or Xen's source in no public header.
UNPUBLISHED = {
    name
    for name in goldens.numbers()
    if name.startswith(("x86.PTE", "x86.CR", "x86.EF")) or name.endswith("_BYTES_MOST")
} | {"domctl_debug.NO_VCPU", "flask.BOOL_BY_NAME", "page.PAGE_KB", "page.MOST_FRAME"}
UNPUBLISHED |= {name for name in goldens.numbers() if name.startswith("console.")}
"""Sizes of arrays, what only the headers since 4.21 have, and what is the processor's."""

# Those of dom0_op have a module of tests to themselves.
OPERATIONS = {
    name: asked for name, asked in goldens.operations().items() if asked.family is not operation.DOM0_OP
}
ENUM_TYPES = {name: kind for name, kind in goldens.enums().items() if not name.startswith("dom0_ops.")}


def in_release(asked: Operation, interface: Interface) -> bool:
    try:
        asked.at(interface)
    except NotInInterface:
        return False
    return True


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_its_command_in_the_releases_that_know_it(name: str) -> None:
    asked = OPERATIONS[name]
    command = COMMANDS[asked.family.name] + COMMAND_OF.get(asked.name, asked.name)
    if asked.family in (operation.XSM_OP, operation.MMUEXT_OP):
        command = command.upper()
    for interface in RELEASES:
        if interface.xen < STRUCTURED.get(asked.family.name, interface.xen):
            continue
        number = goldens.constant(command, interface.xen)
        if in_release(asked, interface):
            assert number == asked.command, interface
        else:
            assert number is None or _has_a_union(asked), interface


def _has_a_union(asked: Operation) -> bool:
    """A command can be older than the member of its union that an operation is about (test_abi_tables)."""
    return bool(asked.body) and any(row.name and row.name.startswith("u.") for row in asked.body.rows)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_called_as_in_the_header(name: str) -> None:
    assert name.rpartition(".")[2] == OPERATIONS[name].name.upper()


def test_operations_of_one_command_differ_in_a_fixed_field() -> None:
    for interface in RELEASES:
        seen: dict[tuple[str, int], list[Operation]] = {}
        for asked in OPERATIONS.values():
            if in_release(asked, interface):
                seen.setdefault((asked.family.name, asked.command), []).append(asked)
        for sharing in seen.values():
            fixed = {tuple(asked.fixed.items()) for asked in sharing}
            assert len(fixed) == len(sharing), sharing


@pytest.mark.parametrize("name", [name for name, asked in OPERATIONS.items() if asked.fixed])
def test_fixed_fields_are_in_the_structure(name: str) -> None:
    asked = OPERATIONS[name]
    assert asked.at(RELEASES[-1]).values(asked.fixed)


@pytest.mark.parametrize("family", ["domctl", "sysctl"])
@pytest.mark.parametrize("interface", RELEASES, ids=goldens.golden_name)
def test_the_envelope_is_the_hypervisors(family: str, interface: Interface) -> None:
    golden = goldens.struct_of(goldens.golden_name(interface), f"xen_{family}")
    assert golden is not None
    fields = {field.name: field for field in golden.fields}
    arms = {field.ctype for field in golden.fields if field.name.count(".") == 1}
    for asked in OPERATIONS.values():
        if asked.family.name != family or not in_release(asked, interface):
            continue
        layout = asked.at(interface)
        assert layout.size == golden.size
        envelope = [row.name for row in asked.family.envelope if row.name]
        for name in envelope:
            theirs = fields[ENVELOPE_NAMES.get(name, name)]
            assert (layout.offsets[name], layout.sizes[name]) == (theirs.offset, theirs.size)
        if asked.body:
            assert layout.offsets[layout.names[len(envelope)]] == fields["u"].offset
            assert f"struct {asked.body.name}" in arms, asked


def test_hypercall_numbers() -> None:
    families = [value for value in vars(operation).values() if isinstance(value, Family)]
    assert {family.name for family in families} == {*COMMANDS, "dom0_op"}
    for family in families:
        if family is not operation.DOM0_OP:
            assert goldens.newest(f"__HYPERVISOR_{family.name}") == family.hypercall


def members_in_headers(name: str) -> dict[str, int]:
    """The members of an enum; one that moved has its newest place."""
    pattern, ignored = ENUMS[name]
    found = {}
    for constant in goldens.constants():
        match = re.fullmatch(pattern, constant)
        value = goldens.newest(constant)
        if match and value is not None and match[1] not in ignored:
            found[match[1].upper()] = value
    return found


@pytest.mark.parametrize("name", [name for name in ENUM_TYPES if name not in NOT_PUBLIC])
def test_an_enum_has_all_members_of_the_header_and_no_other(name: str) -> None:
    ours = {member: value.value for member, value in goldens.enums()[name].__members__.items()}
    theirs = members_in_headers(name)
    if name in BIT_NUMBERS:
        theirs = {member: 1 << value for member, value in theirs.items()}
    assert ours == theirs


FLAGS = {"pvh_guest": domctl.DomainFlag.HVM_GUEST, **{flag.name.lower(): flag for flag in domctl.DomainFlag}}


@pytest.mark.parametrize("interface", RELEASES, ids=goldens.golden_name)
@pytest.mark.parametrize("name", FLAGS)
def test_the_flags_of_a_domain_mean_what_the_release_says(name: str, interface: Interface) -> None:
    value = goldens.constant(f"XEN_DOMINF_{name}", interface.xen)
    if value is not None:
        info = INFO.at(interface).one(
            domctl.GETDOMAININFO_STRUCT.at(interface).pack({"flags": value | 3 << 16})
        )
        assert info.flags == FLAGS[name]
        assert info.is_hvm == (FLAGS[name] is domctl.DomainFlag.HVM_GUEST)


@pytest.mark.parametrize("name", [name for name in goldens.numbers() if name not in UNPUBLISHED])
def test_a_plain_number_is_the_headers(name: str) -> None:
    value = goldens.numbers()[name]
    theirs = goldens.newest(NUMBERS.get(name, name.rpartition(".")[2]))
    assert theirs is not None
    assert theirs % 2 ** (64 if value >> 32 else 32) == value


NO_EVENTS = re.compile(
    r"TRC_(GEN|SCHED(_MIN|_CLASS|_VERBOSE)?|DOM0OP|DOM0_DOMOPS|HVM(_ENTRYEXIT|_HANDLER|_EMUL)?|MEM|SHADOW|GUEST"
    r"|PV(_ENTRY|_SUBCALL)?|HW(_PM|_IRQ)?|ALL|64_FLAG|HVM_NESTEDFLAG|HD_.*|.*_SHIFT|.*_MASK|.*_BITS"
    r"|SCHED_(CSCHED|CSCHED2|ARINC653|RTDS|SNULL)|HVM_VMEXIT(64)?)"
)
"""Classes, masks and flags; the names that exits had up to 4.18."""


def test_every_event_of_the_header_has_its_name() -> None:
    found = {}
    for name in goldens.constants():
        value = goldens.newest(name)
        if name.startswith("TRC_") and not NO_EVENTS.fullmatch(name) and value is not None:
            event = name.removeprefix("TRC_").removesuffix("64").lower()
            wide = trace.TRC_64_FLAG if name.endswith("64") else 0
            prefix = "^(sched|hvm_emul|hvm|mem|pv|shadow|dom0|pm|hw_irq|trace)_"
            found[value & ~wide] = re.sub(prefix, "", event)
    assert {number: name.partition(".")[2] for number, name in trace.EVENTS.items()} == found


def test_every_exemption_is_needed() -> None:
    assert set(ENUMS) | NOT_PUBLIC <= set(goldens.enums())
    assert set(NUMBERS) <= set(goldens.numbers())
    assert set(COMMAND_OF) <= {asked.name for asked in OPERATIONS.values()}


@pytest.mark.parametrize("interface", RELEASES, ids=goldens.golden_name)
def test_interface_numbers(interface: Interface) -> None:
    golden = goldens.golden(goldens.golden_name(interface))
    assert (interface.domctl, interface.sysctl) == (golden["domctl"], golden["sysctl"])


def test_every_golden_release_is_known() -> None:
    files = {path.stem.removeprefix("xen-") for path in (goldens.HERE / "layouts").glob("*x86_64.json")}
    assert files == {goldens.golden_name(interface) for interface in RELEASES}


def test_releases_are_in_order_and_without_gap() -> None:
    known = [*((3, minor) for minor in range(1, 5)), *((4, minor) for minor in range(24))]
    assert sorted({interface.xen for interface in RELEASES}) == known
    assert list(RELEASES) == sorted(RELEASES)
    assert (releases.OLDEST, releases.NEWEST, releases.UNRELEASED) == ((3, 1), (4, 22), (4, 23))


@pytest.mark.parametrize(
    "release, numbers",
    [
        ((4, 10), (0xF, 0x10)),  # the point releases, rather than 4.10.0
        ((4, 17), (0x15, 0x15)),
        ((4, 22), (0x18, 0x16)),
        ((4, 99), (0x18, 0x16)),
        ((4, 6), (0xB, 0xC)),
        ((3, 4), (0x5, 0x6)),
        ((3, 1), (0x5, 0x3)),
        ((3, 0), (0x5, 0x3)),
    ],
)
def test_the_first_guess_for_a_release(release: tuple[int, int], numbers: tuple[int, int]) -> None:
    assert releases.numbers(release) == numbers


def test_candidates_for_probing_go_from_newest_to_oldest() -> None:
    assert releases.candidates("domctl") == tuple(range(0x18, 0x4, -1))
    assert releases.candidates("sysctl") == (*range(0x16, 0x5, -1), 0x3)


def test_the_errno_list_is_linux_where_both_have_a_name() -> None:
    assert all(getattr(linux_errno, member.name) == member for member in errno.XenErrno)


def test_names_and_descriptions_of_errnos() -> None:
    assert (errno.name_of(3), errno.describe(3)) == ("ESRCH", "no such domain or vcpu")
    assert (errno.name_of(1000), errno.describe(1000)) == ("errno 1000", "unknown error")
    assert all(member.description for member in errno.XenErrno)
    assert issubclass(errno.XenErrno, IntEnum)


def test_every_operation_is_found_by_its_name() -> None:
    for asked in goldens.operations().values():
        assert registry.named(asked.family, asked.name) is asked
