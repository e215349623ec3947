"""What was submitted, and what has become known of it."""

from __future__ import annotations

import dataclasses
import enum

from storagehub_fixture import HubUser

from die_algorithm.models import JobState

IMAGE = "die-tests/probe"
MISSING_IMAGE = "die-tests/missing"

_WAY = (
    JobState.ACCEPTED,
    JobState.STAGED_IN,
    JobState.DISPATCHED,
    JobState.RUNNING,
    JobState.STAGING_OUT,
)


class Program(enum.Enum):
    """What a job's container does; the value is its command, and how it ends if it is let."""

    NOOP = "probe noop {ticket}"
    EXIT_3 = "probe exit 3 {ticket}"
    SLEEP = "probe sleep 0.15 {ticket}"
    FOREVER = "probe forever {ticket}"
    IGNORES_SIGTERM = "probe ignore-term {ticket}"
    WRITE = "probe write out.txt {ticket}"
    WRITE_AND_FAIL = "probe write-exit out.txt 0 5 {ticket}"
    MISSING_COMMAND = "no-such-command {ticket}"
    MISSING_IMAGE = "probe noop {ticket} "

    @property
    def image(self) -> str:
        """The image that it is in."""
        return MISSING_IMAGE if self is Program.MISSING_IMAGE else IMAGE

    @property
    def ends(self) -> bool:
        """Whether it ends by itself."""
        return self not in (Program.FOREVER, Program.IGNORES_SIGTERM)


class Fate(enum.Enum):
    """Whether there is a job."""

    #: Nobody has heard an answer.
    UNCLEAR = "unclear"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


def rank(state: JobState) -> int:
    """How far on its way a job is in a state."""
    return _WAY.index(state) if state in _WAY else len(_WAY)


@dataclasses.dataclass(eq=False)
class Ticket:
    """One submission, and its job if there is one. Its number is a word of its command."""

    number: int
    program: Program
    user: HubUser
    key: str | None = None
    fate: Fate = Fate.UNCLEAR
    job_id: str | None = None
    #: The owner has asked for its end, and may have been heard.
    cancel_asked: bool = False
    #: It was cancelled before it was taken from the queue.
    must_not_start: bool = False
    #: The node was away while the job had not ended.
    node_was_lost: bool = False
    #: StorageHub was away while the job had not ended.
    storagehub_was_away: bool = False
    #: The farthest that it was seen.
    state: JobState = JobState.ACCEPTED
    #: Its record when it was first seen ended.
    last_record: str | None = None

    @property
    def word(self) -> str:
        """By what its command is known."""
        return f"ticket-{self.number}"

    @property
    def command(self) -> str:
        """Its command."""
        return self.program.value.format(ticket=self.word).strip()

    @property
    def has_ended(self) -> bool:
        """Whether its job was seen to have ended."""
        return self.last_record is not None

    def __str__(self) -> str:
        return f"#{self.number}"
