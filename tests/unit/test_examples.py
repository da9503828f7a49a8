# SPDX-License-Identifier: MIT
"""The examples in docstrings do what they show, each on a freshly booted simulated host."""

from __future__ import annotations

import ast
import doctest
import enum
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyxc
from pyxc import sim

TOP = Path(pyxc.__file__).parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _examples(path: Path) -> Iterator[tuple[str, str]]:
    """The names and docstrings with examples in a module, which is not imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node) or ""
            if ">>> " in text:
                yield getattr(node, "name", "module"), text


EXAMPLES = [
    pytest.param(path, text, id=f"{path.relative_to(TOP.parent).as_posix()}:{name}")
    for path in sorted(TOP.rglob("*.py"))
    for name, text in _examples(path)
]


@pytest.mark.parametrize(("path", "text"), EXAMPLES)
def test_an_example_does_what_it_shows(
    path: Path, text: str, image: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(image.parent)
    monkeypatch.setenv("PYXC_TARGET", "sim:xen-4.17")
    hypervisor = sim.Hypervisor(sim.named("sim:xen-4.17"))
    xen = pyxc.connect(hypervisor.connect("sim:xen-4.17"))
    guest = hypervisor.script(1)
    guest.obey()
    guest.print("login: ")
    Path("vmlinuz").write_bytes(sim.kernel("pvh"))
    Path("mail.cfg").write_text(
        'name = "mail"; type = "pvh"; kernel = "vmlinuz"; memory = 64\n', encoding="utf-8"
    )
    names = {
        **vars(importlib.import_module(".".join(path.relative_to(TOP.parent).with_suffix("").parts).removesuffix(".__init__"))),
        "pyxc": pyxc, "hypervisor": hypervisor, "xen": xen, "guest": guest, "web": xen.domains["web1"],
        "db1": xen.domains["db1"], "build": xen.domains["build"],
    }  # fmt: skip
    examples = doctest.DocTestParser().get_doctest(text, names, request.node.name, None, 0)
    assert doctest.DocTestRunner(optionflags=OPTIONS).run(examples).failed == 0


def _shown(name: str) -> bool:
    """Whether a public name is a class of objects that programs use, not an enum or an error."""
    found = getattr(pyxc, name)
    return inspect.isclass(found) and not issubclass(found, (enum.Enum, BaseException))


@pytest.mark.parametrize("name", [name for name in sorted(pyxc.__all__) if _shown(name)])
def test_a_public_class_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(pyxc, name).__doc__ or "")
