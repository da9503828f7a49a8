# SPDX-License-Identifier: MIT
"""What README and docs show is what happens."""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyxc.cli import main

TOP = Path(__file__).parent.parent.parent
DOCUMENTS = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def _blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


WITH_PYTHON = [document for document in DOCUMENTS if _blocks(document, "python")]
# README's commands are for a machine without Xen, where they are shown; those of docs are for any.
WITH_COMMANDS = [document for document in DOCUMENTS[1:] if _blocks(document, "console")]


@pytest.fixture(autouse=True)
def directory_of_the_examples(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is an empty disk.img."""
    monkeypatch.chdir(image.parent)
    monkeypatch.delenv("PYXC_TARGET", raising=False)


@pytest.mark.parametrize("document", WITH_PYTHON, ids=lambda document: document.name)
def test_python_does_what_is_shown(document: Path) -> None:
    variables: dict[str, object] = {}
    for session in _blocks(document, "python"):
        examples = doctest.DocTestParser().get_doctest(session, variables, document.name, str(document), 0)
        assert doctest.DocTestRunner(optionflags=OPTIONS).run(examples, clear_globs=False).failed == 0
        variables = examples.globs


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda document: document.name)
def test_commands_print_what_is_shown(document: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for session in _blocks(document, "console"):
        for line, expected in _commands(session):
            words = shlex.split(line)
            if words[0] == "pyxc":
                main(words[1:])
            else:
                subprocess.run(line, shell=True, check=True)
            out, err = capfd.readouterr()
            assert doctest.OutputChecker().check_output(expected, out + err, OPTIONS), f"{line}\n{out}{err}"


def _commands(session: str) -> Iterator[tuple[str, str]]:
    """Lines after the prompt of root or of somebody else, and what is printed after each."""
    for command in re.split(r"^[#$] ", session, flags=re.MULTILINE)[1:]:
        line, _, expected = command.partition("\n")
        yield line, expected


def test_documents_are_found() -> None:
    assert DOCUMENTS[0] in WITH_PYTHON
    names = [document.name for document in WITH_COMMANDS]
    assert names == ["flask.md", "hypervisor.md", "labels.md", "scheduling.md", "xenstore.md"]


def test_the_page_of_what_is_supported_is_what_the_tables_say() -> None:
    spec = importlib.util.spec_from_file_location("supported", TOP / "tools" / "supported.py")
    assert spec is not None and spec.loader is not None
    supported = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(supported)
    assert supported.page() == supported.PAGE.read_text(encoding="utf-8"), "write it: tools/supported.py"
