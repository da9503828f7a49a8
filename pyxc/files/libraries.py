# SPDX-License-Identifier: MIT
"""Modules for compression that a Python may lack: optional packages, and parts of the standard library."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pyxc import errors


def library(module: str, compression: str) -> Any:
    """A module for decompression. MissingLibrary names its package if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise errors.MissingLibrary(
            f"{compression} needs the Python package {package} (on Debian: python3-{package})", name=package
        ) from error
