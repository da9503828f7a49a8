# SPDX-License-Identifier: MIT
"""xen_version (public/version.h): what a hypervisor says of itself. Needs no interface number."""

from __future__ import annotations

from typing import Final

from pyxc.abi.layout import U8, U32, U64, Release, Row, Table
from pyxc.abi.operation import XEN_VERSION, Operation

_PAGE: Final = 4096

EXTRAVERSION_STRUCT = Table("xen_extraversion_t", "xen", Row("extraversion", U8, 16))

COMPILE_INFO_STRUCT = Table(
    "xen_compile_info", "xen",
    Row("compiler",       U8, 64),
    Row("compile_by",     U8, 16),
    Row("compile_domain", U8, 32),
    Row("compile_date",   U8, 32),
)  # fmt: skip

CAPABILITIES_STRUCT = Table("xen_capabilities_info_t", "xen", Row("capabilities", U8, 1024))

CHANGESET_STRUCT = Table("xen_changeset_info_t", "xen", Row("changeset", U8, 64))

PLATFORM_PARAMETERS_STRUCT = Table("xen_platform_parameters", "xen", Row("virt_start", U64))

FEATURE_INFO_STRUCT = Table(
    "xen_feature_info", "xen",
    Row("submap_idx", U32),
    Row("submap",     U32),
)  # fmt: skip

GUEST_HANDLE_STRUCT = Table("xen_domain_handle_t", "xen", Row("handle", U8, 16))

COMMANDLINE_STRUCT = Table("xen_commandline_t", "xen", Row("commandline", U8, 1024))

# These two end in an array whose length is `len`: here it fills a page.
BUILD_ID_STRUCT = Table(
    "xen_build_id", "xen",
    Row("len", U32),
    Row("buf", U8, _PAGE - 4),
    start=(4, 7),
)  # fmt: skip

VARBUF_STRUCT = Table(
    "xen_varbuf", "xen",
    Row("len", U32),
    Row("buf", U8, _PAGE - 4),
    start=(4, 20),
)  # fmt: skip

VERSION = Operation(XEN_VERSION, "version", 0, changes=False)
EXTRAVERSION = Operation(XEN_VERSION, "extraversion", 1, EXTRAVERSION_STRUCT, changes=False)
COMPILE_INFO = Operation(XEN_VERSION, "compile_info", 2, COMPILE_INFO_STRUCT, changes=False)
CAPABILITIES = Operation(XEN_VERSION, "capabilities", 3, CAPABILITIES_STRUCT, changes=False)
CHANGESET = Operation(XEN_VERSION, "changeset", 4, CHANGESET_STRUCT, changes=False)
PLATFORM_PARAMETERS = Operation(
    XEN_VERSION, "platform_parameters", 5, PLATFORM_PARAMETERS_STRUCT, changes=False
)
GET_FEATURES = Operation(XEN_VERSION, "get_features", 6, FEATURE_INFO_STRUCT, changes=False)
PAGESIZE = Operation(XEN_VERSION, "pagesize", 7, changes=False, start=(3, 1))
GUEST_HANDLE = Operation(XEN_VERSION, "guest_handle", 8, GUEST_HANDLE_STRUCT, changes=False, start=(3, 1))
COMMANDLINE = Operation(XEN_VERSION, "commandline", 9, COMMANDLINE_STRUCT, changes=False, start=(4, 0))
BUILD_ID = Operation(XEN_VERSION, "build_id", 10, BUILD_ID_STRUCT, changes=False)
EXTRAVERSION2 = Operation(XEN_VERSION, "extraversion2", 11, VARBUF_STRUCT, changes=False)
CAPABILITIES2 = Operation(XEN_VERSION, "capabilities2", 12, VARBUF_STRUCT, changes=False)
CHANGESET2 = Operation(XEN_VERSION, "changeset2", 13, VARBUF_STRUCT, changes=False)
COMMANDLINE2 = Operation(XEN_VERSION, "commandline2", 14, VARBUF_STRUCT, changes=False)


def release(packed: int) -> Release:
    """Major and minor from the result of VERSION."""
    return packed >> 16, packed & 0xFFFF
