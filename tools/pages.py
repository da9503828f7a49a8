# SPDX-License-Identifier: MIT
"""Build the pages in docs/ as a site: tools/pages.py DIRECTORY; it needs Sphinx, MyST, furo and mandoc.

Sphinx reads a copy of the pages, which stay plain Markdown: beside them are the manual pages and the Python
API, written here from the docstrings. A warning is an error.
"""

from __future__ import annotations

import enum
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyxc

TOP = Path(__file__).resolve().parent.parent
_OTHERS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+://|#)([^)#]*)(#[^)]*)?\)")

CONFIGURATION = f"""
project = "pyxc"
version = release = "{pyxc.__version__}"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "pyxc {pyxc.__version__}"
html_show_copyright = False
html_copy_source = False
smartquotes = False
"""

INDEX = """# pyxc

```{toctree}
:maxdepth: 1

readme
docs/README
```

```{toctree}
:caption: Topics
:maxdepth: 1
:glob:

docs/[a-z]*
```

```{toctree}
:caption: Reference
:maxdepth: 1
:glob:

api
man/*
changelog
```

```{toctree}
:caption: Development
:maxdepth: 1
:glob:

contributing
security
docs/decisions/*
```
"""


def write(directory: Path) -> None:
    """What Sphinx reads."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(TOP / "docs", directory / "docs")
    (directory / "conf.py").write_text(CONFIGURATION, encoding="utf-8")
    (directory / "index.md").write_text(INDEX, encoding="utf-8")
    (directory / "api.md").write_text("\n".join(api()), encoding="utf-8")
    (directory / "man").mkdir()
    for manual in sorted((TOP / "man").iterdir()):
        (directory / "man" / f"{manual.name}.md").write_text(_manual(manual), encoding="utf-8")
    for name in _OTHERS:
        shutil.copy(TOP / name, directory / name.lower())
    for page in [*directory.glob("*.md"), *directory.glob("docs/**/*.md")]:
        page.write_text(_LINK.sub(_moved, page.read_text(encoding="utf-8")), encoding="utf-8")


def _moved(link: re.Match[str]) -> str:
    """A link in the copy, where pages of the top have names in lower case. Other files are plain text."""
    text, path, heading = link[1], link[2], link[3] or ""
    if not path.endswith(".md"):
        return text
    if Path(path).name in _OTHERS and Path(path).parent.name in ("", ".."):
        path = path.lower() if path != "README.md" else path
    return f"[{text}]({path}{heading})"


def _manual(file: Path) -> str:
    """A manual page as mandoc makes HTML of it."""
    made = subprocess.run(
        ["mandoc", "-Thtml", "-Ofragment", file], capture_output=True, text=True, check=True
    )
    name, _, section = file.name.partition(".")
    return f"# {name}({section})\n\n```{{raw}} html\n{made.stdout}\n```\n"


def api() -> Iterator[str]:
    """Every public name with its docstring."""
    yield "# Python API\n\nThe public names of `pyxc`; [pages](docs/README.md) say how to use them.\n"
    for name in sorted(pyxc.__all__, key=str.lower):
        value = getattr(pyxc, name)
        if inspect.isclass(value):
            yield from _class(name, value)
        elif callable(value):
            yield from _entry(f"## `{name}{_signature(value)}`", value)
        elif name != "__version__":
            yield f"## `{name}`\n\n`{value!r}`\n"


def _class(name: str, value: type) -> Iterator[str]:
    yield from _entry(f"## `{name}`", value)
    if issubclass(value, enum.Enum):
        yield ", ".join(f"`{member}`" for member in value.__members__) + "\n"
        return
    for member, found in inspect.getmembers(value):
        if member.startswith("_") or not _is_described(found):
            continue
        arguments = "" if isinstance(found, property) else _signature(found)
        yield from _entry(f"### `{name}.{member}{arguments}`", found)


def _is_described(value: Any) -> bool:
    """Whether it is a method or property of pyxc's own, with a docstring."""
    of = value.fget if isinstance(value, property) else value
    own = str(getattr(of, "__module__", "")).startswith("pyxc")
    return bool(own and value.__doc__ and (callable(value) or isinstance(value, property)))


def _signature(value: Any) -> str:
    try:
        return re.sub(r"\((self|cls)(, )?", "(", str(inspect.signature(value)), count=1)
    except (TypeError, ValueError):  # some builtins have none
        return "()"


def _entry(heading: str, value: Any) -> Iterator[str]:
    yield f"{heading}\n"
    for paragraph in re.split(r"\n\n+", inspect.getdoc(value) or ""):
        if paragraph.startswith(">>>"):
            yield f"```pycon\n{paragraph}\n```\n"
        elif paragraph != "Example:":
            yield paragraph.replace("<", "\\<").replace("*", "\\*") + "\n"


if __name__ == "__main__":
    from sphinx.cmd.build import main

    target = Path(sys.argv[1])
    write(target / "source")
    words = ["-W", "--keep-going", "-q", "-b", "html", str(target / "source"), str(target / "html")]
    sys.exit(main(words))
