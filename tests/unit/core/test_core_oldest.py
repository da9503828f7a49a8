# SPDX-License-Identifier: MIT
"""Kernels of before June 2006, whose privcmd took a hypercall as words of the kernel's own width.

The kernel here is a shim of the C library's ioctl() that answers as their driver did.
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import stand_ins

from pyxc._core import POINTER_BITS

# Knows one form of the ioctl; XENVER_version says 3.0, any other hypercall answers the sum of its arguments.
KERNEL = r"""
struct call { WORD op, arg[5]; };

static int answer(unsigned long request, void *structure)
{
    struct call *call = structure;

    if ((unsigned int)request != _IOC(_IOC_NONE, 'P', 0, sizeof(struct call))) {
        errno = EINVAL;
        return -1;
    }
    if (call->op == 17)
        return 3 << 16;
    return call->arg[0] + call->arg[1] + call->arg[2] + call->arg[3] + call->arg[4];
}
"""
PROGRAM = """
from pyxc._core import Privcmd
device = Privcmd("/dev/null", gate="never")
wide = device.hypercall(7, 2**33)
print(device.probe_errno, int(device.longs), device.hypercall(7, 1, 2, 3, 4, 5), wide)
"""


@pytest.mark.parametrize("form", ["unsigned long", "uint64_t"])
def test_the_form_that_the_kernel_takes_is_found(form: str, plain_directory: Path) -> None:
    printed = stand_ins.run(PROGRAM, KERNEL, plain_directory, f"-DWORD={form}")
    refused, longs, total, wide = map(int, printed.split())
    differs = form == "unsigned long" and POINTER_BITS == 32
    assert (refused, longs, total) == (0, differs, 15)
    assert wide == (-errno.EINVAL if differs else 0), "a word of 32 bits is never cut off in silence"
