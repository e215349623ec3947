"""The kinds of jobs that are run, and how each is to end."""

from __future__ import annotations

import dataclasses
import enum
import secrets

from swarm_fixture import PROBE

from die_algorithm.fail_points import Point, SecretPoint
from die_algorithm.models import JobState

IMAGE = PROBE
EXIT_CODE = 3
#: For ever, as far as a run is concerned.
_LONG = 1000.0

_STAGE_OUT = {Point.FOLDER_DOWNLOADED, Point.ZIP_VERIFIED, Point.ZIP_PUBLISHED}


class Kind(enum.Enum):
    """What becomes of a job if nothing comes between."""

    SUCCEEDS = "succeeds, with a file"
    FAILS = "fails, exit code 3"
    CANCELLED = "cancelled as it runs"
    #: Ends by SIGKILL only, and writes nothing.
    STUBBORN = "cancelled, and does not listen"

    @property
    def points(self) -> list[Point | SecretPoint]:
        """Where such a job comes along."""
        left_out = {
            Kind.SUCCEEDS: set(),
            Kind.FAILS: _STAGE_OUT,
            Kind.CANCELLED: _STAGE_OUT | {Point.END_RECORDED},
            Kind.STUBBORN: _STAGE_OUT | {Point.END_RECORDED},
        }[self]
        return [point for point in (*Point, *SecretPoint) if point not in left_out]


#: What is killed and frozen.
KINDS = (Kind.SUCCEEDS, Kind.FAILS, Kind.CANCELLED)


@dataclasses.dataclass(frozen=True)
class Wish:
    """One job as it is submitted.

    Args:
        kind: what becomes of it.
        seconds: how long its program runs.
        file_name: of the file that it writes, which holds this name.
    """

    kind: Kind
    seconds: float
    file_name: str

    @property
    def command(self) -> str:
        """Its CommandName."""
        if self.kind is Kind.STUBBORN:
            return "probe ignore-term"
        if self.kind is Kind.FAILS:
            return f"probe write-exit {self.file_name} {self.seconds} {EXIT_CODE}"
        return f"probe write-slowly {self.file_name} {self.seconds}"

    @property
    def ends(self) -> set[JobState]:
        """How it may end."""
        match self.kind:
            case Kind.SUCCEEDS:
                return {JobState.SUCCEEDED}
            case Kind.FAILS:
                return {JobState.FAILED}
            case Kind.CANCELLED if self.seconds == _LONG:
                return {JobState.DISMISSED}
            case Kind.STUBBORN:
                return {JobState.DISMISSED}
            case Kind.CANCELLED:
                return {JobState.DISMISSED, JobState.SUCCEEDED}


def wish(kind: Kind, seconds: float, *, ends_by_itself: bool = False) -> Wish:
    """A job of a kind.

    Args:
        kind: the kind.
        seconds: how long its program runs, unless it is cancelled.
        ends_by_itself: even if it is one that is cancelled, so that the cancel may come late.
    """
    runs = _LONG if kind is Kind.CANCELLED and not ends_by_itself else seconds
    return Wish(kind=kind, seconds=runs, file_name=f"{secrets.token_hex(4)}.txt")


def stubborn_wish() -> Wish:
    """A job whose program ends by SIGKILL only."""
    return Wish(kind=Kind.STUBBORN, seconds=_LONG, file_name="")
