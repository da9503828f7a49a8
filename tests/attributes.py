# SPDX-License-Identifier: MIT
"""Extended attributes as other programs see them: by Python's own calls, else by pyxattr.

CPython 3.11 for musl has no such calls.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

_calls: Any = os if hasattr(os, "getxattr") else importlib.import_module("xattr")

getxattr, setxattr, removexattr = _calls.getxattr, _calls.setxattr, _calls.removexattr
listxattr = _calls.listxattr
