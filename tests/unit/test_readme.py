# SPDX-License-Identifier: MIT
"""What README shows is what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

README = Path(__file__).parent.parent.parent / "README.md"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def test_the_session_in_readme_runs_as_shown() -> None:
    sessions = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert sessions
    for session in sessions:
        examples = doctest.DocTestParser().get_doctest(session, {}, "README", str(README), 0)
        assert doctest.DocTestRunner(optionflags=OPTIONS).run(examples).failed == 0
