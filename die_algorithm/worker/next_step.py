"""What a job's next step is like: pure rules, of the record alone."""

from __future__ import annotations

import enum

from die_algorithm.models import Job, JobState


class Pool(enum.Enum):
    """Where a step is taken: what hangs in one of them keeps no job in the others waiting."""

    STAGE_IN = "stage-in"
    #: Staging in a file that comes over a public link: that may take hours.
    FETCH = "fetch"
    DISPATCH = "dispatch"
    STAGE_OUT = "stage-out"
    #: Observing, and stopping containers: nothing here waits for StorageHub.
    END = "end"
    #: Removing folders, and ending jobs.
    CLEAN_UP = "clean-up"
    #: Looking at the Swarm for all jobs at once.
    WATCH = "watch"
    #: Looking at what containers have written: the engine may need long to tell.
    DISKS = "disks"
    #: Removing what has had its time: a large file takes seconds.
    EXPIRY = "expiry"


#: What takes long there: each owner gets a turn.
TRANSFERS = (Pool.FETCH, Pool.STAGE_OUT)


def pool_of(job: Job) -> Pool:
    """Where the job's next step is taken."""
    if job.copy_pending and not job.cancel_requested:
        return Pool.STAGE_OUT
    if is_at_clean_up(job):
        runs = JobState.DISPATCHED in job.reached and not job.task_over and not job.stopped_at
        return Pool.END if runs and not job.result else Pool.CLEAN_UP
    return {
        JobState.ACCEPTED: Pool.FETCH if job.request.link else Pool.STAGE_IN,
        JobState.STAGED_IN: Pool.DISPATCH,
        JobState.STAGING_OUT: Pool.STAGE_OUT,
    }.get(job.state, Pool.END)


def is_watched(job: Job) -> bool:
    """Whether the job's next step depends on what its task does."""
    if job.stopped_at is not None:
        return not job.state.is_final
    watched = job.state in (JobState.DISPATCHED, JobState.RUNNING)
    return watched and not (job.failure or job.cancel_requested)


def needs_turn(job: Job) -> bool:
    """Whether more than the job itself decides when it gets its next step."""
    return is_watched(job) or pool_of(job) in TRANSFERS


def is_at_clean_up(job: Job) -> bool:
    """Whether nothing but its end can become of the job."""
    return bool(job.failure or job.result or job.cancel_requested)
