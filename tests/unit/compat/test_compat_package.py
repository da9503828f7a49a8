# SPDX-License-Identifier: MIT
"""The Debian package that puts xen.lowlevel where every program finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "debian" / "xen-lowlevel"


@pytest.mark.parametrize(
    "code",
    [
        "import xen.lowlevel; xc, xs = xen.lowlevel.xc, xen.lowlevel.xs",
        "import xen.lowlevel.xc, xen.lowlevel.xs; xc, xs = xen.lowlevel.xc, xen.lowlevel.xs",
        "from xen.lowlevel import xc, xs",
    ],
)
def test_every_way_to_import_it(code: str) -> None:
    use = "assert xc.xc().domain_getinfo(1, 1); assert xs.xs().read('', '/local/domain/1/name') == b'web1'"
    path = os.pathsep.join(filter(None, (str(PACKAGE), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "PYXC_TARGET": "sim:"}
    done = subprocess.run([sys.executable, "-c", f"{code}; {use}"], env=environment, check=False)
    assert done.returncode == 0
