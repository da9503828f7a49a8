# SPDX-License-Identifier: MIT
"""Builds the native core; everything else is in pyproject.toml. The C is made from the .pyx at every build."""

from setuptools import Extension, setup

setup(
    license="MIT",
    ext_modules=[
        Extension(
            "pyxc._core",
            sources=["pyxc/_core.pyx"],
            depends=["pyxc/gate.h", "pyxc/ioctls.h"],
            include_dirs=["pyxc"],
            define_macros=[("_FILE_OFFSET_BITS", "64"), ("_GNU_SOURCE", None)],
        )
    ],
)
