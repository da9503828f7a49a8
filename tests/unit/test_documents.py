# SPDX-License-Identifier: MIT
"""What README and docs show is what happens."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyxc
from pyxc.cli import main
from pyxc.link.faults import FaultLink

TOP = Path(__file__).parent.parent.parent
INDEX = TOP / "docs" / "README.md"
DOCUMENTS = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
DECISIONS = sorted((TOP / "docs" / "decisions").glob("*.md"))
WITHOUT_EXAMPLES = {
    "docs/architecture.md": "where things are, not how they are used",
    "docs/README.md": "a list of pages",
    "docs/metrics.md": "a table, written by tools/metrics.py and compared below",
    "docs/benchmarks.md": "times of a machine, written by make bench",
    "docs/from-xl.md": "tables, written by tools/from_xl.py and compared below",
    "docs/supported.md": "tables, written by tools/supported.py and compared below",
    "docs/threats.md": "claims, each with its test",
}
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FILE = re.compile(r"# (\w+\.py)\n")
"""The first line of a block of Python that is a file; the others are sessions."""
PACKAGES = Path(pyxc.__file__).parent.parent


def _blocks(document: Path, language: str) -> list[str]:
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def _sessions(document: Path) -> list[str]:
    return [block for block in _blocks(document, "python") if not FILE.match(block)]


def _name(document: Path) -> str:
    return document.relative_to(TOP).as_posix()


WITH_PYTHON = [document for document in DOCUMENTS if _sessions(document)]
WITH_COMMANDS = [document for document in DOCUMENTS if _blocks(document, "console")]


@pytest.fixture(autouse=True)
def directory_of_the_examples(image: Path, plain_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is an empty disk.img. Programs that are started there find the same pyxc."""
    monkeypatch.chdir(image.parent)
    monkeypatch.setattr(tempfile, "tempdir", str(plain_directory))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTEST_PLUGINS", "pyxc_pytest")  # as where pyxc is installed
    monkeypatch.setenv("PYTHONPATH", str(PACKAGES))
    return image.parent


def _write_files(document: Path, directory: Path) -> None:
    for block in _blocks(document, "python"):
        if named := FILE.match(block):
            (directory / named[1]).write_text(block, encoding="utf-8")


@pytest.mark.parametrize("document", WITH_PYTHON, ids=_name)
def test_python_does_what_is_shown(document: Path, directory_of_the_examples: Path) -> None:
    _write_files(document, directory_of_the_examples)
    variables: dict[str, object] = {}
    for session in _sessions(document):
        examples = doctest.DocTestParser().get_doctest(session, variables, document.name, str(document), 0)
        assert examples.examples, f"no example, and no file, whose first line would be its name:\n{session}"
        assert doctest.DocTestRunner(optionflags=OPTIONS).run(examples, clear_globs=False).failed == 0
        variables = examples.globs


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=_name)
def test_commands_print_what_is_shown(
    document: Path,
    directory_of_the_examples: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if _name(document) == "README.md" and any(map(os.path.exists, ("/dev/xen/privcmd", "/proc/xen/privcmd"))):
        pytest.skip("README shows a machine without Xen, and this one has it")
    _write_files(document, directory_of_the_examples)
    for session in _blocks(document, "console"):
        for line, expected in _commands(session):
            words = shlex.split(line)
            if words[0] == "pyxc":
                main(words[1:])
            elif words[0] == "export":
                monkeypatch.setenv(*words[1].split("=", 1))
            else:
                python = shlex.quote(sys.executable)
                subprocess.run(re.sub(r"\bpython3(?= )", python, line), shell=True, check=True)
            out, err = capfd.readouterr()
            assert doctest.OutputChecker().check_output(expected, out + err, OPTIONS), f"{line}\n{out}{err}"


def _commands(session: str) -> Iterator[tuple[str, str]]:
    """Lines after the prompt of root or of somebody else, and what is printed after each."""
    for command in re.split(r"^[#$] ", session, flags=re.MULTILINE)[1:]:
        line, _, expected = command.partition("\n")
        yield line, expected


def test_documents_are_found() -> None:
    assert DOCUMENTS[0] in WITH_PYTHON
    names = {document.name for document in WITH_COMMANDS}
    assert names >= {"README.md", "flask.md", "hypervisor.md", "labels.md", "scheduling.md", "xenstore.md"}


def test_each_page_has_an_example_that_runs() -> None:
    without = {_name(page) for page in DOCUMENTS if page not in (*WITH_PYTHON, *WITH_COMMANDS)}
    assert without == set(WITHOUT_EXAMPLES)


def test_each_page_is_in_the_index() -> None:
    listed = re.findall(r"^\| \[.*\]\((.*\.md)\) \| .", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
    pages = [document.name for document in DOCUMENTS[1:] if document != INDEX]
    assert sorted(listed) == sorted([*pages, "decisions/README.md"])


def test_each_decision_is_in_its_index() -> None:
    index, *decisions = reversed(DECISIONS)
    listed = re.findall(r"^\| \[\d{4}\]\((.*\.md)\) \| .", index.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == sorted(decision.name for decision in decisions)


LINKED = [*DOCUMENTS, *DECISIONS, TOP / "CONTRIBUTING.md", TOP / "SECURITY.md"]


@pytest.mark.parametrize("document", LINKED, ids=_name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, heading = link.partition("#")
        if "://" in path:
            continue
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not heading or heading in _anchors(target), link


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_each_public_name_is_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCUMENTS[1:])
    unknown = [name for name in pyxc.__all__ if not re.search(rf"\b{name}\b", text)]
    assert unknown == []


PATH = re.compile(r"(?<![\w./:-])(%s)((?:\.[a-z]\w*)+)(\(([^()]*)\))?")
"""`domain.resume(fast=...)`: an object, a way from there, arguments."""


@pytest.fixture
def objects() -> Iterator[dict[str, Any]]:
    """What pages call the objects that they tell of."""
    with pyxc.open("sim:xen-4.17-xsm") as xen, xen.events() as channels, xen.watch_domains() as watcher:
        domain = xen.domains["db1"]
        simulated: Any = xen.link
        with xen.store.watch("/tool") as watch:
            yield {
                "xen": xen,
                "domain": domain,
                "vcpu": domain.vcpu(0),
                "pool": xen.pools[0],
                "store": xen.store,
                "watch": watch,
                "watcher": watcher,
                "channels": channels,
                "context": domain.vcpu(0).context(),
                "hypervisor": simulated.hypervisor,
                "link": FaultLink(simulated),
                "pyxc": pyxc,
            }


def test_names_and_arguments_that_pages_mention_exist(objects: dict[str, Any]) -> None:
    pattern = re.compile(PATH.pattern % "|".join(objects))
    found = 0
    for page in DOCUMENTS:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for span in re.findall(r"`([^`\n]+)`", prose):
            for root, way, _, arguments in pattern.findall(span):
                if (root, way.split(".")[1]) != ("xen", "lowlevel"):
                    _check(f"{page.name}: {root}{way}", objects[root], way.split(".")[1:], arguments)
                    found += 1
    assert found > 200


def _check(where: str, value: Any, way: list[str], arguments: str) -> None:
    for name in way:
        missing = name not in dir(value)
        assert not missing or _is_module(f"{getattr(value, '__name__', '')}.{name}"), where
        if missing:
            value = importlib.import_module(f"{value.__name__}.{name}")
            continue
        try:
            value = getattr(value, name)
        except pyxc.Error:
            return
    if callable(value):
        parameters = inspect.signature(value).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            assert set(re.findall(r"(\w+)=", arguments)) <= set(parameters), f"{where}({arguments})"


def _is_module(name: str) -> bool:
    return name.startswith("pyxc.") and importlib.util.find_spec(name) is not None


def _tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, TOP / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_shows_what_is_printed_today() -> None:
    tool = _tool("picture")
    assert tool.picture() == tool.PICTURE.read_text(encoding="utf-8"), "draw it: tools/picture.py"


def test_the_page_of_what_is_supported_is_what_the_tables_say() -> None:
    supported = _tool("supported")
    assert supported.page() == supported.PAGE.read_text(encoding="utf-8"), "write it: tools/supported.py"


def test_the_page_of_xl_is_what_the_command_has() -> None:
    from_xl = _tool("from_xl")
    assert from_xl.page() == from_xl.PAGE.read_text(encoding="utf-8"), "write it: tools/from_xl.py"


def test_the_site_has_every_public_name_and_page(tmp_path: Path) -> None:
    pages = _tool("pages")
    text = "\n".join(pages.api())
    assert [name for name in pyxc.__all__ if f"## `{name}" not in text and name != "__version__"] == []
    if shutil.which("mandoc"):
        pages.write(tmp_path / "site")
        assert (tmp_path / "site" / "docs" / "host.md").exists()
        assert "# pyxc(1)" in (tmp_path / "site" / "man" / "pyxc.1.md").read_text(encoding="utf-8")
        assert "](changelog.md)" not in (tmp_path / "site" / "docs" / "README.md").read_text(encoding="utf-8")


# Claims, and the tests that show them.

_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def _claims(page: Path) -> list[str]:
    """The rows of its tables, without their heads."""
    rows = re.findall(r"^\|.*\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [row for row in rows if not row.startswith("|---") and not row.endswith("| shown by |")]


@pytest.mark.parametrize("page", ["safety.md", "threats.md"])
def test_each_claim_names_a_test_that_exists(page: str) -> None:
    claims = _claims(TOP / "docs" / page)
    assert len(claims) > 15
    unshown = [row for row in claims if not _TEST.search(row) and "| not run: " not in row]
    assert unshown == []
    named = {test for row in claims for test in _TEST.findall(row)}
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if not re.search(rf"^def {name}\(", (TOP / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []


def test_the_page_of_metrics_is_what_the_exporter_knows() -> None:
    metrics = _tool("metrics")
    assert metrics.page() == metrics.PAGE.read_text(encoding="utf-8"), "write it: tools/metrics.py"
