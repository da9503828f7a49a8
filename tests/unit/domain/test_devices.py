# SPDX-License-Identifier: MIT
"""The kernel's devices for Xen where they cannot be opened."""

from __future__ import annotations

import errno
import os

import pytest

import pyxc
from pyxc.link.device import cannot_open, open_device


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(pyxc.NotXenError, match="no nonesuch device.*xen-nonesuch module") as caught:
        open_device("nonesuch")
    assert caught.value.filename == "/dev/xen/nonesuch"


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EACCES, "run as root"), (errno.EPERM, "run as root"), (errno.EIO, "cannot")]
)
def test_a_device_that_refuses(number: int, said: str) -> None:
    error = cannot_open("evtchn", OSError(number, os.strerror(number), "/dev/xen/evtchn"))
    assert said in str(error)
    assert (error.errno, error.filename) == (number, "/dev/xen/evtchn")
