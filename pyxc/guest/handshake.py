# SPDX-License-Identifier: MIT
"""Who may let a guest run that moves: the words that both sides of a migration say, as `xl migrate` has them.

    source                                target
                                     <-   BANNER       it is there
    the guest's stream               ->
    (the guest has stopped)          <-   READY        it has all of it, and does not run it
    GRANT                            ->                from here on the source must not run it
                                     <-   REPORT, 0    it runs there; the source ends its own
                                          REPORT, 1    it does not, then
                                     <-   GRANT        it is the source's again

Source and Target are this protocol without input or output: what each does next, after what it has heard. At
no moment both may run the guest. When a message is lost, one of them does, but for one case: the source has
said GRANT and hears nothing any more. Then only the target knows whether it runs it, and the source keeps it
suspended. tests/unit/guest/test_handshake.py goes through all of it.
"""

from __future__ import annotations

from enum import Enum, auto

BANNER = b"xl migration receiver ready, send binary domain data.\n"
READY = b"domain received, ready to unpause"
GRANT = b"domain is yours, you are cleared to unpause"
REPORT = b"my copy unpause results are as follows"
RUNS, FAILED = b"\0", b"\1"


class Step(Enum):
    """What to do next; WAIT is for what the other side says."""

    WAIT = auto()
    SEND_GUEST = auto()
    """Source: send the stream, and stop the guest with it."""
    SAY_GRANT = auto()
    END = auto()
    """Source: the guest runs there; end it here."""
    RUN = auto()
    """Let the guest run here, as before or from now on."""
    KEEP = auto()
    """Source: in doubt; leave the guest suspended."""
    SAY_READY = auto()
    DISCARD = auto()
    """Target: end what came of the guest."""
    SAY_RUNS = auto()
    SAY_FAILED = auto()
    """Target: after it was discarded; say GRANT, too."""


class Source:
    """The side that has the guest. Threads: of one."""

    def __init__(self) -> None:
        self.expected: bytes | None = BANNER
        self.granted = False
        """Whether the guest may run on the other side."""

    def hear(self, message: bytes) -> Step:
        """After a message, which is the expected one, REPORT with its result."""
        heard, self.expected = self.expected, None
        if heard == BANNER:
            return Step.SEND_GUEST
        if heard == READY:
            return Step.SAY_GRANT
        if heard == REPORT and message == REPORT + RUNS:
            return Step.END
        if heard == REPORT:
            self.expected = GRANT
            return Step.WAIT
        self.granted = False
        return Step.RUN

    def sent_guest(self) -> Step:
        self.expected = READY
        return Step.WAIT

    def grant(self) -> Step:
        """Before GRANT is said: whether it arrives cannot be known."""
        self.granted = True
        self.expected = REPORT
        return Step.WAIT

    def not_granted(self) -> None:
        """GRANT could not be said, or not all of it."""
        self.granted = False

    def broken(self) -> Step:
        """After anything else than what is expected, the end of the connection among it."""
        return Step.KEEP if self.granted else Step.RUN


class Target:
    """The side to which the guest goes. Threads: of one."""

    def __init__(self) -> None:
        self.expected: bytes | None = None

    def has_guest(self) -> Step:
        """All of it was received and restored, and does not run."""
        self.expected = GRANT
        return Step.SAY_READY

    def hear(self) -> Step:
        """After GRANT."""
        self.expected = None
        return Step.RUN

    def ran(self, succeeded: bool) -> Step:
        return Step.SAY_RUNS if succeeded else Step.SAY_FAILED

    def broken(self) -> Step:
        """Before GRANT; what breaks later does not matter to whoever runs it."""
        return Step.DISCARD
