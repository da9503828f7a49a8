# SPDX-License-Identifier: MIT
"""`run`: a guest in the foreground, from its launch to its end."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import seconds
from pyxc.cli.commands.create import add_config, read_config
from pyxc.cli.parser import Program
from pyxc.cli.progress import building
from pyxc.cli.session import opened
from pyxc.cli.status import Failed, Status
from pyxc.cli.terminal import Harmless
from pyxc.files.rotating import RotatingLog
from pyxc.guest.attend import Reason, Ways, attend
from pyxc.guest.built import BuiltDomain

_STATUSES: dict[Reason, Status] = {
    pyxc.ShutdownReason.POWEROFF: Status.OK,
    pyxc.ShutdownReason.REBOOT: Status.REBOOTED,
    pyxc.ShutdownReason.WATCHDOG: Status.WATCHDOG,
    None: Status.GONE,
}
_PATIENCE_S = 60.0
_DUMPS = "/var/lib/xen/dump"


def add(program: Program) -> None:
    parser = program.add("run", run, "launch a guest and stay until it has ended")
    add_config(parser)
    parser.add_argument("-c", "--console", action="store_true", help="print what its console prints")
    parser.add_argument("-q", "--quiet", action="store_true", help="no remarks, no progress")
    parser.add_argument("--log", metavar="FILE", help="append what its console prints to a file")
    wait = parser.add_argument("--timeout", type=seconds, default=_PATIENCE_S, metavar="SECONDS")
    wait.help = "how long the guest may take to power off when this is to end; 60 without"


def run(args: argparse.Namespace) -> int:
    config = read_config(args)
    with opened(args) as xen, ExitStack() as stack:
        log = stack.enter_context(RotatingLog(args.log)) if args.log else None
        company = _Company(args, log)
        quiet = args.json or args.quiet
        reason = attend(
            xen,
            config,
            Ways(
                company.live,
                company.say,
                lambda domain: f"{_DUMPS}/{config.name}.core",
                progress=None if quiet else building(),
                stopping=lambda: company.stopping,
            ),
        )
    if args.json:
        shown = reason.name.lower() if isinstance(reason, pyxc.ShutdownReason) else reason
        output.report(args.json, name=config.name, shutdown_reason=shown)
    return _STATUSES.get(reason, Status.CRASHED)


class _Company:
    """What stays with the guest: its console is printed, and a signal asks it to power off."""

    def __init__(self, args: argparse.Namespace, log: RotatingLog | None) -> None:
        self._args = args
        self._log = log
        self.stopping = False

    def say(self, text: str) -> None:
        if not (self._args.json or self._args.quiet):
            output.remark(text)

    def live(self, domain: BuiltDomain) -> Reason:
        """SIGTERM interrupts like Ctrl-C. A second Ctrl-C goes through: the guest is destroyed then."""
        try:
            return self._follow(domain)
        except KeyboardInterrupt:
            self.stopping = True
            self.say(f"asking domain {domain.domid} to power off")
        try:
            domain.ask.poweroff()
            return domain.wait_shut_down(self._args.timeout)
        except (pyxc.GuestUnable, TimeoutError) as error:
            raise Failed(f"{error}: it is destroyed") from error

    def _follow(self, domain: BuiltDomain) -> Reason:
        if not self._args.console and self._log is None:
            domain.unpause()
            return domain.wait_shut_down()
        harmless = Harmless()
        domain.console.copy = self._log.write if self._log else None
        with domain.console as console:
            domain.unpause()
            for data in console:
                if self._args.console and not self._args.json:
                    output.write(harmless.text(data))
                    output.flush()
        return domain.wait_shut_down()
