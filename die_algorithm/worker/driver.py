"""Drives jobs from step to step, each in the pool that its step belongs to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from die_algorithm import faults
from die_algorithm.errors import StaleJob, StepInterrupted, StoreError
from die_algorithm.job_in_hand import job_in_hand
from die_algorithm.models import Job, JobState
from die_algorithm.steps import Steps
from die_algorithm.worker.held_jobs import HeldJobs, log_store_error
from die_algorithm.worker.next_step import (
    TRANSFERS,
    is_at_clean_up,
    is_watched,
    needs_turn,
    pool_of,
)
from die_algorithm.worker.pools import Pools

LOGGER = logging.getLogger(__name__)

#: Seconds until a job that waits out an outage is tried again.
_OUTAGE_PAUSE = 5.0
#: Seconds until a service without a task is started again.
_START_AGAIN = 2.0


class Driver:
    """Takes the jobs' steps, and decides what becomes of a job when one fails.

    Args:
        steps: what to do with a job.
        held: the jobs that the worker holds.
        pools: the threads.
        wake: set for the loop to take its next turn now.
        stopping: set when the worker stops.
        on_end: called with the id of each job that has ended.
    """

    def __init__(
        self,
        steps: Steps,
        held: HeldJobs,
        pools: Pools,
        *,
        wake: threading.Event,
        stopping: threading.Event,
        on_end: Callable[[str], None],
    ) -> None:
        self._steps = steps
        self._held = held
        self._pools = pools
        self._wake = wake
        self._stopping = stopping
        self._on_end = on_end
        #: When the services of jobs were last started, by the jobs' ids.
        self._started: dict[str, float] = {}

    def carry_on(self, job: Job) -> None:
        """Let a job take its next step, and those after it, unless it takes one already or pauses."""
        self._start(job, self._advance)

    def take(self, job: Job, step: Callable[[Job], Job]) -> None:
        """Let a job take one step of :class:`Steps`, and go on, unless it takes one already or pauses.

        Args:
            job: as it was last read; if that is out of date, nothing is done.
            step: gives the job as recorded afterwards.
        """
        self._start(job, lambda job: self._changed(job, step(job)))

    def start_service(self, job: Job) -> None:
        """Let the container of a dispatched job without a task start, unless that was just done."""
        if time.monotonic() - self._started.get(job.id, 0.0) > _START_AGAIN:
            self._start(job, self._start_service)

    def _start(self, job: Job, action: Callable[[Job], Job]) -> None:
        self._pools.start(pool_of(job), job.id, lambda: self._work(job, action))

    def _work(self, job: Job, action: Callable[[Job], Job]) -> None:
        after, pause = job, 0.0
        try:
            after, pause = self._tried(job, action)
        finally:
            self._pools.release(job.id, pause)
            if pool_of(job) in TRANSFERS:
                self._wake.set()  # somebody else's may have its turn
        is_over = after.state.is_final or self._stopping.is_set()
        if after.version != job.version and not (is_over or needs_turn(after)):
            self.carry_on(after)

    def _tried(self, job: Job, action: Callable[[Job], Job]) -> tuple[Job, float]:
        """The job after an action, and for how many seconds it has to pause then."""
        try:
            # The list this turn began with may be older than the last step of this job.
            if latest := self._held.latest(job):
                with job_in_hand(job.id):
                    after = action(latest)
                return after, _OUTAGE_PAUSE if after.waiting else 0.0
        except StaleJob:
            LOGGER.info("Job %s was written meanwhile; it is looked at again.", job.id)
        except StepInterrupted as reason:
            LOGGER.info("Job %s: a transfer was broken off: %s.", job.id, reason)
        except StoreError as error:
            log_store_error(f"Job {job.id}: a step failed", error)
            return job, _OUTAGE_PAUSE
        except Exception:  # a job must end, whatever nobody foresaw
            LOGGER.exception("Job %s: a step failed in an unforeseen way.", job.id)
            self._give_up(job)
            return job, _OUTAGE_PAUSE
        self._wake.set()
        return job, 0.0

    def _advance(self, job: Job) -> Job:
        """Take the next step, and all after it that belong into the same pool."""
        pool = pool_of(job)
        while True:
            after = self._changed(job, self._steps.advance(job))
            if after.state is JobState.DISPATCHED and job.state is JobState.STAGED_IN:
                after = self._start_service(after)
            idle = after.version == job.version
            over = idle or after.state.is_final or after.waiting or is_watched(after)
            if over or pool_of(after) is not pool or self._stopping.is_set():
                return after
            # Read again: a cancel that came meanwhile must not wait for the steps to come.
            job = self._held.still_held(after)

    def _start_service(self, job: Job) -> Job:
        self._started[job.id] = time.monotonic()
        return self._changed(job, self._steps.start(job))

    def _changed(self, before: Job, after: Job) -> Job:
        if after.version != before.version:
            self._held.note(after)
            if after.state.is_final:
                self._started.pop(after.id, None)
                self._on_end(after.id)
            if after.state.is_final or needs_turn(after):
                self._wake.set()
        return after

    def _give_up(self, job: Job) -> None:
        """Let a job fail; if it is at its clean-up already, that is tried again."""
        try:
            fresh = self._held.still_held(job)
            if fresh.copy_pending:
                self._changed(fresh, self._steps.skip_copy(fresh))
            elif not (fresh.state.is_final or is_at_clean_up(fresh)):
                self._changed(fresh, self._steps.fail(fresh, faults.internal()))
        except StaleJob:
            LOGGER.info("Job %s has gone to another worker, which may know better.", job.id)
        except StoreError as error:
            log_store_error(f"Job {job.id}: its failure could not be written", error)
