"""Carries all unfinished jobs on: one look at the database and one at the Swarm for all of them.

There is no thread and no process per job. The loop looks which jobs need a step and gives them to a
small pool; the many that merely run cost one row of one list call. Because every turn starts from
the records, a restart is no special case.
"""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from die_algorithm import faults
from die_algorithm.errors import StaleJob, StoreError, SwarmError
from die_algorithm.job_store import JobStore
from die_algorithm.models import Job, JobState, TaskPhase, TaskReport
from die_algorithm.steps import Steps
from die_algorithm.swarm import Swarm

LOGGER = logging.getLogger(__name__)

_WATCHED = (JobState.DISPATCHED, JobState.RUNNING)
#: Seconds between two looks at the Swarm, while few or many jobs run (swarm.md, "Seeing the end").
_FEW, _MANY = 0.1, 0.3
_FEW_JOBS = 50
#: Seconds between two looks at the database when nothing runs.
_IDLE = 0.5
#: Seconds until a job that waits out an outage is tried again, and until a failed turn is.
_OUTAGE_PAUSE = 5.0
#: Steps that are taken at once, transfers of results apart.
_STEPS_AT_ONCE = 8
#: Turns between two sweeps for services that no unfinished job owns.
_SWEEP_EVERY = 200


class Worker:
    """The loop. One at a time works on a database: the others wait for its place.

    Args:
        store: the jobs' records.
        steps: what to do with a job.
        swarm: to watch the tasks.
        lock_file: held while working.
        transfers: how many results are fetched from StorageHub at once.
        on_change: called with every job of which the record has changed.
    """

    def __init__(
        self,
        store: JobStore,
        steps: Steps,
        swarm: Swarm,
        lock_file: Path,
        *,
        transfers: int,
        on_change: Callable[[Job], None] = lambda _job: None,
    ) -> None:
        self._store = store
        self._steps = steps
        self._swarm = swarm
        self._lock_file = lock_file
        self._on_change = on_change
        self._pool = ThreadPoolExecutor(_STEPS_AT_ONCE, thread_name_prefix="die-step")
        # Apart, so that large results do not keep small steps of other jobs waiting.
        self._transfers = ThreadPoolExecutor(transfers, thread_name_prefix="die-transfer")
        self._known: dict[str, Job] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._in_flight: set[str] = set()
        self._in_flight_lock = threading.Lock()
        self._turns = 0

    def wake(self) -> None:
        """Take the next turn now."""
        self._wake.set()

    def stop(self) -> None:
        """Make :meth:`run` return once the steps under way are done."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Work until stopped."""
        self._lock_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock_file.open("wb") as lock:
            if not self._take_place(lock.fileno()):
                return
            LOGGER.info("The worker works.")
            while not self._stopping.is_set():
                self._wake.wait(self._turn())
                self._wake.clear()
        for pool in (self._pool, self._transfers):
            pool.shutdown(cancel_futures=True)

    def _take_place(self, descriptor: int) -> bool:
        while not self._stopping.is_set():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._stopping.wait(1.0)
            else:
                return True
        return False

    def _turn(self) -> float:
        """Look at all jobs once.

        Returns:
            Seconds until the next look.
        """
        try:
            return self._look()
        except StoreError:
            LOGGER.exception("The worker cannot use the jobs' database; it tries again.")
        except Exception:  # the loop must not end, whatever nobody foresaw
            LOGGER.exception("A turn of the worker failed; it tries again.")
        return _OUTAGE_PAUSE

    def _look(self) -> float:
        jobs = self._store.unfinished(self._known)
        self._known = {job.id: job for job in jobs}
        watched = []
        for job in jobs:
            if _is_watched(job):
                watched.append(job)
            else:
                self._start(job, self._carry_on)
        self._turns += 1
        if self._turns % _SWEEP_EVERY == 1:
            self._sweep({job.id for job in jobs})
        if not watched:
            return _IDLE
        self._watch(watched)
        return _FEW if len(watched) <= _FEW_JOBS else _MANY

    def _watch(self, jobs: list[Job]) -> None:
        try:
            reports = {report.job_id: report for report in self._swarm.task_reports()}
        except SwarmError as error:
            LOGGER.warning("The Swarm cannot be watched: %s", error)
            for job in jobs:
                self._start(job, lambda job, error=error: self._wait_out(job, error))  # type: ignore[misc]
            self._stopping.wait(1.0)
            return
        for job in jobs:
            report = reports.get(job.id)
            if self._needs_attention(job, report):
                self._start(job, lambda job, report=report: self._observe(job, report))  # type: ignore[misc]

    def _wait_out(self, job: Job, error: SwarmError) -> Job:
        return self._changed(job, self._steps.wait_out(job, error))

    def _needs_attention(self, job: Job, report: TaskReport | None) -> bool:
        if report is None or report.phase not in (TaskPhase.STARTING, TaskPhase.RUNNING):
            return True
        started = report.phase is TaskPhase.RUNNING and job.state is JobState.DISPATCHED
        return started or job.waiting is not None or self._steps.is_overdue(job)

    def _observe(self, job: Job, report: TaskReport | None) -> Job:
        job = self._changed(job, self._steps.observe(job, report))
        return self._carry_on(job) if self._goes_on(job, transferring=False) else job

    def _carry_on(self, job: Job) -> Job:
        """Take the next step, and all after it that need no watching and belong into this pool."""
        transferring = _is_transfer(job)
        while True:
            job = self._changed(job, self._steps.advance(job))
            if not self._goes_on(job, transferring=transferring):
                return job

    def _goes_on(self, job: Job, *, transferring: bool) -> bool:
        over = job.state.is_final or job.waiting or _is_watched(job) or self._stopping.is_set()
        return not over and _is_transfer(job) == transferring

    def _changed(self, before: Job, after: Job) -> Job:
        if after.version != before.version:
            self._on_change(after)
            self._wake.set()
        return after

    def _start(self, job: Job, action: Callable[[Job], Job]) -> None:
        with self._in_flight_lock:
            if job.id in self._in_flight:
                return
            self._in_flight.add(job.id)
        pool = self._transfers if _is_transfer(job) else self._pool
        pool.submit(self._work, job, action)

    def _work(self, job: Job, action: Callable[[Job], Job]) -> None:
        pause = 0.0
        try:
            fresh = self._store.get(job.id)
            # The list this turn began with may be older than the last step of this job.
            if fresh is not None and fresh.version == job.version:
                after = action(fresh)
                pause = _OUTAGE_PAUSE if after.waiting else 0.0
        except StaleJob:
            LOGGER.info("Job %s was written meanwhile; it is looked at again.", job.id)
        except StoreError:
            LOGGER.exception(
                "Job %s: its record could not be written; the step is repeated.", job.id
            )
            pause = _OUTAGE_PAUSE
        except Exception:  # a job must end, whatever nobody foresaw
            LOGGER.exception("Job %s: a step failed in an unforeseen way.", job.id)
            self._give_up(job)
        self._release(job.id, pause)

    def _give_up(self, job: Job) -> None:
        try:
            self._changed(job, self._steps.fail(job, faults.internal()))
        except StoreError:
            LOGGER.exception("Job %s: its failure could not be written.", job.id)

    def _release(self, job_id: str, pause: float) -> None:
        """Let a job be looked at again, at once or after a pause."""
        if pause and not self._stopping.is_set():
            timer = threading.Timer(pause, self._release, (job_id, 0.0))
            timer.daemon = True
            timer.start()
            return
        with self._in_flight_lock:
            self._in_flight.discard(job_id)

    def _sweep(self, unfinished: set[str]) -> None:
        """Remove the services of jobs that have ended; leave those that no record knows."""
        try:
            for job_id, service_id in self._swarm.job_services().items():
                if job_id not in unfinished and self._has_ended(job_id):
                    LOGGER.warning("Job %s has ended, but its service has not: removed.", job_id)
                    self._swarm.remove_service(service_id)
        except SwarmError as error:
            LOGGER.warning("The Swarm cannot be swept: %s", error)

    def _has_ended(self, job_id: str) -> bool:
        job = self._store.get(job_id)
        return job is not None and job.state.is_final


def _is_watched(job: Job) -> bool:
    """Whether the job's next step depends on what its task does."""
    return job.state in _WATCHED and not (job.failure or job.cancel_requested)


def _is_transfer(job: Job) -> bool:
    """Whether the job's next step fetches a result."""
    ended = job.result or job.failure or job.cancel_requested
    return job.state is JobState.STAGING_OUT and not ended
