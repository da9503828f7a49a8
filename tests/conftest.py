# SPDX-License-Identifier: MIT
"""For every test that needs no Xen."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The result as one plain line, in the same words with every pytest and under every option."""
    failed = sum(len(terminalreporter.getreports(outcome)) for outcome in ("failed", "error"))
    terminalreporter.line(f"{len(terminalreporter.getreports('passed'))} passed, {failed} failed")
