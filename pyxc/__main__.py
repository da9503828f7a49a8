# SPDX-License-Identifier: MIT
"""`python -m pyxc` is the pyxc command."""

import sys

from pyxc.cli import main

sys.exit(main())
