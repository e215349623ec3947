"""How a job may end, by what has happened to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from stand_in_engine import End

from die_algorithm.models import FaultClass, Job, JobState
from job_life.tickets import Program, Ticket

#: A state, with a fault class and an exit code if it is a failure.
Outcome = tuple[JobState, FaultClass | None, int | None]

_SUCCEEDED: Outcome = (JobState.SUCCEEDED, None, None)
_DISMISSED: Outcome = (JobState.DISMISSED, None, None)
#: Of a program that is not in its image.
_NOT_FOUND = 127


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the engine knows of a job."""

    starts: int
    ends: Sequence[End]


def outcome(job: Job) -> Outcome:
    """How a job has ended."""
    if job.failure is None:
        return job.state, None, None
    return job.state, job.failure.fault_class, job.failure.exit_code


def allowed(ticket: Ticket, facts: Facts) -> set[Outcome]:
    """The ends that the job of a ticket may have come to; the exit code None stands for any."""
    outcomes = {_DISMISSED} if ticket.cancel_asked else set()
    if ticket.node_was_lost:
        outcomes.add(_failed(FaultClass.SYSTEM))
    if facts.starts == 0:
        if ticket.program is Program.MISSING_IMAGE:
            outcomes.add(_failed(FaultClass.IMAGE))
        return outcomes
    (end,) = facts.ends
    if end.cause == "restart":
        outcomes.add(_failed(FaultClass.SYSTEM))
    elif end.cause == "itself":
        outcomes.add(_own_end(end.exit_code))
    if ticket.node_was_lost and end.cause != "stopped" and end.exit_code:
        # The log and the container, which tell whose code it is, may be out of reach.
        outcomes.add((JobState.FAILED, FaultClass.USER, end.exit_code))
    return outcomes


def is_allowed(job: Job, ticket: Ticket, facts: Facts) -> bool:
    """Whether a job's end is one of them."""
    state, fault_class, code = outcome(job)
    return any(
        (state, fault_class) == (other_state, other_class) and other_code in (None, code)
        for other_state, other_class, other_code in allowed(ticket, facts)
    )


def _own_end(exit_code: int) -> Outcome:
    """The end of a job whose program came to its own."""
    if exit_code == 0:
        return _SUCCEEDED
    if exit_code == _NOT_FOUND:
        return JobState.FAILED, FaultClass.IMAGE, exit_code
    return JobState.FAILED, FaultClass.USER, exit_code


def _failed(fault_class: FaultClass) -> Outcome:
    return JobState.FAILED, fault_class, None
