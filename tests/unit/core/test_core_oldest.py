# SPDX-License-Identifier: MIT
"""Kernels of before June 2006, whose privcmd took a hypercall as words of the kernel's own width.

The kernel here is a shim of the C library's ioctl() that answers as their driver did.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pyxc._core import POINTER_BITS

# Knows one form of the ioctl; XENVER_version says 3.0, any other hypercall answers the sum of its arguments.
SHIM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct call { WORD op, arg[5]; };

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    struct call *call;

    va_start(rest, request);
    call = va_arg(rest, struct call *);
    va_end(rest);
    if (_IOC_TYPE(request) != 'P')
        return syscall(SYS_ioctl, fd, request, call);
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


@pytest.fixture(params=["unsigned long", "uint64_t"])
def answers(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[int]]:
    """The form that the kernel takes, and what the program prints under it."""
    compiler = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
    if compiler is None:
        pytest.skip("no C compiler to build the kernel's stand-in with")
    source, shim = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    subprocess.run(
        [compiler, f"-DWORD={request.param}", "-shared", "-fPIC", "-o", shim, source], check=True
    )
    environment = {**os.environ, "LD_PRELOAD": str(shim)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    return request.param, [int(word) for word in done.stdout.split()]


def test_the_form_that_the_kernel_takes_is_found(answers: tuple[str, list[int]]) -> None:
    form, (refused, longs, total, wide) = answers
    differs = form == "unsigned long" and POINTER_BITS == 32
    assert (refused, longs, total) == (0, differs, 15)
    assert wide == (-errno.EINVAL if differs else 0), "a word of 32 bits is never cut off in silence"
