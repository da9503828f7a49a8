# SPDX-License-Identifier: MIT
"""The help: a short one, all commands by topic, and what a mistyped command may mean."""

from __future__ import annotations

import difflib
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence

SHORT = """usage: pyxc COMMAND ...

Manage a Xen host and its guests. Some commands to begin with:

  pyxc list                                the domains of this host, as xl list
  pyxc info                                the host and its hypervisor
  pyxc top                                 how busy the domains are
  pyxc --target sim:xen-4.17 list          the same on a simulated host: no Xen, no root
  pyxc demo                                a tour on simulated hosts

pyxc help lists all commands, pyxc help COMMAND describes one; man pyxc has all of it.
"""

END = """units: sizes of memory are MiB unless b, k, m, g or t follows the number; times are seconds.
A DOMAIN is an id, a name or a UUID.

simulated hosts, for --target sim:NAME:{targets}
With @FILE after the name, the host is kept in the file from one command to the next.
Without --target, the environment's PYXC_TARGET, else this host's hypervisor.

examples:
  pyxc vcpu-list web1                      vcpus with their affinities
  pyxc list --json                         for programs
  pyxc --record bug.calls frames web1      record every hypercall, to be replayed elsewhere:
  pyxc --target replay:bug.calls frames web1
"""

_XL = (
    "cd-eject cd-insert config-update devd dt-overlay "
    "pci-attach pci-detach "
    "psr-cat-set psr-cat-show psr-cmt-attach psr-cmt-detach psr-cmt-show psr-hwinfo psr-mba-set "
    "psr-mba-show qemu-monitor-command remus usbctrl-attach "
    "usbctrl-detach usbdev-attach usbdev-detach usb-list vdispl-attach vdispl-detach vdispl-list vkb-attach "
    "vkb-detach vkb-list vncviewer vsnd-attach vsnd-detach vsnd-list vtpm-attach vtpm-detach "
    "vtpm-list"
)
"""Commands of xl that pyxc may lack: what is not among pyxc's commands is answered by its name."""
_LONGEST_NAME = 22


def commands(sections: Mapping[str, Sequence[tuple[str, str]]]) -> Iterable[str]:
    """Lines for --help: under each heading the names of commands and what they are for."""
    width = max(60, min(shutil.get_terminal_size().columns, 100))
    for heading, rows in sections.items():
        yield f"{heading}:"
        for name, purpose in rows:
            first, *rest = textwrap.wrap(purpose, width - _LONGEST_NAME - 2)
            yield f"  {name:{_LONGEST_NAME}}{first}"
            yield from (f"{'':{_LONGEST_NAME + 2}}{line}" for line in rest)
        yield ""


def filled(text: str) -> str:
    """Words on lines that are indented and no longer than a terminal is wide."""
    return textwrap.fill(text, 78, initial_indent="\n  ", subsequent_indent="  ")


def unknown(prog: str, word: str, known: Iterable[str]) -> str:
    """Why a word is not a command, and which one may be meant."""
    names = list(known)
    if prog == "pyxc":
        if word in _XL.split():
            return f"pyxc has no command {word!r}: use xl {word} (pyxc help lists what there is)"
        names.append("help")
    return f"no command {word!r}{meant(word, names)} ({prog} --help lists all)"


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that comes nearest, as the end of a message; "" if none does."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
