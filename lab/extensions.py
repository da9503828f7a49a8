# SPDX-License-Identifier: MIT
"""Extension modules for foreign Pythons, built on this machine by each project's setup.py."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lab import host
from lab.config import Python

BUILD_PYTHON = "/usr/bin/python3"
RECIPE = Path(__file__).read_text()


def build(kind: Python, usr: Path, source: Path, into: Path) -> None:
    """Build the project in `source` for the Python installed in `usr`, into the directory `into`.

    setup.py reads that Python's build configuration instead of its own Python's.
    """
    with tempfile.TemporaryDirectory(prefix="pyxc-build-") as name:
        record = next(usr.glob(f"lib/python3.*/_sysconfigdata_*{kind.triplet}.py"))
        shutil.copy(record, name)
        directories = [*usr.glob("include/python3.*"), usr / "include"]
        host.call(
            [BUILD_PYTHON, "-W", "ignore", "setup.py", "--quiet", "build", "--build-base", name,
             "--build-lib", into],
            cwd=source,
            environment={
                "PYTHONPATH": name,
                "_PYTHON_SYSCONFIGDATA_NAME": record.stem,
                "_PYTHON_HOST_PLATFORM": f"linux-{kind.name}",
                "CC": f"{kind.compiler}-gcc",
                "LDSHARED": f"{kind.compiler}-gcc -shared",
                "CPPFLAGS": " ".join(f"-I{directory}" for directory in directories),
            },
        )  # fmt: skip
