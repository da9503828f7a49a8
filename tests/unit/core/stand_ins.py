# SPDX-License-Identifier: MIT
"""Stand-ins for the kernel's privcmd: shared objects that implement ioctl() in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HEADER = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
/* Whatever the type of its second argument is there. */
#define ioctl ioctl_of_the_library
#include <sys/ioctl.h>
#undef ioctl
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef _IOC_TYPE /* musl has none of these */
#define _IOC_TYPE(request) ((request) >> 8 & 0xFF)
#define _IOC_NR(request) ((request) & 0xFF)
#define _IOC_SIZE(request) ((request) >> 16 & 0x3FFF)
#endif

#define PASS_ON 12345
static int answer(unsigned long request, void *structure);

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    void *structure;
    int result;

    va_start(rest, request);
    structure = va_arg(rest, void *);
    va_end(rest);
    result = _IOC_TYPE(request) == 'P' ? answer(request, structure) : PASS_ON;
    return result == PASS_ON ? syscall(SYS_ioctl, fd, request, structure) : result;
}
"""
"""The C function answer() that follows gets privcmd's requests: its result, or -1 with errno."""


def run(program: str, source: str, directory: Path, *options: str) -> str:
    """What a program prints if a C function replaces the kernel's ioctl(). Skips without a C compiler."""
    compiler = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
    if compiler is None:
        pytest.skip("no C compiler to build the kernel's stand-in with")
    file, library = directory / "kernel.c", directory / "kernel.so"
    file.write_text(HEADER + source)
    subprocess.run([compiler, *options, "-shared", "-fPIC", "-o", library, file], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout
