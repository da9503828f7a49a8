# SPDX-License-Identifier: MIT
"""Which host may run a guest that moves: the messages of both sides of a migration, those of `xl migrate`.

    source                                target
                                     <-   BANNER       the target is ready for the stream
    the guest's stream               ->
    (the guest has stopped)          <-   READY        it has the whole guest, and does not run it
    GRANT                            ->                from here on the source must not run it
                                     <-   REPORT, 0    the guest runs there; the source destroys its own
                                          REPORT, 1    the guest does not run there, followed by
                                     <-   GRANT        the source may run it again

Source and Target are this protocol without input or output: the next step of each side after a message.
At no moment may both run the guest. If a message is lost, one of them runs it, with one exception: the source
has sent GRANT and receives no report. Then only the target knows whether it runs the guest, and the source
keeps it suspended. tests/unit/guest/test_handshake.py tests all sequences.
"""

from __future__ import annotations

from enum import Enum, auto

BANNER = b"xl migration receiver ready, send binary domain data.\n"
READY = b"domain received, ready to unpause\0"
GRANT = b"domain is yours, you are cleared to unpause\0"
REPORT = b"my copy unpause results are as follows\0"
"""xl sends the NUL at the end of each but the first."""
RUNS, FAILED = b"\0", b"\1"


class Step(Enum):
    """The next step; WAIT is for a message of the other side."""

    WAIT = auto()
    SEND_GUEST = auto()
    """Source: send the stream, and stop the guest with it."""
    SAY_GRANT = auto()
    END = auto()
    """Source: the guest runs there; destroy it here."""
    RUN = auto()
    """Let the guest run here, as before or from now on."""
    KEEP = auto()
    """Source: in doubt; leave the guest suspended."""
    SAY_READY = auto()
    DISCARD = auto()
    """Target: destroy what has arrived of the guest."""
    SAY_RUNS = auto()
    SAY_FAILED = auto()
    """Target: after that, send GRANT too."""


class Source:
    """The side that has the guest. Threads: one at a time."""

    def __init__(self) -> None:
        self.expected: bytes | None = BANNER
        self.granted = False
        """Whether the guest may run on the other side."""

    def hear(self, message: bytes) -> Step:
        """The expected message has arrived; a REPORT has a result."""
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
        """Called before GRANT is sent: the source cannot know whether it arrives."""
        self.granted = True
        self.expected = REPORT
        return Step.WAIT

    def not_granted(self) -> None:
        """GRANT was not sent, or not completely."""
        self.granted = False

    def broken(self) -> Step:
        """Something unexpected has arrived, or the connection has ended."""
        return Step.KEEP if self.granted else Step.RUN


class Target:
    """The side that receives the guest. Threads: one at a time."""

    def __init__(self) -> None:
        self.expected: bytes | None = None
        self.granted = False
        """Whether the source will not run the guest, unless it hears that it does not run here."""

    def has_guest(self) -> Step:
        """The guest was received and restored completely, and does not run."""
        self.expected = GRANT
        return Step.SAY_READY

    def hear(self) -> Step:
        """GRANT has arrived."""
        self.expected = None
        self.granted = True
        return Step.RUN

    def ran(self, succeeded: bool) -> Step:
        return Step.SAY_RUNS if succeeded else Step.SAY_FAILED

    def broken(self) -> Step:
        """The connection broke before GRANT; later failures do not change which side runs the guest."""
        return Step.DISCARD
